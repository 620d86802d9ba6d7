//! A key-value store in memory, with versions and expiry by the clock of the test.

use std::collections::BTreeMap;

use super::{Error, check, detail};
use crate::bindings::module::gantry::kv::store::{Entry, KeyPage, PutOptions};
use crate::testing::{Host, KvEntry, with};

pub(crate) struct Bucket {
    label: String,
}

type Entries = BTreeMap<String, KvEntry>;

impl Bucket {
    pub(crate) fn open(label: &str) -> Result<Self, Error> {
        check("kv.open")?;
        Ok(Self {
            label: label.to_owned(),
        })
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        check("kv.get")?;
        Ok(self.with(|_, entries| entries.get(key).map(to_entry)))
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, Error> {
        check("kv.get_many")?;
        Ok(self.with(|_, entries| {
            keys.iter()
                .map(|key| entries.get(key).map(to_entry))
                .collect()
        }))
    }

    pub(crate) fn put(
        &self,
        key: &str,
        value: &[u8],
        options: &PutOptions,
    ) -> Result<String, Error> {
        check("kv.put")?;
        self.with(|stamp, entries| {
            let current = entries.get(key).map(|entry| entry.version.as_str());
            if options.if_absent && current.is_some() {
                return Err(Error::Conflict(detail(
                    "kv.exists",
                    "the key is set already",
                )));
            }
            if options.if_version.is_some() && options.if_version.as_deref() != current {
                return Err(changed());
            }
            let expires_at_ms = options
                .ttl_ms
                .map(|ttl_ms| stamp.now_ms.saturating_add(ttl_ms));
            let version = stamp.version.clone();
            let entry = KvEntry {
                value: value.to_vec(),
                version: version.clone(),
                expires_at_ms,
            };
            entries.insert(key.to_owned(), entry);
            Ok(version)
        })
    }

    pub(crate) fn delete(&self, key: &str, if_version: Option<&str>) -> Result<bool, Error> {
        check("kv.delete")?;
        self.with(|_, entries| {
            let current = entries.get(key).map(|entry| entry.version.as_str());
            if if_version.is_some() && if_version != current {
                return Err(changed());
            }
            Ok(entries.remove(key).is_some())
        })
    }

    pub(crate) fn increment(
        &self,
        key: &str,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> Result<i64, Error> {
        check("kv.increment")?;
        self.with(|stamp, entries| {
            let old = entries.get(key);
            let number = match old {
                None => Some(0),
                Some(entry) => std::str::from_utf8(&entry.value)
                    .ok()
                    .and_then(|t| t.parse().ok()),
            };
            let sum = number
                .and_then(|number: i64| number.checked_add(delta))
                .ok_or_else(|| {
                    Error::Invalid(detail("kv.not_a_number", "the value is no whole number"))
                })?;
            let expires_at_ms = match ttl_ms {
                Some(ttl_ms) => Some(stamp.now_ms.saturating_add(ttl_ms)),
                None => old.and_then(|entry| entry.expires_at_ms),
            };
            let value = sum.to_string().into_bytes();
            let version = stamp.version.clone();
            entries.insert(
                key.to_owned(),
                KvEntry {
                    value,
                    version,
                    expires_at_ms,
                },
            );
            Ok(sum)
        })
    }

    pub(crate) fn keys(
        &self,
        prefix: &str,
        cursor: Option<&str>,
        max: u32,
    ) -> Result<KeyPage, Error> {
        check("kv.keys")?;
        let max = usize::try_from(max).unwrap_or(1000);
        Ok(self.with(|_, entries| {
            let mut keys: Vec<String> = entries
                .keys()
                .filter(|key| key.starts_with(prefix))
                .filter(|key| cursor.is_none_or(|cursor| key.as_str() > cursor))
                .take(max + 1)
                .cloned()
                .collect();
            let is_last_page = keys.len() <= max;
            keys.truncate(max);
            let cursor = if is_last_page {
                None
            } else {
                keys.last().cloned()
            };
            KeyPage { keys, cursor }
        }))
    }

    /// Lends the store without what has expired.
    fn with<T>(&self, work: impl FnOnce(&Stamp, &mut Entries) -> T) -> T {
        with(|host: &mut Host| {
            host.writes += 1;
            let stamp = Stamp {
                now_ms: host.now_ms,
                version: format!("v{}", host.writes),
            };
            let entries = host.kv.entry(self.label.clone()).or_default();
            entries.retain(|_, entry| entry.expires_at_ms.is_none_or(|at| at > stamp.now_ms));
            work(&stamp, entries)
        })
    }
}

/// What a write at this moment is marked with.
struct Stamp {
    now_ms: u64,
    version: String,
}

fn to_entry(entry: &KvEntry) -> Entry {
    Entry {
        value: entry.value.clone(),
        version: entry.version.clone(),
    }
}

fn changed() -> Error {
    Error::Conflict(detail(
        "kv.version_mismatch",
        "somebody else changed the entry first",
    ))
}
