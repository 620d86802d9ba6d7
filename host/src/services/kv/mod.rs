//! A small key-value store, private to each plugin: versions, compare-and-set, increments, entries that expire.
//!
//! Who may open which store is decided by the caller; here every call names its plugin and label. Work per process:
//! none. Per call: one read, or one short transaction.

pub mod host;
mod standard;
mod store;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use crate::db::{self, Db};
use crate::ids::{Label, PluginName};
use crate::services::{Allowance, Charge, Error, Kind, Turn, Turns};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use store::{Change, Stored};

/// Longest key in bytes. Part of the contract.
pub const KEY_BYTES_MAX: usize = 512;
/// Most keys in one call of `get_many`. Part of the contract.
pub const KEYS_PER_CALL_MAX: usize = 100;
/// Most keys on one page of `keys`. Part of the contract.
pub const KEYS_PER_PAGE_MAX: u32 = 1000;

/// How much a plugin may keep.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Longest value. Default: 1 MiB.
    pub value_bytes_max: usize,
    /// Most bytes of all values that one call of `get-many` returns. Default: 16 MiB.
    pub get_many_bytes_max: usize,
    /// Most entries of one plugin, over all its stores. Default: 100000.
    pub entries_max: u64,
    /// Most bytes of keys and values of one plugin, over all its stores. Default: 256 MiB.
    pub total_bytes_max: u64,
    /// Calls of one plugin that read at the same time. One writes. Default: 2.
    pub reads_at_once_max: usize,
    /// Calls of one plugin that wait for that. Default: 256.
    pub waiting_max: usize,
    /// How long they wait. Default: 5000.
    pub wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            value_bytes_max: 1 << 20,
            get_many_bytes_max: 16 << 20,
            entries_max: 100_000,
            total_bytes_max: 256 << 20,
            reads_at_once_max: 2,
            waiting_max: 256,
            wait_ms: 5000,
        }
    }
}

/// A value and the version it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    /// Changes with each write. Opaque.
    pub version: String,
}

/// How to write.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// The entry vanishes after this time. Nothing means never.
    pub ttl_ms: Option<u64>,
    /// Write only if the key is not set.
    pub if_absent: bool,
    /// Write only if the entry still has this version.
    pub if_version: Option<String>,
}

/// Some of the keys, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPage {
    pub keys: Vec<String>,
    /// Leads to the next page; nothing means that this was the last.
    pub cursor: Option<String>,
}

/// What a plugin keeps now, over all its stores. Entries that expired count until they are swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub entries: u64,
    pub total_bytes: u64,
}

/// The stores of all plugins. Cheap to clone.
#[derive(Clone)]
pub struct Kv {
    db: Db,
    config: Arc<Config>,
    turns: Arc<Turns>,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Whom the processor time of statements is charged to.
    payer: Option<Allowance>,
}

