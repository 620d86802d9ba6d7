//! HTTP pieces that the front doors share: the listener, problems, trace context and the address of the client.

pub mod address;
pub mod problem;
pub mod serve;
pub mod trace;

pub use problem::{Problem, Reason};
