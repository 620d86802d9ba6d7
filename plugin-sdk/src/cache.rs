//! Values that are costly to make, kept for a while and perhaps gone earlier; and throwing away what the host keeps of the
//! plugin's answers. Declare labels in `plugin.toml`: `cache = ["rates"]`.
//!
//! ```
//! use gantry_sdk::prelude::*;
//! use gantry_sdk::cache;
//! use std::time::Duration;
//!
//! fn rate(currency: &str) -> Result<String> {
//!     let minute = cache::Set::new(Duration::from_secs(60)).tag("rates");
//!     cache::open("rates")?.get_or_set(currency, &minute, || ask_the_bank(currency))
//! }
//!
//! fn new_rates() -> Result<()> {
//!     // Values and kept answers of routes, whatever has this tag.
//!     cache::purge_tag("rates")?;
//!     Ok(())
//! }
//! # fn ask_the_bank(_: &str) -> Result<String> { Ok("1.1".to_owned()) }
//! # let _ = (rate, new_rates);
//! ```

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::{cache as host, purge};
use crate::{Error, Result};

/// One cache. Keys are 1 to 512 bytes; how long values may be, and how much a plugin has, is the operator's setting.
pub struct Bucket(host::Bucket);

/// How long to keep a value, and what it is thrown away by.
#[derive(Debug, Clone)]
pub struct Set {
    ttl: Duration,
    tags: Vec<String>,
}

impl Set {
    /// Keeps a value for this time at most.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            tags: Vec::new(),
        }
    }

    /// It is thrown away by this tag, too. At most 32.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// Opens a cache by its label; `denied` if the label is not declared or not granted.
pub fn open(label: &str) -> Result<Bucket> {
    let opened = host::Bucket::open(label);
    opened.map(Bucket).map_err(Error::service)
}

/// Throws away everything of the plugin with this tag: values of all its caches, and kept answers of its routes. Tells how
/// many went.
pub fn purge_tag(tag: &str) -> Result<u64> {
    purge::by_tag(tag).map_err(Error::service)
}

/// Throws away the kept answers of the routes with this pattern, as the manifest has it.
pub fn purge_route(pattern: &str) -> Result<u64> {
    purge::by_route(pattern).map_err(Error::service)
}

/// Throws away all that is kept of the plugin: values of all its caches, and answers of all its routes. Tells how many went.
pub fn purge_everything() -> Result<u64> {
    purge::everything().map_err(Error::service)
}

impl Bucket {
    /// The value, or nothing if it is not there or not any more.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.get(key).map_err(Error::service)
    }

    /// The value as a type. One that does not fit is as one that is not there.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.get(key)?;
        Ok(value.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// Keeps a value in the place of the one that is there.
    pub fn set(&self, key: &str, value: &[u8], how: &Set) -> Result<()> {
        let options = host::SetOptions {
            ttl_ms: u64::try_from(how.ttl.as_millis())
                .unwrap_or(u64::MAX)
                .max(1),
            tags: how.tags.clone(),
        };
        self.0.set(key, value, &options).map_err(Error::service)
    }

    /// Keeps a value as JSON.
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T, how: &Set) -> Result<()> {
        self.set(key, &serde_json::to_vec(value)?, how)
    }

    /// The value, which is made and kept if it is not there. A cache that is full or away costs the making and nothing else.
    pub fn get_or_set<T, F>(&self, key: &str, how: &Set, make: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Result<T>,
    {
        if let Ok(Some(value)) = self.get_json(key) {
            return Ok(value);
        }
        let value = make()?;
        let _ = self.set_json(key, &value, how);
        Ok(value)
    }

    /// Throws one value away, and says whether there was one.
    pub fn delete(&self, key: &str) -> Result<bool> {
        self.0.delete(key).map_err(Error::service)
    }
}
