//! The plugin's settings: declared with defaults in `plugin.toml` under `[config]`, set by the operator.

use serde::de::DeserializeOwned;

use crate::host::config as host;
use crate::pairs::Pairs;
use crate::{Error, ErrorKind, Result};

/// One setting as text, or nothing if it has no value. What is not text in the schema is JSON text here.
pub fn get(key: &str) -> Result<Option<String>> {
    host::get(key).map_err(unavailable)
}

/// One setting as text; an internal error that names it if it has no value.
pub fn require(key: &str) -> Result<String> {
    get(key)?.ok_or_else(|| Error::internal(format_args!("the setting `{key}` has no value")))
}

/// All settings as a type of your own. Numbers, booleans, lists and objects become what the type wants.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Settings {
///     currency: String,
///     seats_max: u32,
///     #[serde(default)]
///     closed_on: Vec<String>,
/// }
///
/// fn deposit() -> Result<String> {
///     let settings: Settings = config::load()?;
///     Ok(format!("{} for {}", settings.currency, settings.seats_max))
/// }
/// # let _ = deposit;
/// ```
pub fn load<T: DeserializeOwned>() -> Result<T> {
    let pairs = host::get_all().map_err(unavailable)?;
    T::deserialize(Pairs::with_json(&pairs))
        .map_err(|error| Error::internal(format_args!("the settings do not fit: {error}")))
}

fn unavailable(error: host::Error) -> Error {
    let (host::Error::Upstream(message) | host::Error::Io(message)) = error;
    Error::of_kind(ErrorKind::Unavailable, "config.unavailable", message)
}
