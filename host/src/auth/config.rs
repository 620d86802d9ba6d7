//! What the operator may decide about accounts, tokens and logins.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::auth::{ADMIN, Error, Issuer, Provider, Registration, TokenAlgorithm, providers};
use crate::ids::RoleName;

/// Accounts, access tokens and logins.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an access token is good for, 1 to 60. Default: 15.
    pub access_token_minutes: u32,
    /// After how many days another key signs access tokens; 0: only when somebody says so. At most 3650. Default: 90.
    pub token_key_days: u32,
    /// How new keys sign: `EdDSA` or `ES256`. Default: `EdDSA`.
    pub token_key_algorithm: TokenAlgorithm,
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
    /// Whose access tokens are taken, too: `[[auth.issuers]]` with `issuer`, `jwks_url`, `audience`, and if need be
    /// `algorithms`, `roles`, `skew_s`, `refresh_s`. Default: none.
    pub issuers: Vec<Issuer>,
    /// How often this host looks for what other issuers have revoked on the server that hosts share (`[cluster]`), in
    /// milliseconds, 10 to 60000. Default: 250.
    pub revocation_notice_ms: u32,
    /// Where people can log in instead: `[[auth.providers]]` with `name`, `kind` (`oidc`, `google`, `facebook`), `client_id`,
    /// with `oidc` the `issuer`, and if need be `title`, `client_secret_file` (or `client_secret_env`, `client_secret`),
    /// `scopes`, `email_domains`, `may_sign_up`, `roles`, `links_by_email`, `algorithms`, `skew_s`; with `facebook`
    /// `authorization_url`, `token_url`, `profile_url`. Default: none.
    pub providers: Vec<Provider>,
    /// Where people reach this host, for example `https://example.com`. Providers send them back there. Default: empty;
    /// needed with providers.
    pub public_url: String,
    /// Pages of this host where a login at a provider may end; `/app/*` stands for all below `/app/`. The first one is
    /// where it ends if nothing is said. Default: `["/"]`.
    pub return_paths: Vec<String>,
    /// Addresses of apps where such a login may end with a code, letter by letter, for example `com.example.app:/login`.
    /// Default: none.
    pub return_apps: Vec<String>,
    /// How long after a login its user may link and unlink logins elsewhere without a password, 1 to 60. Default: 10.
    pub fresh_login_minutes: u32,
    /// Linked logins of one account. Default: 10.
    pub identities_per_user_max: u32,
    /// How long a provider may take for one answer, 100 to 60000. Default: 10000.
    pub provider_timeout_ms: u32,
    /// Logins that may wait for one provider at the same time; further ones are told to come back. Default: 64.
    pub provider_calls_max: usize,
    /// How often providers are asked for their addresses and keys, in minutes, 1 to 1440; also when a token names a key that
    /// is not known, but not more often than every ten seconds. Default: 60.
    pub provider_refresh_minutes: u32,
    /// Logins at providers that have ended and are remembered for ten minutes, so that none ends twice. Default: 100000.
    pub used_attempts_max: u32,
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
    /// Whether passwords are hashed in processes apart, which get only what nobody else wants of the processors. On a machine
    /// that is never idle, and without this, they are hashed on threads that are served after the others. Default: true.
    pub hash_apart: bool,
    /// The program to start as `PROGRAM hash` for it. Default: the program that is running.
    pub hash_program: Option<PathBuf>,
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
    /// Who may open an account: `off` (administrators make them), `open` (everybody) or `confirmed` (everybody who can read
    /// mail to the address; needs `[mail]`). Default: `off`.
    pub registration: Registration,
    /// Roles of accounts that people open themselves. Default: none.
    pub registration_roles: Vec<RoleName>,
    /// What mail calls the service. Default: `Gantry`.
    pub service_name: String,
    /// The page that mail about a new account leads to, for example `https://example.com/confirm?code={code}`. It gives the
    /// code to `POST /register/confirm`. Default: empty, the mail has the code itself.
    pub confirm_link: String,
    /// The same for a forgotten password and `POST /password/reset/confirm`. Default: empty.
    pub reset_link: String,
    /// How long a code for a new account is good, in hours, 1 to 168. Default: 24.
    pub confirm_hours: u32,
    /// How long a code for a forgotten password is good, in minutes, 5 to 1440. Default: 30.
    pub reset_minutes: u32,
    /// How often one code may be tried, at least 1. Default: 5.
    pub code_tries_max: u32,
    /// Messages with codes to one address within an hour; further ones are not sent. Default: 3.
    pub codes_per_hour_max: u32,
    /// Codes that are kept for each purpose (new accounts, forgotten passwords, logins at providers, messages that were sent
    /// without a code); beyond it, the oldest is forgotten. Default: 10000.
    pub codes_max: u32,
    /// Requests that must not tell whether there is an account are answered after a multiple of this time, at most 5000.
    /// Default: 250.
    pub even_answer_ms: u32,
    /// Most accounts; all are known in memory, at about 300 bytes each. Default: 100000.
    pub users_max: usize,
    /// Most API keys. Default: 10000.
    pub api_keys_max: usize,
    /// Most accounts of programs. Default: 1000.
    pub service_accounts_max: usize,
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
            token_key_days: 90,
            token_key_algorithm: TokenAlgorithm::EdDsa,
            session_days: 30,
            session_idle_hours: 7 * 24,
            sessions_per_user_max: 20,
            refresh_grace_ms: 10_000,
            refresh_queue_max: 4096,
            issuer: "gantry".to_owned(),
            audience: "gantry".to_owned(),
            issuers: Vec::new(),
            revocation_notice_ms: 250,
            providers: Vec::new(),
            public_url: String::new(),
            return_paths: vec!["/".to_owned()],
            return_apps: Vec::new(),
            fresh_login_minutes: 10,
            identities_per_user_max: 10,
            provider_timeout_ms: 10_000,
            provider_calls_max: 64,
            provider_refresh_minutes: 60,
            used_attempts_max: 100_000,
            verified_tokens_max: 10_000,
            argon2_memory_kib: 19 * 1024,
            argon2_iterations: 2,
            argon2_parallelism: 1,
            hash_concurrency_max: 2,
            hash_apart: true,
            hash_program: None,
            hash_queue_max: 64,
            password_chars_min: 8,
            password_bytes_max: 128,
            account_failures_free: 5,
            client_failures_free: 20,
            login_wait_ms_max: 300_000,
            login_memory_ms: 900_000,
            login_table_max: 20_000,
            registration: Registration::Off,
            registration_roles: Vec::new(),
            service_name: "Gantry".to_owned(),
            confirm_link: String::new(),
            reset_link: String::new(),
            confirm_hours: 24,
            reset_minutes: 30,
            code_tries_max: 5,
            codes_per_hour_max: 3,
            codes_max: 10_000,
            even_answer_ms: 250,
            users_max: 100_000,
            api_keys_max: 10_000,
            service_accounts_max: 1000,
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
        let has_code = |link: &str| link.is_empty() || link.contains("{code}");
        let mut rules = rules.to_vec();
        rules.extend([
            (
                self.token_key_days <= 3650,
                "`token_key_days` must be at most 3650",
            ),
            (
                has_code(&self.confirm_link) && has_code(&self.reset_link),
                "`confirm_link` and `reset_link` must have `{code}` in them",
            ),
            (
                (1..=168).contains(&self.confirm_hours),
                "`confirm_hours` must be 1 to 168",
            ),
            (
                (5..=1440).contains(&self.reset_minutes),
                "`reset_minutes` must be 5 to 1440",
            ),
            (
                self.code_tries_max > 0 && self.codes_per_hour_max > 0 && self.codes_max > 0,
                "`code_tries_max`, `codes_per_hour_max` and `codes_max` must be at least 1",
            ),
            (
                (10..=60_000).contains(&self.revocation_notice_ms),
                "`revocation_notice_ms` must be 10 to 60000",
            ),
            (
                self.even_answer_ms <= 5000,
                "`even_answer_ms` must be at most 5000",
            ),
            (
                !self.registration_roles.iter().any(|role| role.as_str() == ADMIN),
                "`registration_roles` must not have `admin` in it: everybody could give it to themselves",
            ),
        ]);
        let is_first = |(at, issuer): (usize, &Issuer)| {
            let mut before = self.issuers.iter().take(at);
            before.all(|other| other.issuer != issuer.issuer)
        };
        rules.push((
            self.issuers.iter().enumerate().all(is_first),
            "two `[[auth.issuers]]` have the same `issuer`: only one could count, so write it once",
        ));
        let mistakes = self.issuers.iter();
        let mistakes = mistakes.filter_map(|issuer| issuer.mistake(&self.issuer));
        rules.extend(mistakes.map(|mistake| (false, mistake)));
        let mut broken: Vec<_> = rules
            .iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, rule)| (*rule).to_owned())
            .collect();
        broken.extend(providers::mistakes(self));
        if broken.is_empty() {
            Ok(())
        } else {
            Err(Error::Config(broken.join("; ")))
        }
    }

    /// Every role that these settings give to somebody, with the setting that does.
    pub(super) fn given_roles(&self) -> impl Iterator<Item = (String, &RoleName)> {
        let own = self.registration_roles.iter();
        let own = own.map(|role| ("`auth.registration_roles`".to_owned(), role));
        let providers = self.providers.iter().flat_map(|provider| {
            let setting = format!("`roles` of `{}` in `auth.providers`", provider.name);
            provider
                .roles
                .iter()
                .map(move |role| (setting.clone(), role))
        });
        let issuers = self.issuers.iter().flat_map(|issuer| {
            let setting = format!("`roles` of `{}` in `auth.issuers`", issuer.issuer);
            issuer.roles.iter().map(move |role| (setting.clone(), role))
        });
        own.chain(providers).chain(issuers)
    }

    /// Refuses what needs mail where there is none.
    pub fn check_mail(&self, is_on: bool) -> Result<(), Error> {
        if self.registration == Registration::Confirmed && !is_on {
            let rule = "`registration = \"confirmed\"` needs a mail server (`mail.server`)";
            return Err(Error::Config(rule.to_owned()));
        }
        Ok(())
    }

    /// The times at which even answers are given.
    pub(super) fn beat(&self) -> Duration {
        Duration::from_millis(self.even_answer_ms.into())
    }

    pub(super) fn argon2_params(&self) -> Result<argon2::Params, argon2::Error> {
        let (memory, passes) = (self.argon2_memory_kib, self.argon2_iterations);
        argon2::Params::new(memory, passes, self.argon2_parallelism, None)
    }
}
