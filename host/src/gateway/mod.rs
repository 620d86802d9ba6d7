//! The front door of the apps: takes a request, finds the plugin that answers, and sees to all that must hold before and
//! after.

pub mod access_log;
mod accounts;
mod audit;
mod body;
mod cache;
pub mod compression;
mod conditional;
mod cors;
mod credentials;
mod dispatch;
pub mod docs;
pub mod errors;
pub mod files;
mod filters;
mod headers;
pub mod health;
mod key_rate;
mod layers;
mod limits;
mod mock;
mod once;
mod response;
pub mod security;
mod validation;
mod versions;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::auth::Auth;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::gateway::access_log::AccessLog;
use crate::http::address::TrustedProxies;
use crate::http::shares::Shares;
use crate::idempotency::Idempotency;
use crate::ledger::Ledger;
use crate::limits::{Algorithm, KeyKind, Limiter, PolicyConfig};
use crate::plugins::registry::Registry;
use crate::runtime::Runtime;

pub use accounts::{
    Policies as AccountPolicies, contract as accounts_contract, router as accounts,
};
pub use headers::isolate;
pub use key_rate::KeyRates;
pub use layers::Gateway;

/// How requests are taken.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Longest time for one request, from when its body is there to its answer. Default: 30000.
    pub request_timeout_ms: u64,
    /// Most bytes of a body, where a route does not set its own bound. Default: 10 MiB.
    pub body_bytes_max: usize,
    /// Most bytes of all bodies held at once. Default: 256 MiB.
    pub bodies_bytes_max: usize,
    /// The same for one client; who has no other body there may have one of any size. Default: 64 MiB.
    pub bodies_bytes_per_client_max: usize,
    /// Slowest body, in bytes per second, measured over each `body_window_ms`. A body that is slower and not done is
    /// refused. Default: 8 KiB.
    pub body_bytes_per_s_min: usize,
    /// Over how long the speed of a body is measured, and so how long a small one may take. Default: 10000.
    pub body_window_ms: u64,
    /// Most bodies that flow into plugins of `wasi:http` at once: each holds a place of its plugin for as long as its client
    /// takes to send it. Further ones are read to their end first; on a route with `stream`, refused. Default: 256.
    pub flowing_bodies_max: usize,
    /// The same for one client. Default: 16.
    pub flowing_bodies_per_client_max: usize,
    /// Most bytes of answers that wait for clients to take them. Short ones over HTTP/1.1 (16 KiB) do not count: a
    /// connection has only one. Default: 256 MiB.
    pub answers_bytes_max: usize,
    /// The same for one client; who has no other answer there may have one of any size. Default: 64 MiB.
    pub answers_bytes_per_client_max: usize,
    /// Most bytes of a request's path and query. Default: 8 KiB.
    pub uri_bytes_max: usize,
    /// Most bytes of a request's header names and values. Default: 32 KiB.
    pub header_bytes_max: usize,
    /// Most headers of a request. Default: 90.
    pub headers_max: usize,
    /// How many calls of plugins may stand above a request: a plugin that calls a plugin (or itself) by way of a request
    /// to another server is one. Default: 8.
    pub call_depth_max: u32,
    /// Proxies whose `X-Forwarded-For` is believed. Default: none.
    pub trusted_proxies: TrustedProxies,
    /// Whether pages of plugins that have no host name of their own are kept in a sandbox (`Content-Security-Policy:
    /// sandbox`) while the admin API is on the same listener: their scripts run, but are strangers to the origin they
    /// come from. Without it, the admin API takes no requests from pages at all. Default: true.
    pub pages_are_sandboxed: bool,
    /// Whether answers of plugins are held against the `response_schema` of their routes: one that does not fit becomes a 502
    /// that says where. For developing: it costs time, and callers learn what is wrong inside. On the hosts on which tests of
    /// manifests run, it is always so. Default: false.
    pub answers_are_checked: bool,
    /// How files are served.
    pub files: files::Config,
    /// Which answers of plugins are compressed.
    pub compression: compression::Config,
    /// What browsers are told about pages of plugins.
    pub security_headers: security::Config,
    /// Where login and accounts are; empty: nowhere, people come with API keys only. Default: `/api/auth`.
    pub auth_mount: String,
    /// Origins of pages elsewhere that may log in and look after accounts here: `https://app.example.com`, exactly. They get
    /// tokens, never cookies. At most 64. Default: none.
    pub accounts_origins: Vec<String>,
    /// How often one address may try to log in. Default: 10 per minute.
    #[serde(deserialize_with = "partly::login_limit")]
    pub login_limit: PolicyConfig,
    /// How often one address may begin or end a login at a provider. Default: 60 per minute.
    #[serde(deserialize_with = "partly::provider_limit")]
    pub provider_limit: PolicyConfig,
    /// How often one address may exchange refresh tokens or log out. Default: 600 per minute.
    #[serde(deserialize_with = "partly::refresh_limit")]
    pub refresh_limit: PolicyConfig,
    /// How often one address may open an account or ask to reset a password. Default: 10 per hour.
    #[serde(deserialize_with = "partly::request_limit")]
    pub request_limit: PolicyConfig,
    /// How often one address may try a code that was sent by mail. Default: 20 per minute.
    #[serde(deserialize_with = "partly::code_limit")]
    pub code_limit: PolicyConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            request_timeout_ms: 30_000,
            body_bytes_max: 10 << 20,
            bodies_bytes_max: 256 << 20,
            bodies_bytes_per_client_max: 64 << 20,
            body_bytes_per_s_min: 8 << 10,
            body_window_ms: 10_000,
            flowing_bodies_max: 256,
            flowing_bodies_per_client_max: 16,
            answers_bytes_max: 256 << 20,
            answers_bytes_per_client_max: 64 << 20,
            uri_bytes_max: 8 << 10,
            header_bytes_max: 32 << 10,
            headers_max: 90,
            call_depth_max: 8,
            trusted_proxies: TrustedProxies::default(),
            pages_are_sandboxed: true,
            answers_are_checked: false,
            files: files::Config::default(),
            compression: compression::Config::default(),
            security_headers: security::Config::default(),
            auth_mount: "/api/auth".to_owned(),
            accounts_origins: Vec::new(),
            login_limit: per_minute("login", 10),
            provider_limit: per_minute("provider", 60),
            refresh_limit: per_minute("refresh", 600),
            request_limit: PolicyConfig {
                window_ms: 3_600_000,
                ..per_minute("request", 10)
            },
            code_limit: per_minute("code", 20),
        }
    }
}

