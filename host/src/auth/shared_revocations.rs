//! Revocations that reach other hosts: this one tells, on the server that they share, which of its sessions, users and keys have
//! no good access tokens any more, and learns the same of the issuers whose tokens it takes.

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

use crate::auth::{Auth, Error, KeyState};
use crate::cluster::{self, Cluster, Script, cmd};
use crate::ids::{SessionId, UserId};
use crate::ledger::{Filter, find};

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
    waiting: Mutex<Waiting>,
    /// False where no server is shared, so that nothing is kept for nobody.
    is_asked_for: AtomicBool,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    revocations: VecDeque<Revocation>,
    /// How many went before the first of them: told, or given up.
    gone: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Revocation {
    Session(SessionId),
    /// Tokens of the user count from this generation on; of one who was deleted, from none.
    User(UserId, i64),
    /// Nothing that the key with this id has signed counts, whenever it says that it ends.
    Key(String),
}

impl Untold {
    pub(super) fn add(&self, revocations: impl IntoIterator<Item = Revocation>) {
        if !self.is_asked_for.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = self.lock();
        waiting.revocations.extend(revocations);
        let over = waiting.revocations.len().saturating_sub(UNTOLD_MAX);
        waiting.revocations.drain(..over);
        waiting.gone += over as u64;
        drop(waiting);
        self.wake.notify_one();
    }

    /// The first, and its number.
    fn first(&self) -> Option<(u64, Revocation)> {
        let waiting = self.lock();
        Some((waiting.gone, waiting.revocations.front()?.clone()))
    }

    /// This one was told. It may have been given up meanwhile, and then another is the first.
    fn told(&self, number: u64) {
        let mut waiting = self.lock();
        if waiting.gone == number && waiting.revocations.pop_front().is_some() {
            waiting.gone += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
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
        let keys = self.list_token_keys().into_iter();
        let keys = keys.filter(|key| key.state == KeyState::Revoked);
        let keys = keys.map(|key| Revocation::Key(key.id));
        self.inner.untold.add(keys);
        match self.users_changed().await {
            Ok(changed) => self.inner.untold.add(changed),
            Err(error) => tracing::error!(
                error.cause = %error,
                "Accounts that were changed before the start are not told to other hosts; their access tokens count there until they expire"
            ),
        }
        let notice = Duration::from_millis(self.inner.config.revocation_notice_ms.into());
        let mut last = "0".to_owned();
        let mut has_missed = false;
        loop {
            let _ = self.tell(&cluster, &tell).await;
            let learned = self.learn(&cluster, &mut last).await;
            // What is told does not stay for ever; keys that were revoked meanwhile are shown no more.
            if learned.is_ok() && has_missed {
                self.inner.external.ask_again();
            }
            has_missed = learned.is_err();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.untold.wake.notified(), if cluster.is_reachable() => {}
                () = tokio::time::sleep(notice) => {}
            }
        }
    }

    /// The users of whom access tokens may be out that count no more.
    async fn users_changed(&self) -> Result<Vec<Revocation>, Error> {
        let inner = &self.inner;
        let since_ms = inner.clock.now_ms() - inner.sessions.access_ms();
        let most = i64::try_from(UNTOLD_MAX).unwrap_or(i64::MAX);
        let changed = inner.store.users_changed_since(since_ms, most).await?;
        // Of who was deleted there is no row. The trail is there also if nothing more is written to it.
        let filter = Filter {
            action: Some("user.deleted".to_owned()),
            since_ms: Some(since_ms),
            limit: most,
            ..Filter::default()
        };
        let deleted = find(inner.store.db.reader(), &filter).await?.into_iter();
        let deleted = deleted.filter_map(|entry| entry.target.parse().ok());
        let deleted = deleted.map(|id| Revocation::User(id, i64::MAX));
        let changed = changed.into_iter();
        let changed = changed.map(|(id, generation)| Revocation::User(id, generation));
        Ok(changed.chain(deleted).collect())
    }

    async fn tell(&self, cluster: &Cluster, script: &Script) -> Result<(), cluster::Error> {
        let config = &self.inner.config;
        let key = [cluster.key(STREAM)];
        while let Some((number, revocation)) = self.inner.untold.first() {
            // Twice, because clocks differ.
            let kept_ms = self.inner.sessions.access_ms() * 2;
            let () = cluster
                .run_script(script, &key, |command| {
                    command.arg(kept_ms).arg("iss").arg(&config.issuer);
                    match &revocation {
                        Revocation::Session(id) => command.arg("sid").arg(id.to_string()),
                        Revocation::User(id, generation) => command
                            .arg("sub")
                            .arg(id.to_string())
                            .arg("generation")
                            .arg(generation),
                        Revocation::Key(id) => command.arg("kid").arg(id),
                    };
                })
                .await?;
            self.inner.untold.told(number);
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
            if is_all && (*last == "0" || !self.ends_before(cluster, last).await?) {
                return Ok(());
            }
            if is_all {
                "0".clone_into(last);
            }
        }
    }

    /// Whether the stream ends before what was read of it last: the server came back empty or is another one, whose clock may
    /// be behind. Then all of it is new.
    async fn ends_before(&self, cluster: &Cluster, last: &str) -> Result<bool, cluster::Error> {
        let mut command = cmd("XREVRANGE");
        command.arg(cluster.key(STREAM)).arg("+").arg("-");
        command.arg("COUNT").arg(1);
        let newest: Vec<(String, HashMap<String, String>)> = cluster.query(&command).await?;
        let newest = newest.first().and_then(|(id, _)| place(id));
        Ok(newest < place(last))
    }
}

/// Where an entry stands in a stream.
fn place(id: &str) -> Option<(u64, u64)> {
    let (time, number) = id.split_once('-')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_while_it_was_told_takes_no_other_with_it() {
        let untold = Untold::default();
        untold.is_asked_for.store(true, Ordering::Release);
        let revocation = |generation| Revocation::User(UserId::new(), generation);
        untold.add((0..UNTOLD_MAX as i64).map(revocation));
        let (number, _) = untold.first().unwrap();
        untold.add([revocation(-1)]);
        untold.told(number);
        assert_eq!(untold.lock().revocations.len(), UNTOLD_MAX);
        let (number, first) = untold.first().unwrap();
        assert!(matches!(first, Revocation::User(_, 1)));
        untold.told(number);
        assert_eq!(untold.lock().revocations.len(), UNTOLD_MAX - 1);
    }

    #[test]
    fn streams_are_in_the_order_of_numbers() {
        assert!(place("9-1") < place("10-0") && place("10-0") < place("10-1"));
        assert!(place("") < place("0-1"));
    }
}
