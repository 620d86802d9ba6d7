//! What plugins may ask for, tried out by plugins.

mod blobs;
mod cache;
mod config;
mod egress;
mod kv;
mod log;
mod outbound;
pub(crate) mod remote;
mod secrets;
mod sql;
mod tokens;
