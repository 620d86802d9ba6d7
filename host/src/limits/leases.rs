//! Calls in progress on the shared server. Each is a lease there: a host that dies leaves nothing for longer than that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Script, cmd};

/// How long a call counts of which nothing is heard.
pub(super) const LEASE: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);
/// Commands that are sent without waiting for one another.
const BATCH: usize = 256;

/// A lease that is lost, because the server came back empty, is made anew.
const RENEW_SCRIPT: &str = "\
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1000)
return 1
";

/// The leases of this host. There are as many as calls in progress.
#[derive(Debug)]
pub(super) struct Leases {
    open: Mutex<Book>,
    has_ended: Notify,
    script: Script,
}

#[derive(Debug, Default)]
struct Book {
    open: HashMap<u128, Vec<String>>,
    ended: Vec<(u128, Vec<String>)>,
}

impl Leases {
    pub(super) fn new() -> Self {
        Self {
            open: Mutex::default(),
            has_ended: Notify::new(),
            script: Script::new(RENEW_SCRIPT),
        }
    }

    /// A lease with this id is on the server, in these keys.
    fn begin(&self, id: u128, keys: Vec<String>) {
        self.book().open.insert(id, keys);
    }

    /// A lease that may be on the server soon, or not: whoever asks for it may be gone before the answer is there.
    pub(super) fn expect(self: &Arc<Self>, id: u128, keys: Vec<String>) -> Expected {
        Expected {
            leases: Arc::clone(self),
            id,
            keys,
        }
    }

    /// A call is over. The server is told soon.
    pub(super) fn end(&self, id: u128) {
        let mut book = self.book();
        if let Some(keys) = book.open.remove(&id) {
            book.ended.push((id, keys));
            drop(book);
            self.has_ended.notify_one();
        }
    }

    /// Tells the server what is over and what still goes on, until `stop` is cancelled.
    pub(super) async fn run(&self, cluster: &Cluster, stop: CancellationToken) {
        let mut renew = tokio::time::interval(RENEW);
        renew.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What has ended by now is told first.
                biased;
                () = self.has_ended.notified() => self.tell_ended(cluster).await,
                () = stop.cancelled() => return self.tell_ended(cluster).await,
                _ = renew.tick() => self.renew(cluster).await,
            }
        }
    }

    /// What cannot be told now is not told: the lease ends by itself.
    async fn tell_ended(&self, cluster: &Cluster) {
        let ended = std::mem::take(&mut self.book().ended);
        for batch in ended.chunks(BATCH) {
            let commands = batch.iter().flat_map(|(id, keys)| {
                keys.iter().map(move |key| async move {
                    let mut remove = cmd("ZREM");
                    remove.arg(key).arg(name(*id));
                    let _ = cluster.query::<()>(&remove).await;
                })
            });
            join_all(commands).await;
        }
    }

    async fn renew(&self, cluster: &Cluster) {
        let open: Vec<(u128, Vec<String>)> = {
            let book = self.book();
            let open = book.open.iter();
            open.map(|(id, keys)| (*id, keys.clone())).collect()
        };
        for batch in open.chunks(BATCH) {
            let commands = batch.iter().flat_map(|(id, keys)| {
                keys.iter().map(move |key| async move {
                    // It may have ended while others were renewed.
                    if self.book().open.contains_key(id) {
                        let keys = std::slice::from_ref(key);
                        let renewed = cluster.run_script::<u64>(&self.script, keys, |command| {
                            command.arg(name(*id)).arg(micros(LEASE));
                        });
                        let _ = renewed.await;
                    }
                })
            });
            join_all(commands).await;
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease that is taken from the server again when this is dropped, unless it is kept.
pub(super) struct Expected {
    leases: Arc<Leases>,
    id: u128,
    keys: Vec<String>,
}

impl Expected {
    /// The answer is there: these of its keys have the lease.
    pub(super) fn keep(mut self, held: impl Fn(&str) -> bool) -> bool {
        let keys = std::mem::take(&mut self.keys);
        let held: Vec<String> = keys.into_iter().filter(|key| held(key)).collect();
        if held.is_empty() {
            return false;
        }
        self.leases.begin(self.id, held);
        true
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let keys = std::mem::take(&mut self.keys);
        if !keys.is_empty() {
            self.leases.book().ended.push((self.id, keys));
            self.leases.has_ended.notify_one();
        }
    }
}

/// What a lease is called on the server.
pub(super) fn name(id: u128) -> String {
    format!("{id:032x}")
}

/// As the scripts count time.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
