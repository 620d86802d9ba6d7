//! A whole host for tests: real files in a folder of its own, real plugins, a real socket on a free port. Tests read as
//! scenes: start a host, deploy a guest, ask, look.

mod client;
pub mod guests;
mod host;
mod oidc;
mod postgres;
mod process;
mod redis;
mod registry;
mod s3;
mod smtp;
pub mod soak;

pub use client::{Answer, Client};
pub use host::{TestHost, TestHostBuilder, pack};
pub use oidc::OidcServer;
pub use postgres::PostgresDatabase;
pub use process::Process;
pub use redis::RedisServer;
pub use registry::OciRegistry;
pub use s3::S3Server;
pub use smtp::{Mail, SmtpServer};
