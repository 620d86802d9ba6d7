//! Whose turn it is at the rows: all plugins share the host's few connections, so each stands there with a few calls at
//! most, and its others wait behind those. A flood by one plugin then lengthens its own queue, and nobody else's.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::ids::PluginName;

/// Plugins that are remembered before those without calls are forgotten.
const PLUGINS_REMEMBERED: usize = 1024;

/// A place at the rows, until it is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// The queues of one service, and how long they are.
#[derive(Debug)]
pub(super) struct Turns {
    plugins: Mutex<HashMap<PluginName, Arc<Queues>>>,
    reads_at_once_max: usize,
    waiting_max: usize,
    wait: Duration,
}

/// What a call is going to do.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

/// Those of one plugin.
#[derive(Debug)]
struct Queues {
    readers: Arc<Semaphore>,
    writer: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Turns {
    /// So many calls of each plugin read at once; one writes. The others wait, so many and so long.
    pub(super) fn new(reads_at_once_max: usize, waiting_max: usize, wait: Duration) -> Self {
        Self {
            plugins: Mutex::default(),
            reads_at_once_max: reads_at_once_max.max(1),
            waiting_max,
            wait,
        }
    }

    /// A turn to read. Nothing if too many calls of this plugin wait, or wait too long.
    pub(super) async fn read(&self, plugin: &PluginName) -> Option<Turn> {
        self.take(plugin, Access::Read).await
    }

    /// A turn to write. Nothing if too many calls of this plugin wait, or wait too long.
    pub(super) async fn write(&self, plugin: &PluginName) -> Option<Turn> {
        self.take(plugin, Access::Write).await
    }

    async fn take(&self, plugin: &PluginName, access: Access) -> Option<Turn> {
        let queues = self.of(plugin);
        let places = match access {
            Access::Read => &queues.readers,
            Access::Write => &queues.writer,
        };
        if let Ok(turn) = places.clone().try_acquire_owned() {
            return Some(turn);
        }
        let waiting = Waiting::join(&queues.waiting);
        if waiting.before >= self.waiting_max {
            return None;
        }
        timeout(self.wait, places.clone().acquire_owned())
            .await
            .ok()?
            .ok()
    }

    fn of(&self, plugin: &PluginName) -> Arc<Queues> {
        let reads = self.reads_at_once_max;
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queues) = plugins.get(plugin) {
            return queues.clone();
        }
        if plugins.len() >= PLUGINS_REMEMBERED {
            plugins.retain(|_, queues| Arc::strong_count(queues) > 1 || queues.is_in_use(reads));
        }
        let queues = Arc::new(Queues {
            readers: Arc::new(Semaphore::new(reads)),
            // More would wait for one another in the database.
            writer: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        });
        plugins.insert(plugin.clone(), queues.clone());
        queues
    }
}

impl Queues {
    fn is_in_use(&self, reads: usize) -> bool {
        self.readers.available_permits() < reads || self.writer.available_permits() < 1
    }
}

/// One more who waits, until it is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicUsize) -> Self {
        let before = count.fetch_add(1, Relaxed);
        Self { count, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}
