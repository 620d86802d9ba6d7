//! Mail that the host sends: kept in an outbox until a mail server has taken it. What it says is for those to know who
//! write it.

mod config;
mod smtp;
mod store;

pub use config::{Config, Password, Tls};

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::db::{Db, Transaction};
use crate::seal::Seal;

use smtp::{Failure, Smtp};

/// Longest the sender sleeps without looking into the outbox: another process may have put something there.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a message stays with a sender that does not say what came of it.
const LEASE_MS: i64 = 5 * 60_000;

/// Why mail cannot be sent or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the settings of `mail` cannot be used: {0}")]
    Config(String),
    #[error("no mail server is set (`mail.server`)")]
    Off,
    #[error("{waiting_max} messages wait to be sent (`mail.waiting_max`)")]
    Full { waiting_max: u32 },
    #[error("the rows of mail cannot be read or written")]
    Rows(#[from] sqlx::Error),
}

/// A message in plain text.
#[derive(Clone, Serialize, Deserialize)]
pub struct Letter {
    /// One address.
    pub to: String,
    pub subject: String,
    pub text: String,
}

/// The outbox and its sender. Cheap to clone.
#[derive(Clone)]
pub struct Mail {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    seal: Seal,
    clock: Clock,
    config: Config,
    /// None if there is no mail server.
    smtp: Option<Smtp>,
    wake: Notify,
}

