//! What a plugin may ask the host for. Each service has its own `Config`, its limits, its WIT side in `host.rs` and
//! its SQL in `store.rs`. A service imports no other service.

mod allowance;
pub mod config;
mod error;
mod host;
pub mod kv;
pub mod log;
pub mod outbound;
pub mod rehearsal;
pub mod secrets;
pub mod sql;
pub mod tokens;

pub use allowance::{Allowance, Held, Quota};
pub use error::{Error, Kind};
use host::granted;