impl fmt::Debug for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kv")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Kv {
    /// Stores kept in these rows.
    pub fn new(db: Db, config: Config) -> Self {
        Self::with_clock(db, config, Arc::new(db::now_ms))
    }

    /// Stores kept in these rows, whose entries expire by this clock.
    pub fn with_clock(db: Db, config: Config, now_ms: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        let wait = Duration::from_millis(config.wait_ms);
        let turns = Turns::new(config.reads_at_once_max, config.waiting_max, wait);
        Self {
            db,
            config: Arc::new(config),
            turns: Arc::new(turns),
            now_ms,
            payer: None,
        }
    }

    /// The same stores, for one call: what statements compute is charged to it.
    #[must_use]
    pub fn charged_to(&self, call: &Allowance) -> Self {
        Self {
            payer: Some(call.clone()),
            ..self.clone()
        }
    }

    /// The entry, or nothing. `invalid` for a key that cannot be.
    pub async fn get(
        &self,
        plugin: &PluginName,
        label: &Label,
        key: &str,
    ) -> Result<Option<Entry>, Error> {
        check_key(key)?;
        let _turn = self.read_turn(plugin).await?;
        let (mut connection, _charge) = self.reader().await.map_err(failed)?;
        let entry = store::find(&mut connection, plugin, label, key, (self.now_ms)()).await;
        Ok(entry.map_err(failed)?.map(Entry::from))
    }

    /// Several entries at once, in the order of the keys. At most 100 keys; `limit` if the values are too large
    /// together.
    pub async fn get_many(
        &self,
        plugin: &PluginName,
        label: &Label,
        keys: &[String],
    ) -> Result<Vec<Option<Entry>>, Error> {
        if keys.len() > KEYS_PER_CALL_MAX {
            let given = keys.len();
            let message = format!("at most {KEYS_PER_CALL_MAX} keys at once, not {given}");
            return Err(Error::invalid("kv.too_many_keys", message));
        }
        keys.iter().try_for_each(|key| check_key(key))?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let bytes_max = self.config.get_many_bytes_max;
        let too_large = || {
            let message = format!(
                "the values of these keys have more than {bytes_max} bytes together; ask for fewer"
            );
            Error::limit("kv.values_too_large", message)
        };
        let _turn = self.read_turn(plugin).await?;
        let now_ms = (self.now_ms)();
        let (mut connection, _charge) = self.reader().await.map_err(failed)?;
        let found = store::find_many(&mut connection, plugin, label, keys, bytes_max, now_ms).await;
        let found = found.map_err(failed)?.ok_or_else(too_large)?;
        let of_key = |key| found.get(key).map_or(0, |stored| stored.value.len());
        if keys.iter().map(of_key).sum::<usize>() > bytes_max {
            return Err(too_large());
        }
        // The same key may be asked for twice, so entries are copied out and not taken.
        Ok(keys
            .iter()
            .map(|key| found.get(key).cloned().map(Entry::from))
            .collect())
    }

    /// Writes and returns the new version. `conflict` if a condition of the options does not hold, `limit` if the
    /// value or the store would be too large.
    pub async fn put(
        &self,
        plugin: &PluginName,
        label: &Label,
        key: &str,
        value: &[u8],
        options: &PutOptions,
    ) -> Result<String, Error> {
        check_key(key)?;
        let size_max = self.config.value_bytes_max;
        if value.len() > size_max {
            let size = value.len();
            let message = format!("the value has {size} bytes; at most {size_max} are allowed");
            return Err(Error::limit("kv.value_too_large", message));
        }
        let _turn = self.write_turn(plugin).await?;
        let now_ms = (self.now_ms)();
        let expires_at = options.ttl_ms.map(|ttl_ms| expiry(now_ms, ttl_ms));
        let (transaction, _charge) = self.writer().await.map_err(failed)?;
        let mut change = Change::begin(transaction, plugin, now_ms)
            .await
            .map_err(failed)?;
        let present = change.find(label, key).await.map_err(failed)?;
        match (&present, &options.if_version) {
            (Some(_), _) if options.if_absent => {
                return Err(Error::conflict("kv.exists", "the key is set already"));
            }
            (present, Some(wanted)) => check_version(present.as_ref(), wanted)?,
            _ => {}
        }
        self.write(change, label, key, value, expires_at).await
    }

    /// Deletes and says whether there was an entry. With a version, deletes only that version; else `conflict`.
    pub async fn delete(
        &self,
        plugin: &PluginName,
        label: &Label,
        key: &str,
        if_version: Option<&str>,
    ) -> Result<bool, Error> {
        check_key(key)?;
        let _turn = self.write_turn(plugin).await?;
        let now_ms = (self.now_ms)();
        let (transaction, _charge) = self.writer().await.map_err(failed)?;
        let mut change = Change::begin(transaction, plugin, now_ms)
            .await
            .map_err(failed)?;
        let present = change.find(label, key).await.map_err(failed)?;
        if let Some(wanted) = if_version {
            check_version(present.as_ref(), wanted)?;
        }
        if present.is_none() {
            return Ok(false);
        }
        change.delete(label, key).await.map_err(failed)?;
        change.commit().await.map_err(failed)?;
        Ok(true)
    }

    /// Adds to a whole number, which starts at 0, and returns the sum. A ttl given counts from now; without one an
    /// existing ttl stays. `invalid` if the value is no number or the sum too large.
    pub async fn increment(
        &self,
        plugin: &PluginName,
        label: &Label,
        key: &str,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> Result<i64, Error> {
        check_key(key)?;
        let _turn = self.write_turn(plugin).await?;
        let now_ms = (self.now_ms)();
        let (transaction, _charge) = self.writer().await.map_err(failed)?;
        let mut change = Change::begin(transaction, plugin, now_ms)
            .await
            .map_err(failed)?;
        let present = change.find(label, key).await.map_err(failed)?;
        let before = present
            .as_ref()
            .map_or(Ok(0), |stored| number(&stored.value))?;
        let sum = before.checked_add(delta).ok_or_else(|| {
            Error::invalid("kv.number_overflow", "the sum does not fit into 64 bits")
        })?;
        let expires_at = match ttl_ms {
            Some(ttl_ms) => Some(expiry(now_ms, ttl_ms)),
            None => present.and_then(|stored| stored.expires_at),
        };
        self.write(change, label, key, sum.to_string().as_bytes(), expires_at)
            .await?;
        Ok(sum)
    }

    /// Keys with this prefix in ascending order of their bytes, `max` (1 to 1000) at a time.
    pub async fn keys(
        &self,
        plugin: &PluginName,
        label: &Label,
        prefix: &str,
        cursor: Option<&str>,
        max: u32,
    ) -> Result<KeyPage, Error> {
        if !(1..=KEYS_PER_PAGE_MAX).contains(&max) {
            let message = format!("`max` must be 1 to {KEYS_PER_PAGE_MAX}, not {max}");
            return Err(Error::invalid("kv.page_size_invalid", message));
        }
        if prefix.len() > KEY_BYTES_MAX || prefix.contains('\0') {
            return Err(key_invalid());
        }
        let after = cursor.map(decode_cursor).transpose()?;
        // One more than wanted tells whether there is another page.
        let limit = i64::from(max) + 1;
        let after = after.as_deref().unwrap_or("");
        let _turn = self.read_turn(plugin).await?;
        let now_ms = (self.now_ms)();
        let (mut connection, _charge) = self.reader().await.map_err(failed)?;
        let keys = store::keys(&mut connection, plugin, label, prefix, after, limit, now_ms).await;
        let mut keys = keys.map_err(failed)?;
        // Keys are sorted, so those with the prefix stand together at the beginning.
        let with_prefix = keys
            .iter()
            .take_while(|key| key.starts_with(prefix))
            .count();
        keys.truncate(with_prefix);
        let is_last = keys.len() <= max as usize;
        keys.truncate(max as usize);
        let cursor = if is_last {
            None
        } else {
            keys.last().map(|key| encode_cursor(key))
        };
        Ok(KeyPage { keys, cursor })
    }

    /// What a plugin keeps now.
    pub async fn usage(&self, plugin: &PluginName) -> Result<Usage, Error> {
        store::usage(&self.db, plugin).await.map_err(failed)
    }

    /// Removes at most `max` entries that have expired and returns how many it removed. A chore: repeat it while it returns
    /// `max`.
    pub async fn sweep(&self, max: u32) -> Result<u64, Error> {
        let now_ms = (self.now_ms)();
        store::sweep(&self.db, now_ms, max).await.map_err(failed)
    }

    /// Removes everything a plugin keeps.
    pub async fn delete_plugin(&self, plugin: &PluginName) -> Result<(), Error> {
        store::delete_plugin(&self.db, plugin).await.map_err(failed)
    }

    async fn reader(&self) -> Result<(db::Connection, Charge), sqlx::Error> {
        let (connection, meter) = self.db.metered_reader().await?;
        Ok((connection, self.charge(meter)))
    }

    async fn writer(&self) -> Result<(db::Transaction, Charge), sqlx::Error> {
        let (transaction, meter) = self.db.begin_metered().await?;
        Ok((transaction, self.charge(meter)))
    }

    fn charge(&self, meter: db::Meter) -> Charge {
        Charge::new(meter, self.payer.as_ref())
    }

    async fn read_turn(&self, plugin: &PluginName) -> Result<Turn, Error> {
        self.turns.read(plugin).await.ok_or_else(busy)
    }

    async fn write_turn(&self, plugin: &PluginName) -> Result<Turn, Error> {
        self.turns.write(plugin).await.ok_or_else(busy)
    }

    /// Writes one entry, if the plugin's quotas allow, and ends the transaction.
    async fn write(
        &self,
        mut change: Change,
        label: &Label,
        key: &str,
        value: &[u8],
        expires_at: Option<i64>,
    ) -> Result<String, Error> {
        let version = change
            .put(label, key, value, expires_at)
            .await
            .map_err(failed)?;
        while !self.fits(change.usage()) {
            // Expired entries are absent to the plugin, so they must not fill its store either.
            if change.sweep().await.map_err(failed)? == 0 {
                return Err(self.full(change.usage()));
            }
        }
        change.commit().await.map_err(failed)?;
        Ok(encode_version(version))
    }

    fn fits(&self, usage: Usage) -> bool {
        usage.entries <= self.config.entries_max && usage.total_bytes <= self.config.total_bytes_max
    }

    fn full(&self, usage: Usage) -> Error {
        let Config {
            entries_max,
            total_bytes_max,
            ..
        } = *self.config;
        let message = if usage.entries > entries_max {
            format!("the stores of this plugin hold {entries_max} entries, which is all they may")
        } else {
            format!("the stores of this plugin would hold more than {total_bytes_max} bytes")
        };
        Error::limit("kv.full", message)
    }
}

