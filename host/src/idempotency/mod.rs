//! Requests that are done once, however often they are sent: who may do one is decided by one statement, and what came of
//! it is kept for those who send it again. What a key looks like on the wire is for the front doors to know.

mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::db::Db;
use crate::ids::PluginName;

/// How long outcomes are kept, and how many.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an outcome is kept, from when it is there. Default: 86400000.
    pub keep_ms: u64,
    /// How much longer than its time a request is taken to be in progress. If the host dies meanwhile, it can be sent again
    /// after that. Default: 10000.
    pub lease_margin_ms: u64,
    /// Longest body of an answer that is kept. Of a longer one only is known that it was given. Default: 256 KiB.
    pub answer_bytes_max: usize,
    /// Most outcomes of one plugin. Default: 100000.
    pub entries_per_plugin_max: u64,
    /// Most bytes of the answers of one plugin. Default: 256 MiB.
    pub bytes_per_plugin_max: u64,
    /// Most outcomes of one caller at one plugin, so that none uses up those of all. Who is nobody is known by the address.
    /// Default: 10000.
    pub entries_per_caller_max: u64,
    /// Most bytes of the answers of one caller at one plugin. Default: 32 MiB.
    pub bytes_per_caller_max: u64,
    /// How much of what one plugin may have callers without a login have together, in percent: of the outcomes and of the
    /// bytes. The rest is for those with one, however many strangers come. Default: 50.
    pub strangers_percent_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep_ms: 86_400_000,
            lease_margin_ms: 10_000,
            answer_bytes_max: 256 << 10,
            entries_per_plugin_max: 100_000,
            bytes_per_plugin_max: 256 << 20,
            entries_per_caller_max: 10_000,
            bytes_per_caller_max: 32 << 20,
            strangers_percent_max: 50,
        }
    }
}

/// A request that is to be done once.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    pub plugin: &'a PluginName,
    /// A digest of whose request it is, where it goes, and its key.
    pub id: String,
    /// Names whose request it is.
    pub caller: &'a str,
    /// Whether nobody is logged in.
    pub is_stranger: bool,
    /// A digest of what is asked for: the same key must mean the same.
    pub fingerprint: String,
    /// How long it may take.
    pub time: Duration,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Verdict {
    /// It is done now, by whoever holds this.
    Do(Claim),
    /// It was done, and this came of it.
    Done(Outcome),
    /// It was done, but its answer was too long to be kept; it had this status.
    AnswerNotKept(u16),
    /// It is being done, for so long at most.
    InProgress(Duration),
    /// The key stands for another request.
    Reused,
    /// The plugin has as many outcomes as it may, or the caller or all strangers have at this plugin.
    Full,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The right to do a request. What came of it must be told; else the request is taken to be in progress until its time is
/// over.
#[derive(Debug)]
pub struct Claim {
    id: String,
    token: String,
    plugin: PluginName,
    is_stranger: bool,
    keys: Idempotency,
}

/// Why it could not be told whether a request was done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the rows of requests that are done once cannot be reached")]
    Rows(#[from] sqlx::Error),
    #[error("a row of a request that was done cannot be understood")]
    Row,
}

/// Requests that are done once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Idempotency(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    clock: Clock,
    config: Config,
    /// What each plugin has, as of the last count and what was added since.
    sums: Mutex<HashMap<PluginName, Sums>>,
    tasks: TaskTracker,
}

/// What a plugin has in all, and what of it is of strangers.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    all: Sum,
    strangers: Sum,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    entries: u64,
    bytes: u64,
}

/// Tries to write an outcome: without it the request would be done again.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// Rows removed in one go, so that other writers get their turn.
const SWEEP_MAX: i64 = 1000;

