//! All settings in one place: each module owns its part, this file composes them out of a TOML file and the environment.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::admin::settings::hide_passwords;
use crate::gateway::security::SecurityHeaders;
use crate::gateway::{access_log, health};
use crate::http::serve;
use crate::{
    admin, audit, auth, cache, cluster, db, gateway, idempotency, limits, mail, plugins, runtime,
    services, telemetry,
};

/// Everything that an operator can set. `gantry config check` prints the result.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where requests are taken. Default: `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Where everything is kept that must survive a restart. Default: `gantry-data`.
    pub data_dir: PathBuf,
    /// Where the access log goes: `stdout`, `off` or `{ file = "path" }`. Default: `stdout`.
    pub access_log: access_log::Target,
    /// The listener's bounds.
    pub http: serve::Config,
    /// The host's own rows.
    pub db: db::Config,
    /// What several hosts share.
    pub cluster: cluster::Config,
    /// Accounts and credentials.
    pub auth: auth::Config,
    /// Mail to the owners of accounts.
    pub mail: mail::Config,
    /// Rate limits.
    pub limits: limits::Config,
    /// Answers and values that are kept for a while.
    pub cache: cache::Config,
    /// Files of plugins.
    pub blobs: services::blobs::Config,
    /// Requests that are done once, by their key.
    pub idempotency: idempotency::Config,
    /// What plugins may ask for.
    pub services: ServicesConfig,
    /// Running plugins.
    pub runtime: runtime::Config,
    /// Uploads, ceilings and defaults of plugins.
    pub plugins: plugins::Config,
    /// Requests to plugins.
    pub gateway: gateway::Config,
    /// The documentation of what is live.
    pub docs: gateway::docs::Config,
    /// Where operators are served.
    pub admin: admin::Config,
    /// How metrics are given out.
    pub metrics: health::Config,
    /// The audit trail: how long it is kept, and what is suspicious.
    pub audit: audit::Config,
    /// Where the host's errors are told beside its log: a collector that takes the envelopes of Sentry.
    pub errors: telemetry::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("gantry-data"),
            access_log: access_log::Target::default(),
            http: serve::Config::default(),
            db: db::Config::default(),
            cluster: cluster::Config::default(),
            auth: auth::Config::default(),
            mail: mail::Config::default(),
            limits: limits::Config::default(),
            cache: cache::Config::default(),
            blobs: services::blobs::Config::default(),
            idempotency: idempotency::Config::default(),
            services: ServicesConfig::default(),
            runtime: runtime::Config::default(),
            plugins: plugins::Config::default(),
            gateway: gateway::Config::default(),
            docs: gateway::docs::Config::default(),
            admin: admin::Config::default(),
            metrics: health::Config::default(),
            audit: audit::Config::default(),
            errors: telemetry::Config::default(),
        }
    }
}

/// The settings of each service.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServicesConfig {
    pub kv: services::kv::Config,
    pub sql: services::sql::Config,
    pub secrets: services::secrets::Config,
    pub log: services::log::Config,
    pub outbound: services::outbound::Config,
}

/// Most origins whose pages may log in.
const ORIGINS_MAX: usize = 64;

/// Puts a digest in the place of e-mail addresses: that another person is named shows, and not who.
fn hide_people(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) if text.contains('@') && !text.contains("://") => {
            let digest = hex::encode(Sha256::digest(text.as_bytes()));
            *text = format!("an address ({})", &digest[..8]);
        }
        serde_json::Value::Array(values) => values.iter_mut().for_each(hide_people),
        serde_json::Value::Object(values) => values.values_mut().for_each(hide_people),
        _ => {}
    }
}

/// Collects what is not as in `other`, by its path.
fn differences(
    path: &str,
    own: &serde_json::Value,
    other: &serde_json::Value,
    found: &mut serde_json::Map<String, serde_json::Value>,
) {
    match (own, other) {
        (serde_json::Value::Object(own), serde_json::Value::Object(other)) if path.len() < 256 => {
            for (name, value) in own {
                let below = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                let other = other.get(name).unwrap_or(&serde_json::Value::Null);
                differences(&below, value, other, found);
            }
        }
        _ if own != other => drop(found.insert(path.to_owned(), own.clone())),
        _ => {}
    }
}

impl Config {
    /// The values that are not the defaults, by their paths (`http.drain_ms`), without the passwords in addresses.
    pub fn chosen(&self) -> serde_json::Map<String, serde_json::Value> {
        let values = |config: &Self| serde_json::to_value(config).unwrap_or_default();
        let mut own = values(self);
        hide_passwords(&mut own);
        hide_people(&mut own);
        let mut chosen = serde_json::Map::new();
        differences("", &own, &values(&Self::default()), &mut chosen);
        chosen
    }