impl From<Stored> for Entry {
    fn from(stored: Stored) -> Self {
        Self {
            value: stored.value,
            version: encode_version(stored.version),
        }
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    // Not every database can keep a NUL in text.
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains('\0') {
        return Err(key_invalid());
    }
    Ok(())
}

fn key_invalid() -> Error {
    let message = format!("a key has 1 to {KEY_BYTES_MAX} bytes and no NUL character");
    Error::invalid("kv.key_invalid", message)
}

fn check_version(present: Option<&Stored>, wanted: &str) -> Result<(), Error> {
    match present {
        Some(stored) if encode_version(stored.version) == wanted => Ok(()),
        Some(_) => Err(Error::conflict(
            "kv.version_mismatch",
            "the entry was changed in the meantime",
        )),
        None => Err(Error::conflict(
            "kv.version_mismatch",
            "the entry was deleted in the meantime",
        )),
    }
}

fn number(value: &[u8]) -> Result<i64, Error> {
    let number = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        Error::invalid(
            "kv.not_a_number",
            "the value is not a whole number of 64 bits as text",
        )
    })
}

fn expiry(now_ms: i64, ttl_ms: u64) -> i64 {
    now_ms.saturating_add(i64::try_from(ttl_ms).unwrap_or(i64::MAX))
}

/// Hexadecimal, so that nobody takes it for a count to calculate with.
fn encode_version(version: i64) -> String {
    format!("{version:x}")
}

fn encode_cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn decode_cursor(cursor: &str) -> Result<String, Error> {
    let key = (cursor.len() <= KEY_BYTES_MAX * 2).then(|| URL_SAFE_NO_PAD.decode(cursor));
    let key = key
        .and_then(Result::ok)
        .and_then(|bytes| String::from_utf8(bytes).ok());
    key.filter(|key| check_key(key).is_ok()).ok_or_else(|| {
        let message = "the cursor did not come from an earlier page";
        Error::invalid("kv.cursor_invalid", message)
    })
}

fn failed(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::PoolTimedOut => busy(),
        error => Error::internal("kv.failed", &error),
    }
}

fn busy() -> Error {
    let message = "the store is busy; try again soon";
    let error = Error::new(Kind::Unavailable, "kv.busy", message);
    Error {
        retry_after_ms: Some(1000),
        ..error
    }
}
