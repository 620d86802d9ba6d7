//! The work on a plugin's data that a version begins with: the schemas of its databases, and what the plugin itself does.

use std::time::Duration;

use crate::db::now_ms;
use crate::plugins::bundle;
use crate::plugins::manifest::Manifest;
use crate::plugins::rollout::store::Claim;
use crate::plugins::store::LiveRow;
use crate::plugins::{DeployError, Plugins};
use crate::runtime::{Hook, LoadedPlugin};
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

    /// Lets a version that was never here before work on its data. Whether it did.
    pub(super) async fn run_migrate_hook(
        &self,
        wanted: &LiveRow,
        loaded: &LoadedPlugin,
    ) -> Result<bool, DeployError> {
        if !loaded.has(Hook::Migrate) {
            return Ok(false);
        }
        let (plugin, version) = (&wanted.plugin, &wanted.version);
        let config = &self.config.rollout;
        let wall = Duration::from_millis(config.migrate_wall_ms);
        // Longer than it can take, so that it is taken over only from a host that died.
        let until_ms = now_ms()
            .saturating_add(i64::try_from(config.migrate_wall_ms).unwrap_or(i64::MAX / 2) + 10_000);
        match self
            .store
            .claim_migration(plugin, version, until_ms)
            .await?
        {
            Claim::Done => return Ok(false),
            Claim::Busy => {
                let (plugin, version) = (plugin.clone(), version.clone());
                return Err(DeployError::Migrating { plugin, version });
            }
            Claim::Ours => {}
        }
        let cpu = Duration::from_millis(config.migrate_cpu_ms);
        let ran = self
            .runtime
            .call_hook(loaded, Hook::Migrate, cpu, wall)
            .await;
        self.store
            .end_migration(plugin, version, ran.is_ok())
            .await?;
        ran.map_err(|error| DeployError::Hook {
            plugin: plugin.clone(),
            version: version.clone(),
            reason: error.to_string(),
        })?;
        Ok(true)
    }
}
