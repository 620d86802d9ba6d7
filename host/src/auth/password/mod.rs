//! Hashing and checking passwords (argon2id), a few at a time: each takes tens of milliseconds and megabytes, so an
//! unbounded crowd of logins would stop the host. In processes that get what nobody else wants, or else on threads that the
//! system serves after all others, so that a request of microseconds does not wait behind a login.

mod apart;
mod hashing;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use argon2::Argon2;
use prometheus::IntCounter;
use rustix::process::nice;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::auth::password::{
    apart::Apart,
    hashing::{Answer, Question},
};
use crate::auth::{Config, Error};

pub use apart::{HashCosts, hash_child};

/// Hashing takes much less than this, so a place is free again by then.
const RETRY_AFTER_S: u64 = 2;

#[derive(Debug)]
pub(super) struct Passwords {
    argon2: Argon2<'static>,
    threads: Threads,
    apart: Option<Apart>,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue_max: usize,
    chars_min: usize,
    bytes_max: usize,
    hashed: IntCounter,
    /// Of no password: what an unknown account is checked against, so that it takes as long as a known one.
    nobody: String,
}

/// The right to use a processor for hashing, once.
pub(super) struct Turn {
    argon2: Argon2<'static>,
    threads: Handle,
    apart: Option<Apart>,
    permit: OwnedSemaphorePermit,
    hashed: IntCounter,
}

/// What checking a password showed.
pub(super) struct Verdict {
    pub(super) is_right: bool,
    /// The same password under today's parameters, if its hash was made under others.
    pub(super) better_hash: Option<String>,
    /// Keep it until the verdict was acted upon: who comes next must see a failure that went before.
    pub(super) turn: OwnedSemaphorePermit,
}

impl Passwords {
    pub(super) async fn new(config: &Config) -> Result<Self, Error> {
        let params = config
            .argon2_params()
            .map_err(|error| Error::Config(error.to_string()))?;
        let argon2 = Argon2::from(params);
        let mut passwords = Self {
            argon2,
            threads: Threads::start(config.hash_concurrency_max)?,
            apart: None,
            turns: Arc::new(Semaphore::new(config.hash_concurrency_max)),
            waiting: AtomicUsize::new(0),
            queue_max: config.hash_queue_max,
            chars_min: config.password_chars_min,
            bytes_max: config.password_bytes_max,
            hashed: IntCounter::new(
                "gantry_passwords_hashed_total",
                "Passwords that were hashed, to be kept or to be checked.",
            )
            .map_err(|error| Error::Config(error.to_string()))?,
            nobody: String::new(),
        };
        let password = hex::encode(rand::random::<[u8; 16]>());
        let began = Instant::now();
        passwords.nobody = passwords.turn().await?.hash(&password).await?;
        if let Some(program) = config.hash_program.clone().filter(|_| config.hash_apart) {
            let (params, count) = (passwords.argon2.params(), config.hash_concurrency_max);
            passwords.apart = Some(Apart::new(program, params, count, began.elapsed()));
        }
        Ok(passwords)
    }

    /// Refuses passwords that are too short or too long for a new one.
    pub(super) fn check_rules(&self, password: &str) -> Result<(), Error> {
        self.check_length(password)?;
        if password.chars().count() < self.chars_min {
            return Err(Error::PasswordTooShort {
                chars_min: self.chars_min,
            });
        }
        Ok(())
    }

    /// Refuses what is too long to be hashed at all.
    pub(super) fn check_length(&self, password: &str) -> Result<(), Error> {
        let bytes_max = self.bytes_max;
        if password.len() > bytes_max {
            Err(Error::PasswordTooLong { bytes_max })
        } else {
            Ok(())
        }
    }

    /// Waits for a turn; `Busy` if too many wait already.
    pub(super) async fn turn(&self) -> Result<Turn, Error> {
        let permit = match self.turns.clone().try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting, self.queue_max)?;
                self.turns.clone().acquire_owned().await
            }
        };
        let permit = permit.map_err(|_| Error::Busy {
            retry_after_s: RETRY_AFTER_S,
        })?;
        Ok(Turn {
            argon2: self.argon2.clone(),
            threads: self.threads.handle.clone(),
            apart: self.apart.clone(),
            permit,
            hashed: self.hashed.clone(),
        })
    }

    /// How often something was hashed.
    pub(super) fn hashed(&self) -> &IntCounter {
        &self.hashed
    }

    pub(super) fn nobody(&self) -> &str {
        &self.nobody
    }
}

impl Turn {
    pub(super) async fn hash(self, password: &str) -> Result<String, Error> {
        let (answer, _turn) = self.work(Question::new(password, None)).await?;
        // A new password always has one.
        answer
            .hash
            .ok_or(Error::Hash(argon2::password_hash::Error::Crypto))
    }

    pub(super) async fn verify(self, password: &str, stored: &str) -> Result<Verdict, Error> {
        let (answer, turn) = self.work(Question::new(password, Some(stored))).await?;
        Ok(Verdict {
            is_right: answer.is_right,
            better_hash: answer.hash,
            turn,
        })
    }

    async fn work(self, question: Question) -> Result<(Answer, OwnedSemaphorePermit), Error> {
        let Self {
            argon2,
            threads,
            apart,
            permit,
            hashed,
        } = self;
        hashed.inc();
        let work = async move {
            if let Some(apart) = apart
                && let Some(answer) = apart.ask(&question, &threads).await
            {
                return Ok((answer, permit));
            }
            let work = threads.spawn_blocking(move || (question.answer(&argon2), permit));
            let (answer, permit) = work.await?;
            Ok((answer.map_err(Error::Hash)?, permit))
        };
        // It goes on to its end, and keeps its turn until then, even if nobody waits for it any more.
        #[expect(
            clippy::disallowed_methods,
            reason = "has a bound, and a turn until it ends"
        )]
        let work = tokio::spawn(work);
        work.await?
    }
}

/// A thread with this nice value has about a tenth of the weight of the others (`sched(7)`).
const NICE: i32 = 10;

/// The threads that hash.
#[derive(Debug)]
struct Threads {
    /// Until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Threads {
    fn start(count: usize) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(count)
            .thread_name("passwords")
            .on_thread_start(|| {
                if let Err(error) = nice(NICE) {
                    tracing::warn!(%error, "Logins compete with other requests");
                }
            })
            .build()
            .map_err(|error| Error::Config(format!("no threads for passwords: {error}")))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for the last hash would block the thread of somebody else.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Counts one waiting login for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize, max: usize) -> Result<Self, Error> {
        let entered = Self(waiting);
        if waiting.fetch_add(1, Ordering::AcqRel) < max {
            Ok(entered)
        } else {
            Err(Error::Busy {
                retry_after_s: RETRY_AFTER_S,
            })
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
