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

use super::{Config, busy};
use crate::ids::PluginName;
use crate::services::Error;

/// Plugins that are remembered before those without calls are forgotten.
const PLUGINS_REMEMBERED: usize = 1024;

/// What a call is going to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<PluginName, Arc<Queues>>>);

/// Those of one plugin.
struct Queues {
    readers: Arc<Semaphore>,
    writer: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Turns {
    /// A turn, which lasts until it is dropped. `kv.busy` if too many calls of this plugin wait, or wait too long.
    pub(super) async fn take(
        &self,
        plugin: &PluginName,
        access: Access,
        config: &Config,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let queues = self.of(plugin, config);
        let places = match access {
            Access::Read => &queues.readers,
            Access::Write => &queues.writer,
        };
        if let Ok(turn) = places.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let waiting = Waiting::join(&queues.waiting);
        if waiting.before >= config.waiting_max {
            return Err(busy());
        }
        let wait = Duration::from_millis(config.wait_ms);
        match timeout(wait, places.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    fn of(&self, plugin: &PluginName, config: &Config) -> Arc<Queues> {
        let mut plugins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queues) = plugins.get(plugin) {
            return queues.clone();
        }
        if plugins.len() >= PLUGINS_REMEMBERED {
            plugins.retain(|_, queues| Arc::strong_count(queues) > 1 || queues.is_in_use(config));
        }
        let queues = Arc::new(Queues {
            readers: Arc::new(Semaphore::new(config.reads_at_once_max.max(1))),
            // More would wait for one another in the database.
            writer: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        });
        plugins.insert(plugin.clone(), queues.clone());
        queues
    }
}

impl Queues {
    fn is_in_use(&self, config: &Config) -> bool {
        self.readers.available_permits() < config.reads_at_once_max.max(1)
            || self.writer.available_permits() < 1
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
