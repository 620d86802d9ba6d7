//! All settings in one place: each module owns its part, this file composes them out of a TOML file and the environment.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::gateway::security::SecurityHeaders;
use crate::gateway::{access_log, health};
use crate::http::serve;
use crate::{
    admin, audit, auth, cache, cluster, db, gateway, idempotency, limits, mail, plugins, runtime,
    services,
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

impl Config {
    /// Reads `file` (or only the defaults) and then the environment: `GANTRY_RUNTIME__CONCURRENCY_MAX=64` sets
    /// `concurrency_max` under `[runtime]`.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        let environment = config::Environment::with_prefix("GANTRY")
            .prefix_separator("_")
            .separator("__")
            .try_parsing(true)
            .source(Some(settings_of(std::env::vars_os())));
        let config: Self = builder.add_source(environment).build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    /// What the parts cannot see alone. Tells every mistake at once.
    fn check(&self) -> anyhow::Result<()> {
        let mut mistakes = Vec::new();
        if let Err(error) = self.auth.check() {
            mistakes.push(error.to_string());
        }
        if let Err(error) = self.auth.check_mail(self.mail.is_on()) {
            mistakes.push(error.to_string());
        }
        mistakes.extend(self.mail.mistakes());
        mistakes.extend(self.docs.mistakes());
        mistakes.extend(self.cluster.mistakes());
        mistakes.extend(self.audit.mistakes());
        mistakes.extend(self.blobs.mistakes());
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
            ("db.readers", self.db.readers as usize),
        ] {
            if value == 0 {
                mistakes.push(format!("`{name}` must be at least 1"));
            }
        }
        anyhow::ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
        Ok(())
    }
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
