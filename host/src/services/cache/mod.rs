//! Values that plugins keep for a while, and throwing away what is kept of their answers. Where it all is, within which
//! bounds, is for the cache of the host to know; here are the rules of the contract. Who may open which cache is decided by
//! the caller.

pub mod host;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::cache::{
    Cache, Entry, Kept, Key, Lives, Marks, NewEntry, NotShared, Purge, Refused, TAGS_MAX, Tag,
};
use crate::ids::{Label, PluginName};
use crate::services::Error;

/// Longest key in bytes. Part of the contract.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest pattern of a route.
const PATTERN_BYTES_MAX: usize = 4096;

/// The caches of all plugins. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Values(Cache);

impl Values {
    /// Values that are kept there.
    pub fn new(cache: Cache) -> Self {
        Self(cache)
    }

    /// The value, or nothing. `invalid` for a key that cannot be.
    pub async fn get(
        &self,
        plugin: &PluginName,
        label: &Label,
        key: &str,
    ) -> Result<Option<Bytes>, Error> {
        let key = digest(plugin, label, key)?;
        if !self.0.config().is_on {
            return Ok(None);
        }
        let part = self.0.part(plugin);
        let near = part.find(&key);
        let now_ns = self.0.clock().monotonic_ns();
        let is_near = |entry: &Entry| entry.held(now_ns) < self.0.config().near();
        let entry = match near {
            Some(entry) if is_near(&entry) => Some(entry),
            near => match self.0.fetch(&part, key).await {
                // Another host has put something else there, or thrown it away.
                Ok(shared) => shared,
                Err(NotShared) => near,
            },
        };
        let entry = entry.filter(|entry| matches!(entry.kept, Kept::Value));
        Ok(entry.map(|entry| entry.body.clone()))
    }

    /// Keeps a value. `limit` if it is too long.
    pub async fn set(
        &self,
        plugin: &PluginName,
        label: &Label,
        key: &str,
        value: &[u8],
        ttl_ms: u64,
        tags: &[String],
    ) -> Result<(), Error> {
        let key = digest(plugin, label, key)?;
        let config = self.0.config();
        if ttl_ms == 0 {
            let message = "a value is kept for at least 1 ms";
            return Err(Error::invalid("cache.ttl_invalid", message));
        }
        if value.len() > config.entry_bytes_max {
            return Err(too_long(value.len(), config.entry_bytes_max));
        }
        if tags.len() > TAGS_MAX {
            let given = tags.len();
            let message = format!("at most {TAGS_MAX} tags, not {given}");
            return Err(Error::invalid("cache.too_many_tags", message));
        }
        let tags: Result<Vec<Tag>, Error> = tags.iter().map(|tag| parse(tag)).collect();
        let mut tags = tags?;
        tags.sort_unstable();
        tags.dedup();
        if !config.is_on {
            return Ok(());
        }
        let new = NewEntry {
            kept: Kept::Value,
            body: Bytes::copy_from_slice(value),
            lives: Lives {
                fresh: Duration::from_millis(ttl_ms.min(config.ttl_ms_max)),
                ..Lives::default()
            },
            marks: Marks {
                tags,
                ..Marks::default()
            },
        };
        let part = self.0.part(plugin);
        match self.0.put_everywhere(&part, key, new, part.stamp()).await {
            // Purged at this very moment: it is gone, as it would be a moment later.
            Ok(_) | Err(Refused::Purged) => Ok(()),
            Err(Refused::TooLong) => Err(too_long(value.len(), config.entry_bytes_max)),
        }
    }

    /// Throws one value away, and says whether there was one.
    pub async fn delete(
        &self,
        plugin: &PluginName,
        label: &Label,
        key: &str,
    ) -> Result<bool, Error> {
        let key = digest(plugin, label, key)?;
        let part = self.0.part(plugin);
        Ok(self.0.remove_entry(&part, &key).await)
    }

    /// Throws away everything of the plugin with this tag, values and answers, and tells how much it was.
    pub async fn purge_tag(&self, plugin: &PluginName, tag: &str) -> Result<u64, Error> {
        let purge = Purge::Tag(parse(tag)?);
        Ok(self.0.purge(&self.0.part(plugin), &purge).await)
    }

    /// Throws away the answers of the plugin's routes with this pattern.
    pub async fn purge_route(&self, plugin: &PluginName, pattern: &str) -> Result<u64, Error> {
        if pattern.len() > PATTERN_BYTES_MAX {
            let message = format!("a pattern has at most {PATTERN_BYTES_MAX} bytes");
            return Err(Error::invalid("cache.route_invalid", message));
        }
        let purge = Purge::Route(pattern.into());
        Ok(self.0.purge(&self.0.part(plugin), &purge).await)
    }

    /// Throws away all that is kept of the plugin.
    pub async fn purge_everything(&self, plugin: &PluginName) -> u64 {
        let part = self.0.part(plugin);
        self.0.purge(&part, &Purge::Everything).await
    }
}

fn digest(plugin: &PluginName, label: &Label, key: &str) -> Result<Key, Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let message = format!("a key has 1 to {KEY_BYTES_MAX} bytes");
        return Err(Error::invalid("cache.key_invalid", message));
    }
    let mut digest = Sha256::new();
    for piece in ["value 1", plugin.as_str(), label.as_str(), key] {
        digest.update((piece.len() as u64).to_le_bytes());
        digest.update(piece);
    }
    Ok(Key(digest.finalize().into()))
}

fn parse(tag: &str) -> Result<Tag, Error> {
    let tag = tag.parse::<Tag>();
    tag.map_err(|error| Error::invalid("cache.tag_invalid", error.to_string()))
}

fn too_long(bytes: usize, most: usize) -> Error {
    let message = format!("the value has {bytes} bytes; at most {most} are kept");
    Error::limit("cache.value_too_large", message)
}
