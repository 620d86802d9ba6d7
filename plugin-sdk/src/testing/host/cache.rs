//! Values in memory, with expiry by the clock of the test.

use super::{Error, check, detail};
pub(crate) use crate::bindings::module::gantry::cache::store::SetOptions;
use crate::testing::{CacheEntry, with};

pub(crate) struct Bucket {
    label: String,
}

impl Bucket {
    pub(crate) fn open(label: &str) -> Result<Self, Error> {
        check("cache.open")?;
        Ok(Self {
            label: label.to_owned(),
        })
    }

    fn key(&self, key: &str) -> (String, String) {
        (self.label.clone(), key.to_owned())
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        check("cache.get")?;
        Ok(with(|host| {
            let now_ms = host.now_ms;
            let entry = host.cache.get(&self.key(key));
            let entry = entry.filter(|entry| entry.expires_at_ms > now_ms);
            entry.map(|entry| entry.value.clone())
        }))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8], options: &SetOptions) -> Result<(), Error> {
        check("cache.set")?;
        if options.ttl_ms == 0 {
            return Err(Error::Invalid(detail("cache.ttl_invalid", "at least 1 ms")));
        }
        with(|host| {
            let entry = CacheEntry {
                value: value.to_vec(),
                tags: options.tags.clone(),
                expires_at_ms: host.now_ms.saturating_add(options.ttl_ms),
            };
            host.cache.insert(self.key(key), entry);
        });
        Ok(())
    }

    pub(crate) fn delete(&self, key: &str) -> Result<bool, Error> {
        check("cache.delete")?;
        Ok(with(|host| host.cache.remove(&self.key(key)).is_some()))
    }
}

pub(crate) mod purge {
    use super::{Error, check};
    use crate::testing::with;

    pub(crate) fn by_tag(tag: &str) -> Result<u64, Error> {
        check("cache.by_tag")?;
        Ok(with(|host| {
            let before = host.cache.len();
            host.cache
                .retain(|_, entry| !entry.tags.iter().any(|other| other == tag));
            (before - host.cache.len()) as u64
        }))
    }

    /// Answers are kept by the real host only.
    pub(crate) fn by_route(_pattern: &str) -> Result<u64, Error> {
        check("cache.by_route")?;
        Ok(0)
    }

    pub(crate) fn everything() -> Result<u64, Error> {
        check("cache.everything")?;
        Ok(with(|host| std::mem::take(&mut host.cache).len() as u64))
    }
}
