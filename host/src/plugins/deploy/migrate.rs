//! The work on a plugin's data that a version begins with: the schemas of its databases, and what the plugin itself does.

use std::{sync::Arc, time::Duration};

use crate::ids::PluginName;
use crate::plugins::bundle;
use crate::plugins::manifest::Manifest;
use crate::plugins::rollout::store::Claim;
use crate::plugins::store::{LiveRow, Store};
use crate::plugins::{DeployError, Plugins};
use crate::runtime::{Hook, LoadedPlugin, Runtime};
use crate::services::sql;

impl Plugins {
    pub(super) async fn migrate(
        &self,
        wanted: &LiveRow,
        manifest: &Manifest,
        migrations: &[bundle::Migration],
    ) -> Result<Vec<String>, DeployError> {
        let mut applied = Vec::new();
        for database in &manifest.capabilities.sql {
            let label = &database.label;
            let own = migrations
                .iter()
                .filter(|migration| migration.label == *label);
            let own: Vec<sql::Migration> = own
                .map(|migration| sql::Migration {
                    version: migration.version,
                    name: migration.name.clone(),
                    sql: migration.sql.clone(),
                })
                .collect();
            let versions = self.kept.sql.migrate(&wanted.plugin, label, &own).await;
            let versions = versions.map_err(|source| DeployError::Migrate {
                label: label.clone(),
                source,
            })?;
            applied.extend(
                versions
                    .into_iter()
                    .map(|version| format!("{label}/{version}")),
            );
        }
        Ok(applied)
    }

    /// Lets a version that was never here before work on its data. Whether it did. What has begun comes to its end, even if
    /// whoever deploys goes away: half of it would be worse than none.
    #[expect(
        clippy::disallowed_methods,
        reason = "the caller waits for it; it must end even if the caller gives up"
    )]
    pub(super) async fn run_migrate_hook(
        &self,
        wanted: &LiveRow,
        loaded: &Arc<LoadedPlugin>,
    ) -> Result<bool, DeployError> {
        if !loaded.has(Hook::Migrate) {
            return Ok(false);
        }
        let work = MigrateHook {
            plugin: wanted.plugin.clone(),
            version: wanted.version.clone(),
            store: self.store.clone(),
            runtime: Arc::clone(&self.runtime),
            loaded: Arc::clone(loaded),
            cpu: Duration::from_millis(self.config.rollout.migrate_cpu_ms),
            wall: Duration::from_millis(self.config.rollout.migrate_wall_ms),
        };
        tokio::spawn(work.run())
            .await
            .map_err(|error| DeployError::Host(error.into()))?
    }
}

/// The work of one version on its data, and all that it takes.
struct MigrateHook {
    plugin: PluginName,
    version: semver::Version,
    store: Store,
    runtime: Arc<Runtime>,
    loaded: Arc<LoadedPlugin>,
    cpu: Duration,
    wall: Duration,
}

impl MigrateHook {
    async fn run(self) -> Result<bool, DeployError> {
        let (plugin, version) = (self.plugin, self.version);
        // Longer than it can take, so that it is taken over only from a host that died.
        let wall_ms = i64::try_from(self.wall.as_millis()).unwrap_or(i64::MAX / 2);
        let for_ms = wall_ms + 10_000;
        match self
            .store
            .claim_migration(&plugin, &version, for_ms)
            .await?
        {
            Claim::Done => return Ok(false),
            Claim::Busy => return Err(DeployError::Migrating { plugin, version }),
            Claim::Ours => {}
        }
        let ran = self
            .runtime
            .call_hook(&self.loaded, Hook::Migrate, self.cpu, self.wall)
            .await;
        self.store
            .end_migration(&plugin, &version, ran.is_ok())
            .await?;
        ran.map_err(|error| DeployError::Hook {
            plugin,
            version,
            reason: error.to_string(),
        })?;
        Ok(true)
    }
}