/// Limits of which only a part is written: the rest is as it would be without.
mod partly {
    use serde::{Deserialize as _, Deserializer};

    use super::Config;
    use crate::limits::{PolicyConfig, PolicyPart};

    macro_rules! partly {
        ($($name:ident)*) => {$(
            pub(super) fn $name<'de, D: Deserializer<'de>>(
                written: D,
            ) -> Result<PolicyConfig, D::Error> {
                Ok(PolicyPart::deserialize(written)?.over(Config::default().$name))
            }
        )*};
    }
    partly!(login_limit provider_limit refresh_limit request_limit code_limit);
}

/// So many tries of one address in a minute.
fn per_minute(name: &str, limit: u64) -> PolicyConfig {
    PolicyConfig {
        name: name.to_owned(),
        limit,
        window_ms: 60_000,
        burst: None,
        key: KeyKind::Ip,
        algorithm: Algorithm::TokenBucket,
        shadow: false,
        fail: None,
    }
}

impl Config {
    fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}

/// What the gateway needs of the rest.
#[derive(Clone)]
pub struct State {
    pub config: Arc<Config>,
    pub registry: Arc<Registry>,
    pub runtime: Arc<Runtime>,
    pub auth: Auth,
    pub limiter: Arc<Limiter>,
    pub clock: Clock,
    /// Who is turned away is told here, if anywhere.
    pub ledger: Option<Ledger>,
    pub access_log: AccessLog,
    /// Bytes of bodies that are held, in all and for each client.
    pub bodies: Arc<Shares>,
    /// Bodies that flow into plugins.
    pub flows: Arc<Shares>,
    /// Bytes of answers that wait for their clients.
    pub answers: Arc<Shares>,
    /// Work of the gateway itself that takes long: large bodies that are checked or compressed.
    pub heavy: Arc<Semaphore>,
    /// What browsers are told about answers of plugins.
    pub security: Arc<security::SecurityHeaders>,
    /// Answers that are kept.
    pub cache: Cache,
    /// Requests that are done once.
    pub idempotency: Idempotency,
    /// Files that the host keeps for plugins.
    pub files: files::Served,
    /// Whether pages of plugins without a host name of their own are kept apart from the host's own surface.
    pub pages_are_sandboxed: bool,
    /// Limits that API keys have of their own.
    pub key_rates: Arc<KeyRates>,
    /// Limits of accounts, made of the settings.
    pub account_policies: AccountPolicies,
}
