//! Slows down guessing: after some failed logins, an account and a client must wait, longer each time. Nobody is
//! locked out for good, and waiting attempts do not make the wait longer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use sha2::Digest as _;

use crate::auth::{Config, Error};

const FIRST_WAIT_MS: i64 = 1000;
/// How long a client is remembered that has logged in to an account.
const TRUSTED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// Counts failed logins. Accounts that do not exist count like others, so that nobody learns which do.
pub(super) struct Throttle {
    /// The least recently seen is forgotten first: making others be forgotten costs as many slow logins.
    table: Cache<[u8; 32], Arc<Mutex<Attempts>>>,
    /// Clients that have logged in to an account before. They count by themselves, so that strangers who guess at the
    /// account cannot keep its owner out.
    trusted: Cache<[u8; 32], ()>,
    account_free: u32,
    client_free: u32,
    wait_ms_max: i64,
    memory_ms: i64,
}

/// Both parties to a login. Digests, so that the table holds no e-mail address.
pub(super) struct Parties {
    account: [u8; 32],
    client: [u8; 32],
    /// This account from this client.
    both: [u8; 32],
}

#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    last_ms: i64,
    wait_until_ms: i64,
}

impl Throttle {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            table: Cache::builder()
                .max_capacity(config.login_table_max)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            trusted: Cache::builder()
                .max_capacity(config.login_table_max)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(TRUSTED_FOR)
                .build(),
            account_free: config.account_failures_free,
            client_free: config.client_failures_free,
            wait_ms_max: i64::from(config.login_wait_ms_max),
            memory_ms: i64::from(config.login_memory_ms),
        }
    }

    /// `TooManyAttempts` if the account or the client has to wait.
    pub(super) fn check(&self, parties: &Parties, now_ms: i64) -> Result<(), Error> {
        let wait_ms = |key| {
            let attempts = self.table.get(key);
            attempts.map_or(0, |attempts| lock(&attempts).wait_until_ms - now_ms)
        };
        let account = self.account_of(parties);
        match wait_ms(&account).max(wait_ms(&parties.client)) {
            ..=0 => Ok(()),
            wait_ms => {
                let retry_after_s = wait_ms.unsigned_abs().div_ceil(1000);
                Err(Error::TooManyAttempts { retry_after_s })
            }
        }
    }

    pub(super) fn fail(&self, parties: &Parties, now_ms: i64) {
        self.count(self.account_of(parties), self.account_free, now_ms);
        self.count(parties.client, self.client_free, now_ms);
    }

    /// Forgets the account's failures. The client's stay: otherwise a login to one's own account would wipe out
    /// guesses at others.
    pub(super) fn succeed(&self, parties: &Parties) {
        self.table.invalidate(&self.account_of(parties));
        self.trusted.insert(parties.both, ());
    }

    /// What the failures of an account are counted under.
    fn account_of(&self, parties: &Parties) -> [u8; 32] {
        if self.trusted.contains_key(&parties.both) {
            parties.both
        } else {
            parties.account
        }
    }

    fn count(&self, key: [u8; 32], free: u32, now_ms: i64) {
        let attempts = self.table.get_with(key, Default::default);
        let mut attempts = lock(&attempts);
        if now_ms - attempts.last_ms > self.memory_ms {
            *attempts = Attempts::default();
        }
        attempts.failures = attempts.failures.saturating_add(1);
        attempts.last_ms = now_ms;
        if attempts.failures >= free {
            let doublings = (attempts.failures - free).min(30);
            let wait_ms = (FIRST_WAIT_MS << doublings).min(self.wait_ms_max);
            attempts.wait_until_ms = now_ms + wait_ms;
        }
    }
}

impl Parties {
    pub(super) fn new(email: &str, client: &str) -> Self {
        let digest = |space: &str, name: &str| {
            sha2::Sha256::new()
                .chain_update(space)
                .chain_update(name)
                .finalize()
                .into()
        };
        Self {
            account: digest("account ", email),
            client: digest("client ", client),
            // An address of a client has no blank.
            both: digest("both ", &format!("{client} {email}")),
        }
    }

    /// Tells accounts apart for those who count, without saying which they are.
    pub(super) fn mark(&self) -> u64 {
        self.account
            .first_chunk()
            .map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// Counters cannot be half changed, so a poisoned lock is still good.
fn lock(attempts: &Mutex<Attempts>) -> MutexGuard<'_, Attempts> {
    attempts.lock().unwrap_or_else(PoisonError::into_inner)
}
