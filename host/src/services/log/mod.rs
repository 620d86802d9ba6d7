//! What plugins log: kept for a while, queryable, and followed live by whoever watches.
//!
//! `append` only puts the entry into a queue and never waits; one task writes the queue away. When plugins log faster
//! than that, entries are dropped and counted. Work per call: one entry, at most its few allocations.

mod call;
mod store;
#[cfg(test)]
mod tests;
mod text;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, broadcast, mpsc, oneshot};

use crate::db::{Db, Rows, now_ms};
use crate::ids::{DeploymentId, PluginName, RequestId};
use crate::ledger::Ledger;
use crate::services::Error;

pub use call::CallLog;

/// Most entries of one answer of `query`.
pub const ENTRIES_PER_PAGE_MAX: u32 = 1000;

/// How much is kept of what plugins log.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most entries of one plugin. Default: 10000.
    pub entries_max: u64,
    /// How long an entry is kept. Default: 7 days.
    pub age_ms_max: u64,
    /// Longest message; the rest is cut off. Default: 8 KiB.
    pub message_bytes_max: usize,
    /// Longest context; the rest is cut off. Default: 256.
    pub context_bytes_max: usize,
    /// Entries that wait to be written; more are dropped. Default: 8192.
    pub queue_max: usize,
    /// Entries that a follower may be behind before it misses some. Default: 1024.
    pub follower_queue_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            age_ms_max: 7 * 24 * 60 * 60 * 1000,
            message_bytes_max: 8 << 10,
            context_bytes_max: 256,
            queue_max: 8192,
            follower_queue_max: 1024,
        }
    }
}

/// How grave it is. Later ones are graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl Level {
    const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Critical,
    ];

    /// The level as a word in small letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == word)
            .ok_or_else(|| {
                let message = "a level is trace, debug, info, warn, error or critical";
                Error::invalid("log.level_invalid", message)
            })
    }
}

/// Something that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub plugin: PluginName,
    pub deployment: Option<DeploymentId>,
    pub request_id: Option<RequestId>,
    pub level: Level,
    /// What the plugin says it belongs to; often empty.
    pub context: String,
    pub message: String,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

/// Which entries to show.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// This level and graver ones.
    pub level_min: Option<Level>,
    pub request_id: Option<RequestId>,
    /// Not older than this; milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// Most entries, 1 to 1000. Nothing means 100.
    pub limit: Option<u32>,
}

/// Some entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    /// Leads to older entries; nothing means that there are none.
    pub cursor: Option<String>,
}

/// How much one invocation may log. The caller keeps one for each.
#[derive(Debug)]
pub struct Budget {
    bytes_left: usize,
    has_complained: bool,
}

/// What a budget says about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    Fits,
    /// Leave it out, and append one entry that says so.
    IsFirstTooMany,
    /// Leave it out.
    IsTooMany,
}

impl Budget {
    /// So many bytes of messages and contexts.
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes_left: bytes,
            has_complained: false,
        }
    }

    /// Counts an entry of this size. Once one did not fit, no other does.
    pub fn take(&mut self, bytes: usize) -> Verdict {
        if let Some(left) = self
            .bytes_left
            .checked_sub(bytes)
            .filter(|_| !self.has_complained)
        {
            self.bytes_left = left;
            Verdict::Fits
        } else if self.has_complained {
            Verdict::IsTooMany
        } else {
            self.has_complained = true;
            Verdict::IsFirstTooMany
        }
    }
}

/// The logs of all plugins. Cheap to clone.
#[derive(Clone)]
pub struct Logs(Arc<Inner>);

struct Inner {
    db: Db,
    config: Config,
    queue: mpsc::Sender<Command>,
    dropped: AtomicU64,
    followers: Mutex<HashMap<PluginName, broadcast::Sender<Arc<Entry>>>>,
}

enum Command {
    Write(Arc<Entry>),
    Flush(oneshot::Sender<()>),
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl Logs {
    /// Where it is recorded what plugins were refused, if that is recorded.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.0.db.ledger()
    }

