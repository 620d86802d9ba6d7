//! What is kept for a while because it was costly to make: answers of plugins, and values that plugins put there. Each
//! plugin has a part of its own, so that none can read, fill or empty that of another. What may be kept, under which
//! key and for how long is for those who put it there to know.

mod entry;
mod flight;
mod index;
mod metrics;
mod part;
mod remote;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::ids::PluginName;
use remote::Remote;

pub use entry::{Entry, Kept, Key, Lives, Marks, NewEntry, Tag};
pub use flight::{Leader, Outcome, Turn, Waiter};
pub use index::{Purge, Stamp};
pub use metrics::register;
pub use part::{Part, Refused};

/// How much is kept, and for how long.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether anything is kept; without it every request reaches its plugin, whatever manifests say. Default: true.
    pub is_on: bool,
    /// Most bytes in memory, over all plugins. Default: 256 MiB.
    pub bytes_max: usize,
    /// The same for one plugin. Default: 64 MiB.
    pub bytes_per_plugin_max: usize,
    /// Longest body of an answer, and longest value. Default: 1 MiB.
    pub entry_bytes_max: usize,
    /// Longest time that an entry is fresh, where plugins put it there; longer ones are cut to it. Default: 86400000.
    pub ttl_ms_max: u64,
    /// Most requests that wait for one that is being answered and is like theirs. Default: 1000.
    pub waiting_max: usize,
    /// How long an answer that is made piece by piece may take from its head to its end to be kept. Default: 1000.
    pub stream_wait_ms: u64,
    /// Most answers that are made anew at the same time while clients get the old ones. Default: 64.
    pub renewals_max: usize,
    /// For how long requests do not wait for one another after an answer that cannot be kept. Default: 2000.
    pub refusal_ms: u64,
    /// Whether entries are kept on the shared server, too, if there is one (`[cluster]`). Default: true.
    pub is_shared: bool,
    /// How often a host asks the shared server what others have purged: so long an answer that was purged elsewhere can still
    /// be given out here. Default: 1000.
    pub notice_ms: u64,
    /// How long a value of a plugin is taken from memory before the shared server is asked whether it is still the same.
    /// Default: 1000.
    pub near_ms: u64,
    /// Most entries that are being written to the shared server; further ones are kept here only. Default: 64.
    pub shared_writes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            is_on: true,
            bytes_max: 256 << 20,
            bytes_per_plugin_max: 64 << 20,
            entry_bytes_max: 1 << 20,
            ttl_ms_max: 86_400_000,
            waiting_max: 1000,
            stream_wait_ms: 1000,
            renewals_max: 64,
            refusal_ms: 2000,
            is_shared: true,
            notice_ms: 1000,
            near_ms: 1000,
            shared_writes_max: 64,
        }
    }
}

impl Config {
    /// How long an answer that is made piece by piece may take.
    pub fn stream_wait(&self) -> Duration {
        Duration::from_millis(self.stream_wait_ms)
    }

    /// How long a value is taken from memory without a question.
    pub fn near(&self) -> Duration {
        Duration::from_millis(self.near_ms)
    }

    /// For how long requests do not wait for one another.
    pub fn refusal(&self) -> Duration {
        Duration::from_millis(self.refusal_ms)
    }
}

/// Most tags of one entry. Part of the contract.
pub const TAGS_MAX: usize = 32;
/// Longest tag in bytes. Part of the contract.
pub const TAG_BYTES_MAX: usize = 128;

/// All that is kept, by plugin. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    clock: Clock,
    parts: RwLock<HashMap<PluginName, Arc<Part>>>,
    /// Bytes of all parts.
    bytes: Arc<AtomicUsize>,
    renewals: Arc<Semaphore>,
    tasks: TaskTracker,
    /// The second level, which other hosts share.
    remote: Option<Remote>,
}

/// There is no second level, or it cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no shared server that can be reached")]
pub struct NotShared;

/// What one plugin has here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    pub plugin: PluginName,
    pub entries: u64,
    pub bytes: u64,
    /// Entries that were pushed out because there was no more room.
    pub evictions: u64,
}

