//! The server that several hosts share: one connection to Valkey or Redis, which mends itself. What is kept there, and what
//! is done without it, is for those who ask.

mod config;
mod connection;
mod metrics;

pub use config::Config;
pub use connection::{Cluster, Error, Script};
/// A command, and what an answer can be read as.
pub use redis::{Cmd, FromRedisValue, cmd};