impl Idempotency {
    /// Requests whose outcomes are in these rows.
    pub fn new(db: Db, clock: Clock, config: Config) -> Self {
        Self(Arc::new(Inner {
            db,
            clock,
            config,
            sums: Mutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Decides what is to be done with a request. Of several that are the same one gets the claim, however close together
    /// they come.
    pub async fn begin(&self, asked: &Asked<'_>) -> Result<Verdict, Error> {
        let Inner {
            db, clock, config, ..
        } = &*self.0;
        let now_ms = clock.now_ms();
        let digest = digest_of(asked.caller, asked.is_stranger);
        let lease = asked.time + Duration::from_millis(config.lease_margin_ms);
        let row = store::Claim {
            id: &asked.id,
            plugin: asked.plugin,
            caller: &digest,
            fingerprint: &asked.fingerprint,
            token: uuid::Uuid::now_v7().to_string(),
            lease_until: now_ms + milliseconds(lease),
            expires_at: now_ms + milliseconds(self.keep()),
        };
        let is_full = self.is_full(asked.plugin, asked.is_stranger)
            || self.has_enough(asked.plugin, &digest).await?;
        if is_full && store::find(db, &asked.id, now_ms).await?.is_none() {
            return Ok(Verdict::Full);
        }
        // What is there may be given back between the two looks.
        for _ in 0..3 {
            if store::claim(db, &row, now_ms).await? {
                self.add(asked.plugin, asked.is_stranger, 1, 0);
                return Ok(Verdict::Do(Claim {
                    id: asked.id.clone(),
                    token: row.token,
                    plugin: asked.plugin.clone(),
                    is_stranger: asked.is_stranger,
                    keys: self.clone(),
                }));
            }
            let Some(found) = store::find(db, &asked.id, now_ms).await? else {
                continue;
            };
            if found.fingerprint != asked.fingerprint {
                return Ok(Verdict::Reused);
            }
            return found.verdict(now_ms);
        }
        Ok(Verdict::InProgress(Duration::from_secs(1)))
    }

    /// Removes outcomes whose time is over, and counts what is left. A chore.
    pub async fn sweep(&self) -> Result<(), Error> {
        let db = &self.0.db;
        let now_ms = self.0.clock.now_ms();
        while store::sweep(db, now_ms, SWEEP_MAX).await? == SWEEP_MAX.unsigned_abs() {}
        let sums = store::sums(db).await?;
        let sum = |sum: store::Sum| Sum {
            entries: sum.entries.unsigned_abs(),
            bytes: sum.bytes.unsigned_abs(),
        };
        let sums = sums.into_iter().filter_map(|(plugin, all, strangers)| {
            let sums = Sums {
                all: sum(all),
                strangers: sum(strangers),
            };
            Some((plugin.parse().ok()?, sums))
        });
        *self.lock() = sums.collect();
        Ok(())
    }

    /// Forgets the requests of a plugin that is gone.
    pub async fn delete_plugin(&self, plugin: &PluginName) -> Result<(), Error> {
        self.lock().remove(plugin);
        Ok(store::delete_plugin(&self.0.db, plugin).await?)
    }

    /// Has a request done to its end, even if who sent it does not wait.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.tasks.spawn(work)
    }

    /// Waits for the requests that are being done.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn keep(&self) -> Duration {
        Duration::from_millis(self.0.config.keep_ms)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PluginName, Sums>> {
        self.0.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, plugin: &PluginName, is_stranger: bool) -> bool {
        let config = &self.0.config;
        let (entries_max, bytes_max) = (config.entries_per_plugin_max, config.bytes_per_plugin_max);
        let part = |most: u64| {
            let part = u128::from(most) * u128::from(config.strangers_percent_max.min(100)) / 100;
            u64::try_from(part).unwrap_or(most)
        };
        self.lock()
            .get(plugin)
            .is_some_and(|Sums { all, strangers }| {
                let is_over = |sum: &Sum, entries: u64, bytes: u64| {
                    sum.entries >= entries || sum.bytes >= bytes
                };
                is_over(all, entries_max, bytes_max)
                    || (is_stranger && is_over(strangers, part(entries_max), part(bytes_max)))
            })
    }

    /// Whether a caller has as many outcomes as one may. Nobody has more than their plugin, so that most need not be counted.
    async fn has_enough(&self, plugin: &PluginName, caller: &str) -> Result<bool, Error> {
        let config = &self.0.config;
        let is_over = |entries: u64, bytes: u64| {
            entries >= config.entries_per_caller_max || bytes >= config.bytes_per_caller_max
        };
        let sums = self.lock().get(plugin).copied().unwrap_or_default();
        if !is_over(sums.all.entries, sums.all.bytes) {
            return Ok(false);
        }
        let (entries, bytes) = store::sums_of_caller(&self.0.db, plugin, caller).await?;
        Ok(is_over(entries.unsigned_abs(), bytes.unsigned_abs()))
    }

    fn add(&self, plugin: &PluginName, is_stranger: bool, entries: u64, bytes: u64) {
        let mut sums = self.lock();
        let Sums { all, strangers } = sums.entry(plugin.clone()).or_default();
        for sum in [Some(all), is_stranger.then_some(strangers)]
            .into_iter()
            .flatten()
        {
            sum.entries += entries;
            sum.bytes += bytes;
        }
    }
}

impl Claim {
    /// Keeps what came of the request. Without a body, only that it was done.
    pub async fn settle(self, status: u16, answer: Option<(&HeaderMap, &Bytes)>) {
        let inner = &*self.keys.0;
        let headers = answer.map(|(headers, _)| write_headers(headers));
        let body = answer.map(|(_, body)| body.as_ref());
        let bytes = headers.as_ref().map_or(0, String::len) + body.map_or(0, <[u8]>::len);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        for attempt in 1..=TRIES {
            let row = store::Done {
                id: &self.id,
                token: &self.token,
                status: status.into(),
                headers: headers.as_deref(),
                body,
                bytes,
                expires_at: inner.clock.now_ms() + milliseconds(self.keys.keep()),
            };
            match store::settle(&inner.db, &row).await {
                Ok(()) => {
                    let bytes = bytes.unsigned_abs();
                    self.keys.add(&self.plugin, self.is_stranger, 0, bytes);
                    return;
                }
                Err(error) => self.report(&error, "kept"),
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
    }

    /// Gives the request back undone: it can be sent again at once.
    pub async fn release(self) {
        if let Err(error) = store::release(&self.keys.0.db, &self.id, &self.token).await {
            self.report(&error, "given back");
        }
    }

    fn report(&self, error: &sqlx::Error, what: &str) {
        let name = &self.plugin;
        tracing::error!(plugin.name = %name, error.cause = %error, "The outcome of a request to `{name}` that is done once could not be {what}");
    }
}

impl store::Found {
    fn verdict(self, now_ms: i64) -> Result<Verdict, Error> {
        if !self.is_done {
            let left_ms = (self.lease_until - now_ms).max(1);
            let left = Duration::from_millis(left_ms.unsigned_abs());
            return Ok(Verdict::InProgress(left));
        }
        let status = self.status.and_then(|status| u16::try_from(status).ok());
        let status = status.ok_or(Error::Row)?;
        let (Some(headers), Some(body)) = (self.headers, self.body) else {
            return Ok(Verdict::AnswerNotKept(status));
        };
        Ok(Verdict::Done(Outcome {
            status,
            headers: read_headers(&headers).ok_or(Error::Row)?,
            body: body.into(),
        }))
    }
}

/// Short, and no name of anybody. Those of strangers stand behind all others, so that they can be counted together.
fn digest_of(caller: &str, is_stranger: bool) -> String {
    let mark = if is_stranger { store::STRANGERS } else { "" };
    let digest = Sha256::digest(caller);
    format!("{mark}{}", hex::encode(&digest[..16]))
}

/// Values are bytes; each becomes the character of its number.
fn write_headers(headers: &HeaderMap) -> String {
    let text = |value: &HeaderValue| -> String {
        value.as_bytes().iter().map(|b| char::from(*b)).collect()
    };
    let pairs: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    serde_json::to_string(&pairs).unwrap_or_default()
}

fn read_headers(text: &str) -> Option<HeaderMap> {
    let pairs: Vec<(String, String)> = serde_json::from_str(text).ok()?;
    let pairs = pairs.into_iter().map(|(name, value)| {
        let value: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(&value?).ok()?))
    });
    let mut headers = HeaderMap::new();
    for pair in pairs {
        let (name, value) = pair?;
        headers.append(name, value);
    }
    Some(headers)
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4)
}
