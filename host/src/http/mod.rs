//! HTTP pieces that the front doors share: the listener and its bounds, problems, trace context and the address of the client.

pub mod address;
mod connection;
pub mod problem;
mod refusal;
pub mod serve;
pub mod shares;
pub mod trace;

pub use problem::{Problem, Reason};
