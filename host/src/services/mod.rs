//! What a plugin may ask the host for. Each service has its own `Config`, its limits, its WIT side in `host.rs` and
//! its SQL in `store.rs`. A service imports no other service.

mod account;
mod allowance;
pub mod blobs;
pub mod cache;
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
mod turn;

pub use account::{Account, Service, ServiceTotals, Totals};
use allowance::Charge;
pub use allowance::{Allowance, Held, Quota, Timed};
pub use error::{Error, Kind};
pub use host::Refusals;
use host::granted;
use turn::{Turn, Turns};