    /// Starts the task that writes; it ends when the last clone is gone. Needs a runtime.
    pub fn new(db: Db, config: Config) -> Self {
        let db = db.one_by_one(Rows::Logs);
        let (queue, commands) = mpsc::channel(config.queue_max.max(1));
        let writer = Writer {
            db: db.clone(),
            config: config.clone(),
            next: OnceCell::new(),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the last clone; `flush` waits for what it has to write"
        )]
        tokio::spawn(writer.run(commands));
        let (dropped, followers) = (AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Inner {
            db,
            config,
            queue,
            dropped,
            followers,
        }))
    }

    /// Takes an entry. Never waits: when the queue is full, the entry is dropped and counted.
    pub fn append(&self, mut entry: Entry) {
        text::clean(&mut entry.message, self.0.config.message_bytes_max);
        text::clean(&mut entry.context, self.0.config.context_bytes_max);
        let entry = Arc::new(entry);
        if let Some(followers) = self.followers().get(&entry.plugin) {
            // Fails only if nobody listens any more.
            let _ = followers.send(entry.clone());
        }
        if self.0.queue.try_send(Command::Write(entry)).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many entries were dropped since the start, because they came faster than they could be written.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Entries of a plugin, newest first.
    pub async fn query(&self, plugin: &PluginName, filter: &Filter) -> Result<Page, Error> {
        let limit = filter.limit.unwrap_or(100);
        if !(1..=ENTRIES_PER_PAGE_MAX).contains(&limit) {
            let message = format!("`limit` must be 1 to {ENTRIES_PER_PAGE_MAX}, not {limit}");
            return Err(Error::invalid("log.page_size_invalid", message));
        }
        let before = filter
            .cursor
            .as_deref()
            .map_or(Ok(i64::MAX), decode_cursor)?;
        // One more than wanted tells whether there is another page.
        let rows = store::query(&self.0.db, plugin, filter, before, i64::from(limit) + 1).await;
        let mut rows = rows.map_err(failed)?;
        let is_last = rows.len() <= limit as usize;
        rows.truncate(limit as usize);
        let cursor = if is_last {
            None
        } else {
            rows.last().map(|(last, _)| encode_cursor(*last))
        };
        Ok(Page {
            entries: rows.into_iter().map(|(_, entry)| entry).collect(),
            cursor,
        })
    }

    /// Follows what a plugin logs from now on.
    pub fn subscribe(&self, plugin: &PluginName) -> Subscription {
        let mut followers = self.followers();
        followers.retain(|_, sender| sender.receiver_count() > 0);
        let capacity = self.0.config.follower_queue_max.max(1);
        let sender = followers.entry(plugin.clone());
        let sender = sender.or_insert_with(|| broadcast::Sender::new(capacity));
        Subscription(sender.subscribe())
    }

    /// Waits until everything appended so far is in the rows. For the end of the process, and for tests.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.queue.send(Command::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Removes everything a plugin logged.
    pub async fn delete_plugin(&self, plugin: &PluginName) -> Result<(), Error> {
        self.flush().await;
        store::delete_plugin(&self.0.db, plugin)
            .await
            .map_err(failed)
    }

    fn followers(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<PluginName, broadcast::Sender<Arc<Entry>>>> {
        self.0
            .followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a follower gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    Entry(Arc<Entry>),
    /// The follower was too slow and missed so many entries; they are in the rows.
    Missed(u64),
}

/// Entries of one plugin as they come.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Arc<Entry>>);

impl Subscription {
    /// The next entry; nothing when the host shuts down.
    pub async fn next(&mut self) -> Option<Followed> {
        match self.0.recv().await {
            Ok(entry) => Some(Followed::Entry(entry)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Followed::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

struct Writer {
    db: Db,
    config: Config,
    /// The number of the next entry.
    next: OnceCell<AtomicI64>,
}

impl Writer {
    async fn run(self, mut commands: mpsc::Receiver<Command>) {
        const BATCH_MAX: usize = 256;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while commands.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let mut entries = Vec::new();
            let mut waiting = Vec::new();
            for command in batch.drain(..) {
                match command {
                    Command::Write(entry) => entries.push(entry),
                    Command::Flush(done) => waiting.push(done),
                }
            }
            if let Err(error) = self.write(&entries).await {
                let lost = entries.len();
                tracing::error!(error.cause = %error, lost, "Log entries could not be written");
            }
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    async fn write(&self, entries: &[Arc<Entry>]) -> Result<(), sqlx::Error> {
        if entries.is_empty() {
            return Ok(());
        }
        // Others number their lines, too.
        if self.db.is_shared() {
            return self.write_from(None, entries).await;
        }
        let next = self.next.get_or_try_init(|| async {
            store::last_sequence(&self.db)
                .await
                .map(|last| AtomicI64::new(last + 1))
        });
        let count = entries.len().try_into().unwrap_or(i64::MAX);
        let first = next.await?.fetch_add(count, Ordering::Relaxed);
        self.write_from(Some(first), entries).await
    }

    async fn write_from(
        &self,
        first: Option<i64>,
        entries: &[Arc<Entry>],
    ) -> Result<(), sqlx::Error> {
        let plugins: HashSet<&PluginName> = entries.iter().map(|entry| &entry.plugin).collect();
        let count_max = i64::try_from(self.config.entries_max).unwrap_or(i64::MAX);
        let age_ms_max = i64::try_from(self.config.age_ms_max).unwrap_or(i64::MAX);
        let oldest_ms = now_ms().saturating_sub(age_ms_max);
        store::write(&self.db, first, entries, &plugins, count_max, oldest_ms).await
    }
}

fn encode_cursor(sequence: i64) -> String {
    URL_SAFE_NO_PAD.encode(sequence.to_be_bytes())
}

fn decode_cursor(cursor: &str) -> Result<i64, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    bytes.map(i64::from_be_bytes).ok_or_else(|| {
        let message = "the cursor did not come from an earlier page";
        Error::invalid("log.cursor_invalid", message)
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that `map_err` takes"
)]
fn failed(error: sqlx::Error) -> Error {
    Error::internal("log.failed", &error)
}
