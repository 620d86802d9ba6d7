//! What the operator may decide about accounts, tokens and logins.

use serde::{Deserialize, Serialize};

use crate::auth::Error;

/// Accounts, access tokens and logins.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an access token is good for, 1 to 60. Default: 15.
    pub access_token_minutes: u32,
    /// How long a session can last before its user logs in again, in days, 1 to 366. Default: 30.
    pub session_days: u32,
    /// How long a session may go unused before it ends, in hours, 1 to 8784. Default: 168 (7 days).
    pub session_idle_hours: u32,
    /// Sessions of one user; the one not used for longest ends when there are more. Default: 20.
    pub sessions_per_user_max: u32,
    /// How long a refresh token that was exchanged may be sent again, for clients that lost the answer or asked twice at
    /// once, at most 60000. They are given the same next one. Default: 10000.
    pub refresh_grace_ms: u32,
    /// Exchanges of refresh tokens that may wait to be written, at least 1. Default: 4096.
    pub refresh_queue_max: usize,
    /// Who signs access tokens, as a name or an address. Default: `gantry`.
    pub issuer: String,
    /// For whom access tokens are made; a token for somebody else is refused. Default: `gantry`.
    pub audience: String,
    /// Access tokens whose signature need not be checked again. Default: 10000.
    pub verified_tokens_max: u64,
    /// Memory that hashing one password takes. Less than the default makes stolen hashes cheaper to guess.
    /// Default: 19456 (OWASP).
    pub argon2_memory_kib: u32,
    /// Passes over that memory. Default: 2 (OWASP).
    pub argon2_iterations: u32,
    /// Lanes of that memory. Default: 1 (OWASP).
    pub argon2_parallelism: u32,
    /// Passwords hashed at the same time, at least 1. Default: 2.
    pub hash_concurrency_max: usize,
    /// Logins that may wait for their turn to hash; further ones are told to come back. Default: 64.
    pub hash_queue_max: usize,
    /// Shortest password, in characters, at least 8. Default: 8.
    pub password_chars_min: usize,
    /// Longest password, in bytes, at most 1024. Default: 128.
    pub password_bytes_max: usize,
    /// Failed logins an account may have in a row before each further one costs a growing wait. Default: 5.
    pub account_failures_free: u32,
    /// The same for a client, whatever account it tries. Default: 20.
    pub client_failures_free: u32,
    /// Longest wait between two tries. Default: 300000 (5 minutes).
    pub login_wait_ms_max: u32,
    /// After how long without a failed login the count starts again. Default: 900000 (15 minutes).
    pub login_memory_ms: u32,
    /// Accounts and clients with failed logins that are remembered; beyond it, the one not seen for longest is
    /// forgotten. Default: 20000.
    pub login_table_max: u64,
    /// Most accounts; all are known in memory, at about 300 bytes each. Default: 100000.
    pub users_max: usize,
    /// Most API keys. Default: 10000.
    pub api_keys_max: usize,
    /// Most roles. Default: 500.
    pub roles_max: usize,
    /// Most roles of one user or API key. Default: 32.
    pub roles_per_principal_max: usize,
    /// Most permissions of one role. Default: 256.
    pub permissions_per_role_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            access_token_minutes: 15,
            session_days: 30,
            session_idle_hours: 7 * 24,
            sessions_per_user_max: 20,
            refresh_grace_ms: 10_000,
            refresh_queue_max: 4096,
            issuer: "gantry".to_owned(),
            audience: "gantry".to_owned(),
            verified_tokens_max: 10_000,
            argon2_memory_kib: 19 * 1024,
            argon2_iterations: 2,
            argon2_parallelism: 1,
            hash_concurrency_max: 2,
            hash_queue_max: 64,
            password_chars_min: 8,
            password_bytes_max: 128,
            account_failures_free: 5,
            client_failures_free: 20,
            login_wait_ms_max: 300_000,
            login_memory_ms: 900_000,
            login_table_max: 20_000,
            users_max: 100_000,
            api_keys_max: 10_000,
            roles_max: 500,
            roles_per_principal_max: 32,
            permissions_per_role_max: 256,
        }
    }
}

impl Config {
    /// Refuses values that would make the host unsafe or unusable; the message names all of them.
    pub fn check(&self) -> Result<(), Error> {
        let rules = [
            (
                (1..=60).contains(&self.access_token_minutes),
                "`access_token_minutes` must be 1 to 60",
            ),
            (
                (1..=366).contains(&self.session_days),
                "`session_days` must be 1 to 366",
            ),
            (
                (1..=366 * 24).contains(&self.session_idle_hours),
                "`session_idle_hours` must be 1 to 8784",
            ),
            (
                self.sessions_per_user_max > 0,
                "`sessions_per_user_max` must be at least 1",
            ),
            (
                self.refresh_grace_ms <= 60_000,
                "`refresh_grace_ms` must be at most 60000",
            ),
            (
                self.refresh_queue_max > 0,
                "`refresh_queue_max` must be at least 1",
            ),
            (!self.issuer.is_empty(), "`issuer` must not be empty"),
            (!self.audience.is_empty(), "`audience` must not be empty"),
            (
                self.argon2_params().is_ok(),
                "the `argon2_…` values do not fit together",
            ),
            (
                self.argon2_memory_kib <= 1024 * 1024,
                "`argon2_memory_kib` must be at most 1048576 (1 GiB)",
            ),
            (
                self.argon2_iterations <= 100,
                "`argon2_iterations` must be at most 100",
            ),
            (
                (1..=1024).contains(&self.hash_concurrency_max),
                "`hash_concurrency_max` must be 1 to 1024",
            ),
            (
                self.password_chars_min >= 8,
                "`password_chars_min` must be at least 8",
            ),
            (
                (self.password_chars_min..=1024).contains(&self.password_bytes_max),
                "`password_bytes_max` must be between `password_chars_min` and 1024",
            ),
            (
                self.login_wait_ms_max <= self.login_memory_ms,
                "`login_wait_ms_max` must not be above `login_memory_ms`",
            ),
            (
                self.login_table_max > 0,
                "`login_table_max` must be at least 1",
            ),
        ];
        let broken: Vec<_> = rules
            .iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, r)| *r)
            .collect();
        if broken.is_empty() {
            Ok(())
        } else {
            Err(Error::Config(broken.join("; ")))
        }
    }

    pub(super) fn argon2_params(&self) -> Result<argon2::Params, argon2::Error> {
        let (memory, passes) = (self.argon2_memory_kib, self.argon2_iterations);
        argon2::Params::new(memory, passes, self.argon2_parallelism, None)
    }
}
