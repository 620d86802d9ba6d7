//! Secrets that the operator keeps for the plugin, declared in `plugin.toml`:
//!
//! ```toml
//! [capabilities]
//! secrets = [{ label = "webhook-key", use = "reveal" }]
//! ```
//!
//! Prefer `use = "inject"`: then the host puts the secret into outgoing requests by itself and the plugin never
//! holds it.

use crate::host::{reveal, secrets as host};
use crate::{Error, Result};

/// A secret that has a value. Holding it says nothing about the value.
pub struct Secret(host::Secret);

impl Secret {
    /// Changes when the operator sets a new value.
    pub fn revision(&self) -> String {
        self.0.revision()
    }

    /// The value. `denied` for a secret declared with `use = "inject"`.
    pub fn reveal(&self) -> Result<Vec<u8>> {
        reveal::reveal(&self.0).map_err(Error::service)
    }
}

/// `denied` if the manifest does not declare the label or it is not granted, `not-found` if no value is set.
pub fn get(label: &str) -> Result<Secret> {
    host::get(label).map(Secret).map_err(Error::service)
}

/// The value of a secret as text.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// fn key() -> Result<String> {
///     secrets::reveal("webhook-key")
/// }
/// # let _ = key;
/// ```
pub fn reveal(label: &str) -> Result<String> {
    Ok(String::from_utf8(get(label)?.reveal()?)?)
}
