//! Revocations that reach other hosts: this one tells, on the server that they share, which of its sessions and users have no
//! good access tokens any more, and learns the same of the issuers whose tokens it takes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::cluster::{self, Cluster, Script, cmd};
use crate::ids::{SessionId, UserId};

/// Most revocations that wait for the shared server while it cannot be reached. The oldest are given up first: their tokens
/// expire first.
const UNTOLD_MAX: usize = 10_000;
/// How many are read at once.
const READ_MAX: usize = 500;
/// The name of the stream on the shared server.
const STREAM: &str = "auth:revoked";

/// Adds one, and lets go of those that are older than any token. By the clock of the server: those of hosts differ.
const TELL: &str = "
local time = redis.call('TIME')
local oldest = time[1] * 1000 - ARGV[1]
redis.call('XADD', KEYS[1], 'MINID', '~', string.format('%.0f', oldest), '*', unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
";

/// What others should know, until they do.
#[derive(Default)]
pub(super) struct Untold {
    waiting: Mutex<VecDeque<Revocation>>,
    /// False where no server is shared, so that nothing is kept for nobody.
    is_asked_for: AtomicBool,
    wake: Notify,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Revocation {
    Session(SessionId),
    /// Tokens of the user count from this generation on; of one who was deleted, from none.
    User(UserId, i64),
}

impl Untold {
    pub(super) fn add(&self, revocations: impl IntoIterator<Item = Revocation>) {
        if !self.is_asked_for.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = self.lock();
        waiting.extend(revocations);
        let over = waiting.len().saturating_sub(UNTOLD_MAX);
        waiting.drain(..over);
        drop(waiting);
        self.wake.notify_one();
    }

    fn first(&self) -> Option<Revocation> {
        self.lock().front().copied()
    }

    fn told(&self) {
        self.lock().pop_front();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Revocation>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Auth {
    /// Tells other hosts what is revoked here, and learns what issuers have revoked there, until `stop` is cancelled. What
    /// cannot be told or asked now is when the server is there again.
    pub async fn share_revocations(self, cluster: Cluster, stop: CancellationToken) {
        let tell = Script::new(TELL);
        self.inner
            .untold
            .is_asked_for
            .store(true, Ordering::Release);
        // What was revoked before the last stop may not have been told.
        let revoked = self.inner.revoked.all().into_iter();
        self.inner.untold.add(revoked.map(Revocation::Session));
        let notice = Duration::from_millis(self.inner.config.revocation_notice_ms.into());
        let mut last = "0".to_owned();
        loop {
            let _ = self.tell(&cluster, &tell).await;
            let _ = self.learn(&cluster, &mut last).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.untold.wake.notified(), if cluster.is_reachable() => {}
                () = tokio::time::sleep(notice) => {}
            }
        }
    }

    async fn tell(&self, cluster: &Cluster, script: &Script) -> Result<(), cluster::Error> {
        let config = &self.inner.config;
        let key = [cluster.key(STREAM)];
        while let Some(revocation) = self.inner.untold.first() {
            // Twice, because clocks differ.
            let kept_ms = self.inner.sessions.access_ms() * 2;
            let () = cluster
                .run_script(script, &key, |command| {
                    command.arg(kept_ms).arg("iss").arg(&config.issuer);
                    match revocation {
                        Revocation::Session(id) => command.arg("sid").arg(id.to_string()),
                        Revocation::User(id, generation) => command
                            .arg("sub")
                            .arg(id.to_string())
                            .arg("generation")
                            .arg(generation),
                    };
                })
                .await?;
            self.inner.untold.told();
        }
        Ok(())
    }

    async fn learn(&self, cluster: &Cluster, last: &mut String) -> Result<(), cluster::Error> {
        if self.inner.config.issuers.is_empty() {
            return Ok(());
        }
        loop {
            let mut command = cmd("XRANGE");
            command.arg(cluster.key(STREAM)).arg(format!("({last}"));
            command.arg("+").arg("COUNT").arg(READ_MAX);
            let entries: Vec<(String, HashMap<String, String>)> = cluster.query(&command).await?;
            let is_all = entries.len() < READ_MAX;
            for (id, told) in entries {
                self.inner.external.learn(&told);
                *last = id;
            }
            if is_all {
                return Ok(());
            }
        }
    }
}
