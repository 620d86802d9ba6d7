//! HTTP pieces that the front doors share: the listener and its bounds, problems, trace context, the address of the client,
//! and the headers that are the host's.

pub mod address;
mod connection;
pub mod json;
pub mod problem;
mod refusal;
pub mod reserved;
pub mod serve;
pub mod shares;
pub mod trace;

/// Where a request comes from, through trusted proxies only. An extension of requests to the host itself.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub std::net::IpAddr);

pub use problem::{Problem, Reason};
