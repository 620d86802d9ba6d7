//! HTTP pieces that the front doors share: the listener and its bounds, problems, trace context, the address of the client,
//! and the headers that are the host's.

pub mod address;
mod connection;
pub mod problem;
mod refusal;
pub mod reserved;
pub mod serve;
pub mod shares;
pub mod trace;

pub use problem::{Problem, Reason};