impl Cache {
    /// A cache in which nothing is kept yet, with a second level on the shared server if there is one.
    pub fn new(config: Config, clock: Clock, cluster: Option<Cluster>) -> Self {
        let cluster = cluster.filter(|_| config.is_shared && config.is_on);
        let remote =
            cluster.map(|cluster| Remote::new(cluster, clock.clone(), config.shared_writes_max));
        Self(Arc::new(Inner {
            remote,
            renewals: Arc::new(Semaphore::new(config.renewals_max)),
            config,
            clock,
            parts: RwLock::default(),
            bytes: Arc::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The clock that decides what is fresh.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The part of a plugin.
    pub fn part(&self, plugin: &PluginName) -> Arc<Part> {
        let inner = &*self.0;
        let parts = inner.parts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get(plugin) {
            return Arc::clone(part);
        }
        drop(parts);
        let mut parts = inner.parts.write().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry(plugin.clone()).or_insert_with(|| {
            let (clock, bytes) = (inner.clock.clone(), Arc::clone(&inner.bytes));
            Arc::new(Part::new(plugin.clone(), &inner.config, clock, bytes))
        });
        Arc::clone(part)
    }

    /// Keeps an entry in a part, unless something it depends on was purged since `since`. On the shared server a moment later.
    pub fn put(
        &self,
        part: &Arc<Part>,
        key: Key,
        entry: NewEntry,
        since: Stamp,
    ) -> Result<Arc<Entry>, Refused> {
        let kept = part.put(key, entry, since, Duration::ZERO)?;
        self.make_room();
        if let Some(remote) = &self.0.remote
            && !matches!(kept.kept, Kept::Refusal)
            && let Some(place) = remote.place()
        {
            let (cache, part, entry) = (self.clone(), Arc::clone(part), Arc::clone(&kept));
            self.run(async move {
                cache.share(&part, &key, &entry, since).await;
                drop(place);
            });
        }
        Ok(kept)
    }

    /// The same, and it is on the shared server when this returns, if that can be reached.
    pub async fn put_everywhere(
        &self,
        part: &Arc<Part>,
        key: Key,
        entry: NewEntry,
        since: Stamp,
    ) -> Result<Arc<Entry>, Refused> {
        let kept = part.put(key, entry, since, Duration::ZERO)?;
        self.make_room();
        self.share(part, &key, &kept, since).await;
        Ok(kept)
    }

    async fn share(&self, part: &Part, key: &Key, entry: &Entry, since: Stamp) {
        if let Some(remote) = &self.0.remote
            && let Some(seen) = since.remote
        {
            remote.put(part, key, entry, seen).await;
        }
    }

    /// What the shared server has under this key, which is then kept here, too. The error means that there is no second
    /// level now.
    pub async fn fetch(&self, part: &Arc<Part>, key: Key) -> Result<Option<Arc<Entry>>, NotShared> {
        let remote = self.0.remote.as_ref().ok_or(NotShared)?;
        let since = part.stamp();
        let found = remote.find(part, &key).await.map_err(|_| NotShared)?;
        let Some((entry, age)) = found else {
            return Ok(None);
        };
        let kept = part.put(key, entry, since, age).ok();
        self.make_room();
        let now_ns = self.0.clock.monotonic_ns();
        Ok(kept.filter(|entry| !entry.is_useless(now_ns)))
    }

    /// Throws away one entry, here and on the shared server, and says whether there was one here.
    pub async fn remove_entry(&self, part: &Part, key: &Key) -> bool {
        let was_there = part.remove(key);
        if let Some(remote) = &self.0.remote {
            // Without the server there is one level.
            let _ = remote.remove(part, key).await;
        }
        was_there
    }

    /// Throws away what is meant, here at once, elsewhere within `notice_ms`, and keeps nothing of it that is being made now.
    /// Tells how many entries went here.
    pub async fn purge(&self, part: &Part, purge: &Purge) -> u64 {
        // There first: else it could come back from there.
        if let Some(remote) = &self.0.remote {
            match remote.purge(part, purge).await {
                Ok((before, own)) => part.has_seen(Some(before), own),
                Err(_) => part.tell_later(purge.clone()),
            }
        }
        part.purge_here(purge)
    }

    /// Throws away all of a plugin here, because somebody has purged some of it on another host, unless the shared server
    /// tells what.
    pub fn purged_elsewhere(&self, plugin: &str) {
        let inner = &*self.0;
        if inner.remote.as_ref().is_some_and(Remote::is_reachable) {
            return;
        }
        let parts = inner.parts.read().unwrap_or_else(PoisonError::into_inner);
        let part = parts.iter().find(|(name, _)| name.as_str() == plugin);
        let part = part.map(|(_, part)| Arc::clone(part));
        drop(parts);
        if let Some(part) = part {
            part.purge_here(&Purge::Everything);
        }
    }

    /// Follows what other hosts purge, until `stop` is cancelled.
    pub async fn follow(&self, stop: CancellationToken) {
        let Some(remote) = &self.0.remote else { return };
        let turn = Duration::from_millis(self.0.config.notice_ms.max(10));
        loop {
            let parts = self.all_parts();
            // What is not reached now is reached later; nothing is missed, because purges are numbered.
            let _ = remote.catch_up(&parts).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(turn) => {}
            }
        }
    }

    /// What each plugin has, by name.
    pub fn figures(&self) -> Vec<Figures> {
        let parts = self.0.parts.read();
        let parts = parts.unwrap_or_else(PoisonError::into_inner);
        let figures = parts.iter().map(|(plugin, part)| Figures {
            plugin: plugin.clone(),
            entries: part.entries(),
            bytes: part.bytes() as u64,
            evictions: part.evictions(),
        });
        let mut figures: Vec<_> = figures.collect();
        figures.sort_by(|one, other| one.plugin.cmp(&other.plugin));
        figures
    }

    /// Forgets all of a plugin that is gone.
    pub async fn remove(&self, plugin: &PluginName) {
        self.purge(&self.part(plugin), &Purge::Everything).await;
        let mut parts = self.0.parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.remove(plugin);
    }

    /// Has an answer made anew while the old one is given out. False if too many are being made already.
    pub fn renew(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(permit) = Arc::clone(&self.0.renewals).try_acquire_owned() else {
            return false;
        };
        self.run(async move {
            work.await;
            drop(permit);
        });
        true
    }

    /// Has work done that must not end with the request that it began in.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.tasks.spawn(work)
    }

    /// Waits for what is being done.
    pub async fn close(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn all_parts(&self) -> Vec<Arc<Part>> {
        let parts = self.0.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts.values().cloned().collect()
    }

    /// While there is too much in all, who has most gives something back.
    fn make_room(&self) {
        let inner = &*self.0;
        while inner.bytes.load(Relaxed) > inner.config.bytes_max {
            let parts = inner.parts.read().unwrap_or_else(PoisonError::into_inner);
            let largest = parts.values().max_by_key(|part| part.bytes()).cloned();
            drop(parts);
            let excess = inner
                .bytes
                .load(Relaxed)
                .saturating_sub(inner.config.bytes_max);
            if !largest.is_some_and(|part| part.give_back(excess)) {
                return;
            }
        }
    }
}