    /// Reads `file` (or only the defaults) and then the environment: `GANTRY_RUNTIME__CONCURRENCY_MAX=64` sets
    /// `concurrency_max` under `[runtime]`.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder();
        let written = match file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the settings in {}", path.display()))?;
                Some((path, text))
            }
        };
        if let Some((path, text)) = &written {
            // With the place of the mistake, which is lost once the file is together with the environment.
            let parsed = toml::from_str::<toml::Table>(text);
            parsed.map_err(|error| anyhow!("{}: {error}", path.display()))?;
            builder = builder.add_source(config::File::from_str(text, config::FileFormat::Toml));
        }
        let environment = config::Environment::with_prefix("GANTRY")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .source(Some(settings_of(std::env::vars_os())));
        let settings = builder.add_source(environment).build()?;
        let config: Self = match settings.clone().try_deserialize() {
            Ok(config) => config,
            Err(error) => return Err(explain(&error, settings, written.as_ref())),
        };
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            let place = place_of(written.as_ref().map(|(path, _)| *path));
            bail!("{place} cannot be used:\n  {}", mistakes.join("\n  "));
        }
        Ok(config)
    }

    /// What the parts cannot see alone: every mistake.
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Err(error) = self.auth.check() {
            mistakes.push(error.to_string());
        }
        if let Err(error) = self.auth.check_mail(self.mail.is_on()) {
            mistakes.push(error.to_string());
        }
        mistakes.extend(self.mail.mistakes());
        mistakes.extend(self.docs.mistakes());
        mistakes.extend(self.db.mistakes());
        mistakes.extend(self.cluster.mistakes());
        mistakes.extend(self.audit.mistakes());
        mistakes.extend(self.blobs.mistakes());
        mistakes.extend(self.errors.mistakes());
        if let Err(found) = gateway::AccountPolicies::new(&self.gateway) {
            mistakes.extend(found);
        }
        if let Err(found) = plugins::filters::check(&self.plugins.filters) {
            let found = found.iter();
            mistakes.extend(found.map(|mistake| format!("`plugins.filters`: {mistake}")));
        }
        mistakes.extend(plugins::cors::check(&self.plugins.cors).err());
        mistakes.extend(SecurityHeaders::new(&self.gateway.security_headers).err());
        for change in &self.plugins.limits {
            mistakes.extend(change.mistakes());
        }
        if self.limits.store == limits::Store::Shared && !self.cluster.is_on() {
            mistakes.push(
                "`limits.store` is `shared`, so `cluster.redis_url` must name a server".to_owned(),
            );
        }
        let origins = &self.gateway.accounts_origins;
        if origins.len() > ORIGINS_MAX {
            mistakes.push(format!(
                "`gateway.accounts_origins` has at most {ORIGINS_MAX}"
            ));
        }
        let wrong = origins
            .iter()
            .filter_map(|origin| plugins::cors::origin(origin).err());
        mistakes.extend(wrong.map(|mistake| format!("`gateway.accounts_origins`: {mistake}")));
        let auth_mount = &self.gateway.auth_mount;
        if !auth_mount.is_empty() && (!auth_mount.starts_with('/') || auth_mount.len() < 2) {
            let rule = "`gateway.auth_mount` begins with `/` and is not the root, or is empty";
            mistakes.push(rule.to_owned());
        }
        if auth_mount.is_empty() && !self.auth.providers.is_empty() {
            let rule = "`auth.providers` need `gateway.auth_mount`: people come back there";
            mistakes.push(rule.to_owned());
        }
        if self.admin.listen == Some(self.listen) && self.listen.port() != 0 {
            mistakes
                .push("`admin.listen` is an address of its own, not that of `listen`".to_owned());
        }
        for (name, value) in [
            (
                "runtime.concurrency_max",
                self.runtime.concurrency_max as usize,
            ),
            (
                "runtime.core_instances_max",
                self.runtime.core_instances_max as usize,
            ),
            ("runtime.memories_max", self.runtime.memories_max as usize),
            ("http.connections_max", self.http.connections_max),
        ] {
            if value == 0 {
                mistakes.push(format!("`{name}` must be at least 1"));
            }
        }
        mistakes
    }
}

/// Where settings come from, for a sentence about them.
fn place_of(file: Option<&Path>) -> String {
    match file {
        Some(file) => format!("the settings ({} and the environment)", file.display()),
        None => "the settings (the environment)".to_owned(),
    }
}

/// Where the mistake is, and what could stand there.
fn explain(
    error: &config::ConfigError,
    settings: config::Config,
    file: Option<&(&Path, String)>,
) -> anyhow::Error {
    // The file alone, because it knows its lines.
    if let Some((path, text)) = file
        && let Err(error) = toml::from_str::<Config>(text)
    {
        return anyhow!("{}: {error}", path.display());
    }
    // What is told of a word that stands for none of several does not say which there are.
    let words = settings.try_deserialize::<serde_json::Value>().ok();
    let words = words.and_then(|value| serde_json::from_value::<Config>(value).err());
    let error = error.to_string();
    let key = error.split_once(" for key ").map(|(_, key)| key);
    let error = match (words.map(|words| words.to_string()), key) {
        (Some(words), Some(key)) if words.starts_with("unknown variant") => {
            format!("{words}, for key {key}")
        }
        _ => error,
    };
    anyhow!("{error}\nin the environment: variables that begin with `GANTRY_` are settings")
}

/// Variables of the environment that are settings. Those of the command line (`GANTRY_SERVER`, `GANTRY_API_KEY`, …) begin
/// in the same way and are not.
fn settings_of(
    variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> config::Map<String, String> {
    const COMMAND_LINE: [&str; 5] = [
        "GANTRY_SERVER",
        "GANTRY_API_KEY",
        "GANTRY_CONFIG",
        "GANTRY_CACHE_DIR",
        "GANTRY_SDK_PATH",
    ];
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("GANTRY_") && !COMMAND_LINE.contains(&name.as_str()))
        .collect()
}
