//! The part of one plugin: its entries within its bytes, who has them made, and what was purged.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use moka::{Expiry, notification::RemovalCause, sync::Cache};

use crate::cache::flight::Flights;
use crate::cache::index::{Index, Purge, Stamp};
use crate::cache::{Config, Entry, Key, NewEntry, Turn};
use crate::clock::Clock;
use crate::ids::PluginName;

/// Why something is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is longer than an entry may be")]
    TooLong,
    #[error("something that it depends on was purged while it was made")]
    Purged,
}

/// What one plugin has in the cache.
#[derive(Debug)]
pub struct Part {
    entries: Cache<Key, Arc<Entry>>,
    counts: Arc<Counts>,
    index: Arc<Index>,
    flights: Arc<Flights>,
    clock: Clock,
    entry_bytes_max: usize,
    next_id: AtomicU64,
    plugin: PluginName,
    shared: Mutex<Shared>,
}

/// What this host knows of the purges of others.
#[derive(Debug, Default)]
struct Shared {
    /// The number of the last one that was seen, if it was ever asked for.
    seen: Option<u64>,
    /// Those of this host that could not be told the others yet.
    untold: VecDeque<Purge>,
}

/// Purges that wait to be told the others. With more of them everything is purged there.
const UNTOLD_MAX: usize = 256;

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    evictions: AtomicU64,
    /// Of all parts.
    total: Arc<AtomicUsize>,
}

/// Entries go by themselves when they are of no use any more.
struct Usefulness;

impl Expiry<Key, Arc<Entry>> for Usefulness {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: Instant) -> Option<Duration> {
        Some(entry.useful())
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.useful())
    }
}

impl Part {
    pub(super) fn new(
        plugin: PluginName,
        config: &Config,
        clock: Clock,
        total: Arc<AtomicUsize>,
    ) -> Self {
        let counts = Arc::new(Counts {
            total,
            ..Counts::default()
        });
        let index = Arc::<Index>::default();
        let (counted, indexed) = (Arc::clone(&counts), Arc::clone(&index));
        let entries = Cache::builder()
            .max_capacity(config.bytes_per_plugin_max as u64)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes()).unwrap_or(u32::MAX))
            .expire_after(Usefulness)
            .eviction_listener(move |key: Arc<Key>, entry: Arc<Entry>, cause| {
                indexed.leave(*key, entry.id, &entry.marks);
                counted.bytes.fetch_sub(entry.bytes(), Relaxed);
                counted.total.fetch_sub(entry.bytes(), Relaxed);
                if cause == RemovalCause::Size {
                    counted.evictions.fetch_add(1, Relaxed);
                }
            })
            .build();
        Self {
            entries,
            counts,
            index,
            flights: Arc::new(Flights::new(config.waiting_max)),
            clock,
            entry_bytes_max: config.entry_bytes_max,
            next_id: AtomicU64::new(0),
            plugin,
            shared: Mutex::default(),
        }
    }

    /// What is kept under this key, fresh or not, if it can be of use.
    pub fn find(&self, key: &Key) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key)?;
        (!entry.is_useless(self.clock.monotonic_ns())).then_some(entry)
    }

    /// The moment now, to be taken before something is made that will be kept.
    pub fn stamp(&self) -> Stamp {
        let seen = self.seen();
        self.index.stamp(seen)
    }

    pub(super) fn put(
        &self,
        key: Key,
        new: NewEntry,
        since: Stamp,
        age: Duration,
    ) -> Result<Arc<Entry>, Refused> {
        if new.body.len() > self.entry_bytes_max {
            return Err(Refused::TooLong);
        }
        let id = self.next_id.fetch_add(1, Relaxed);
        let entry = Arc::new(Entry::new(id, new, self.clock.monotonic_ns(), age));
        if !self.index.enter(key, id, &entry.marks, since) {
            return Err(Refused::Purged);
        }
        let bytes = entry.bytes();
        self.counts.bytes.fetch_add(bytes, Relaxed);
        self.counts.total.fetch_add(bytes, Relaxed);
        self.entries.insert(key, Arc::clone(&entry));
        // A purge between the two has found the key in the index, but not yet in the table.
        if self.index.was_purged(&entry.marks, since) {
            self.entries.invalidate(&key);
            return Err(Refused::Purged);
        }
        // Now and not when enough has piled up, so that there is never more than there may be.
        self.entries.run_pending_tasks();
        Ok(entry)
    }

    /// Whose part it is.
    pub fn plugin(&self) -> &PluginName {
        &self.plugin
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the last purge on the shared server that was seen here.
    pub(super) fn seen(&self) -> Option<u64> {
        self.shared().seen
    }

    /// Goes on to a purge, unless others were seen meanwhile.
    pub(super) fn has_seen(&self, before: Option<u64>, last: u64) {
        let mut shared = self.shared();
        if shared.seen == before {
            shared.seen = Some(last);
        }
    }

    /// Remembers a purge that the others could not be told.
    pub(super) fn tell_later(&self, purge: Purge) {
        let mut shared = self.shared();
        if shared.untold.len() == UNTOLD_MAX {
            shared.untold.clear();
            shared.untold.push_back(Purge::Everything);
        } else {
            shared.untold.push_back(purge);
        }
    }

    /// A purge that the others were not told yet. Whoever takes it tells them.
    pub(super) fn untold(&self) -> Option<Purge> {
        self.shared().untold.pop_front()
    }

    /// Throws away one entry, and says whether there was one.
    pub(super) fn remove(&self, key: &Key) -> bool {
        let found = self.find(key);
        self.entries.invalidate(key);
        found.is_some()
    }

    /// Throws away what is meant, and keeps nothing of it that is being made now. Tells how many entries went.
    pub(super) fn purge_here(&self, purge: &Purge) -> u64 {
        let keys = self.index.purge(purge);
        let keys = keys.unwrap_or_else(|| self.entries.iter().map(|(key, _)| *key).collect());
        let mut count = 0;
        for key in keys {
            count += u64::from(self.entries.remove(&key).is_some());
        }
        self.entries.run_pending_tasks();
        count
    }

    /// Lets one request have the answer made, and the others like it wait.
    pub fn join(&self, key: Key) -> Turn {
        self.flights.join(key)
    }

    /// Entries, those included that have expired and were not removed yet.
    pub(super) fn entries(&self) -> u64 {
        self.entries.entry_count()
    }

    pub(super) fn bytes(&self) -> usize {
        self.counts.bytes.load(Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.counts.evictions.load(Relaxed)
    }

    /// Throws away entries of at least so many bytes; false if there is nothing.
    pub(super) fn give_back(&self, bytes: usize) -> bool {
        let mut left = bytes;
        let mut is_any = false;
        for (key, entry) in &self.entries {
            self.entries.invalidate(&*key);
            self.counts.evictions.fetch_add(1, Relaxed);
            is_any = true;
            left = left.saturating_sub(entry.bytes());
            if left == 0 {
                break;
            }
        }
        is_any
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let bytes = self.counts.bytes.load(Relaxed);
        self.counts.total.fetch_sub(bytes, Relaxed);
    }
}
