//! Signed tokens for people without an account, for example in the link of a confirmation mail.
//!
//! ```
//! use gantry_sdk::prelude::*;
//! use std::time::Duration;
//!
//! fn link(reservation: u64) -> Result<String> {
//!     let month = Duration::from_secs(30 * 24 * 3600);
//!     let token = tokens::sign("manage", &reservation.to_string(), month)?;
//!     Ok(format!("/reservations/manage/{token}"))
//! }
//!
//! fn manage(Path(token): Path<String>) -> Result<String> {
//!     let reservation = tokens::verify("manage", &token)?; // 403 `token.invalid` or `token.expired`
//!     Ok(format!("reservation {reservation}"))
//! }
//! # let _ = (link, manage);
//! ```

use std::time::Duration;

use crate::host::tokens as host;
use crate::{Error, Result, kv};

/// A token for `subject` (1 to 256 bytes; readable by whoever holds the token), good for `purpose` (1 to 64 bytes)
/// until the time is over (at most 400 days). Only this plugin can verify it.
pub fn sign(purpose: &str, subject: &str, ttl: Duration) -> Result<String> {
    host::sign(purpose, subject, kv::millis(ttl)).map_err(Error::service)
}

/// The subject. `denied` with the code `token.invalid` or `token.expired`.
pub fn verify(purpose: &str, token: &str) -> Result<String> {
    host::verify(purpose, token).map_err(Error::service)
}