impl Mail {
    /// An outbox in these rows, sealed with this key. Reads the file with the password, if there is one.
    pub fn new(db: Db, key: [u8; 32], clock: Clock, config: Config) -> Result<Self, Error> {
        let smtp = config.is_on().then(|| Smtp::new(&config)).transpose()?;
        let inner = Inner {
            db,
            seal: Seal::new(key),
            clock,
            config,
            smtp,
            wake: Notify::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether mail can be sent.
    pub fn is_on(&self) -> bool {
        self.inner.smtp.is_some()
    }

    /// Puts a message into the outbox, in the transaction of what it tells of: it is sent if and only if that is
    /// committed. After `useful_ms` it is of no use any more and not sent. `Off`, `Full`. Call [`Mail::wake`] after
    /// the commit.
    pub async fn post(
        &self,
        transaction: &mut Transaction,
        letter: &Letter,
        useful_ms: Option<i64>,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        if !self.is_on() {
            return Err(Error::Off);
        }
        let id = uuid::Uuid::now_v7().to_string();
        let now_ms = inner.clock.now_ms();
        let keep_ms = i64::from(inner.config.keep_hours) * 3_600_000;
        let until_ms = now_ms + useful_ms.unwrap_or(keep_ms).min(keep_ms);
        let plain = serde_json::to_vec(letter).unwrap_or_default();
        let sealed = inner.seal.close(&id, &plain);
        let waiting_max = inner.config.waiting_max;
        let is_kept =
            store::insert(transaction, &id, &sealed, until_ms, now_ms, waiting_max).await?;
        if is_kept {
            Ok(())
        } else {
            Err(Error::Full { waiting_max })
        }
    }

    /// Says that there is something new in the outbox.
    pub fn wake(&self) {
        self.inner.wake.notify_one();
    }

    /// How many messages wait to be sent.
    pub async fn count_waiting(&self) -> Result<u64, Error> {
        let count = store::count(&self.inner.db).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Sends what is in the outbox until it is told to stop. A server that is away is tried again, with growing pauses, for
    /// as long as it takes.
    pub async fn run(&self, stop: CancellationToken) {
        if !self.is_on() {
            return;
        }
        let mut failures = 0;
        loop {
            let pause = match self.send_due(&stop).await {
                Ok(Round::Sent) => {
                    failures = 0;
                    continue;
                }
                Ok(Round::Empty(pause)) => pause,
                Ok(Round::ServerFails(cause)) => {
                    failures += 1;
                    let pause = self.pause(failures);
                    let ms = pause.as_millis();
                    tracing::warn!(
                        error.cause = %cause, retry_ms = %ms,
                        "The mail server cannot be used; mail waits"
                    );
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(pause) => continue,
                    }
                }
                Err(error) => {
                    tracing::error!(error.cause = %error, "The outbox cannot be read or written");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn send_due(&self, stop: &CancellationToken) -> Result<Round, sqlx::Error> {
        let inner = &self.inner;
        let now_ms = inner.clock.now_ms();
        let limit = inner.config.connections_max;
        let due = store::claim(&inner.db, now_ms, LEASE_MS, limit).await?;
        if due.is_empty() {
            let next_ms = store::next_due_ms(&inner.db).await?;
            let pause_ms = next_ms.map_or(u64::MAX, |at_ms| (at_ms - now_ms).max(1).unsigned_abs());
            return Ok(Round::Empty(
                Duration::from_millis(pause_ms).min(LOOK_EVERY),
            ));
        }
        let mut sending = JoinSet::new();
        for due in due {
            let mail = self.clone();
            sending.spawn(async move { mail.send(due).await });
        }
        let mut round = Round::Sent;
        while let Some(done) = sending.join_next().await {
            if let Ok(Some(cause)) = done.unwrap_or(Ok(None)) {
                round = Round::ServerFails(cause);
            }
        }
        // What is being sent is sent; the rest is there after the next start.
        if stop.is_cancelled() {
            return Ok(Round::Empty(Duration::ZERO));
        }
        Ok(round)
    }

    /// Sends one message and notes what came of it. Says so if the server cannot be used.
    async fn send(&self, due: store::Due) -> Result<Option<String>, sqlx::Error> {
        let inner = &self.inner;
        let (db, id) = (&inner.db, due.id.as_str());
        let now_ms = inner.clock.now_ms();
        if now_ms >= due.until_ms {
            tracing::warn!(mail.id = id, tries = due.tries, "A message was given up");
            store::delete(db, id).await?;
            return Ok(None);
        }
        let letter = inner.seal.open(id, &due.sealed).ok();
        let letter = letter.and_then(|plain| serde_json::from_slice::<Letter>(&plain).ok());
        let (Some(letter), Some(smtp)) = (letter, &inner.smtp) else {
            tracing::error!(mail.id = id, "A message cannot be read; it is removed");
            store::delete(db, id).await?;
            return Ok(None);
        };
        match smtp.send(id, &letter).await {
            Ok(()) => {
                tracing::debug!(mail.id = id, tries = due.tries, "A message was sent");
                store::delete(db, id).await?;
                Ok(None)
            }
            Err(Failure::Message(cause)) => {
                tracing::warn!(mail.id = id, error.cause = %cause, "A message was refused for good");
                store::delete(db, id).await?;
                Ok(None)
            }
            Err(Failure::Later(cause)) => {
                tracing::info!(mail.id = id, error.cause = %cause, "A message was refused for now");
                let pause_ms = i64::try_from(self.pause(due.tries).as_millis()).unwrap_or(i64::MAX);
                store::put_off(db, id, now_ms.saturating_add(pause_ms)).await?;
                Ok(None)
            }
            Err(Failure::Server(cause)) => {
                // It is not the message's fault: it is due when the server is there again.
                store::put_off(db, id, now_ms).await?;
                Ok(Some(cause))
            }
        }
    }

    /// The pause after so many failures, a little different each time.
    fn pause(&self, failures: u32) -> Duration {
        let config = &self.inner.config;
        let doublings = failures.saturating_sub(1).min(20);
        let ms = config.retry_first_ms.saturating_mul(1 << doublings);
        let ms = ms.min(config.retry_max_ms);
        let jitter = rand::random_range(0..=ms / 5);
        Duration::from_millis(ms - jitter)
    }
}

/// What came of one look into the outbox.
enum Round {
    Sent,
    /// Nothing is due before this pause is over.
    Empty(Duration),
    ServerFails(String),
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mail")
    }
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter")
    }
}
