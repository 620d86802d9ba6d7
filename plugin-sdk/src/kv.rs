//! A small key-value store, private to the plugin. Declare its labels in `plugin.toml`: `kv = ["counters"]`.
//!
//! ```
//! use gantry_sdk::prelude::*;
//! use std::time::Duration;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Cart {
//!     items: Vec<String>,
//! }
//!
//! fn remember(user: &str, cart: &Cart) -> Result<()> {
//!     let carts = kv::open("carts")?;
//!     carts.put_with(user, &serde_json::to_vec(cart)?, kv::Put::new().ttl(Duration::from_secs(3600)))?;
//!     Ok(())
//! }
//!
//! fn add(user: &str, item: String) -> Result<Cart> {
//!     // Two requests at once cannot lose an item: the write is tried again if somebody else came first.
//!     kv::open("carts")?.update_json(user, |cart: Option<Cart>| {
//!         let mut cart = cart.unwrap_or(Cart { items: Vec::new() });
//!         cart.items.push(item.clone());
//!         Ok(cart)
//!     })
//! }
//! # use gantry_sdk::serde_json;
//! # let _ = (remember, add);
//! ```

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::kv as host;
use crate::{Error, ErrorKind, Result};

/// A value and its version; a page of keys.
pub use crate::bindings::module::gantry::kv::store::{Entry, KeyPage};

/// How often [`Bucket::update_json`] tries when others keep writing the same key.
const UPDATE_ATTEMPTS_MAX: u32 = 10;

/// One store. Keys are 1 to 512 bytes; how large values and the whole store may be is the operator's setting.
pub struct Bucket(host::Bucket);

/// Under which conditions to write, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Put {
    ttl: Option<Duration>,
    if_absent: bool,
    if_version: Option<String>,
}

impl Put {
    /// Always and for ever.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry vanishes after this time.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Write only if the key is not set; else `conflict`.
    #[must_use]
    pub fn if_absent(mut self) -> Self {
        self.if_absent = true;
        self
    }

    /// Write only if the entry still has this version; else `conflict`.
    #[must_use]
    pub fn if_version(mut self, version: impl Into<String>) -> Self {
        self.if_version = Some(version.into());
        self
    }
}

/// Opens a store by its label; `denied` if the label is not declared or not granted.
pub fn open(label: &str) -> Result<Bucket> {
    host::Bucket::open(label)
        .map(Bucket)
        .map_err(Error::service)
}

impl Bucket {
    /// The value, or nothing.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get_entry(key)?.map(|entry| entry.value))
    }

    /// The value with its version, for [`Put::if_version`].
    pub fn get_entry(&self, key: &str) -> Result<Option<Entry>> {
        self.0.get(key).map_err(Error::service)
    }

    /// The value as a type; an internal error if the stored JSON does not fit it.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match self.get_entry(key)? {
            Some(entry) => Ok(Some(serde_json::from_slice(&entry.value)?)),
            None => Ok(None),
        }
    }

    /// Several entries with one call, in the order of the keys. At most 100 keys.
    pub fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        self.0.get_many(keys).map_err(Error::service)
    }

    /// Writes a value and returns its new version.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<String> {
        self.put_with(key, value, Put::new())
    }

    /// Writes a value as JSON and returns its new version.
    pub fn put_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<String> {
        self.put(key, &serde_json::to_vec(value)?)
    }

    /// Writes a value under conditions; `conflict` if they do not hold.
    pub fn put_with(&self, key: &str, value: &[u8], options: Put) -> Result<String> {
        let options = crate::bindings::module::gantry::kv::store::PutOptions {
            ttl_ms: options.ttl.map(millis),
            if_absent: options.if_absent,
            if_version: options.if_version,
        };
        self.0.put(key, value, &options).map_err(Error::service)
    }

    /// Reads, changes and writes a value as JSON, without losing what others write meanwhile: the change is made
    /// anew (up to ten times) if somebody else came first. Keep it free of other effects. Returns what was written.
    pub fn update_json<T, F>(&self, key: &str, change: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Option<T>) -> Result<T>,
    {
        let mut attempt = 1;
        loop {
            let entry = self.get_entry(key)?;
            let options = match &entry {
                Some(entry) => Put::new().if_version(entry.version.as_str()),
                None => Put::new().if_absent(),
            };
            let old = entry
                .map(|entry| serde_json::from_slice(&entry.value))
                .transpose()?;
            let new = change(old)?;
            match self.put_with(key, &serde_json::to_vec(&new)?, options) {
                Ok(_) => return Ok(new),
                Err(error)
                    if error.kind() == ErrorKind::Conflict && attempt < UPDATE_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes; whether there was an entry.
    pub fn delete(&self, key: &str) -> Result<bool> {
        self.0.delete(key, None).map_err(Error::service)
    }

    /// Deletes only this version; else `conflict`.
    pub fn delete_version(&self, key: &str, version: &str) -> Result<bool> {
        self.0.delete(key, Some(version)).map_err(Error::service)
    }

    /// Adds to a whole number, which starts at 0, and returns the sum. `invalid` if the value is no number.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        self.0.increment(key, delta, None).map_err(Error::service)
    }

    /// The same for a number that vanishes after a time, counted from now.
    pub fn increment_with_ttl(&self, key: &str, delta: i64, ttl: Duration) -> Result<i64> {
        self.0
            .increment(key, delta, Some(millis(ttl)))
            .map_err(Error::service)
    }

    /// One page of the keys with this prefix, ascending; `max` is 1 to 1000.
    pub fn keys_page(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        self.0.keys(prefix, cursor, max).map_err(Error::service)
    }

    /// The keys with this prefix, ascending, as many as asked for at most.
    pub fn keys(&self, prefix: &str, max: usize) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor: Option<String> = None;
        while keys.len() < max {
            let wanted = (max - keys.len()).min(1000);
            let page = self.keys_page(
                prefix,
                cursor.as_deref(),
                u32::try_from(wanted).unwrap_or(1000),
            )?;
            keys.extend(page.keys);
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        keys.truncate(max);
        Ok(keys)
    }
}

/// Whole milliseconds; what is too long for the contract is as good as for ever.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
