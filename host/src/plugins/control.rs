//! The control of all plugins: what operators can change about one that is there. Putting versions on the platform is in
//! `deploy`, bringing them on step by step in `rollout`.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::cache::Cache;
use crate::idempotency::Idempotency;
use crate::ids::PluginName;
use crate::plugins::artifact::Artifacts;
use crate::plugins::change::{Change, Changed};
use crate::plugins::registry::{ChangeError, LiveTable, Registry};
use crate::plugins::rehearsal::Stage;
use crate::plugins::store::{PluginRow, Store, StoreError};
use crate::plugins::trust::Trust;
use crate::plugins::validate::{Grant, Grants};
use crate::plugins::{Config, DeployError, Mount};
use crate::runtime::Runtime;
use crate::services::blobs::Blobs;
use crate::services::kv::Kv;
use crate::services::log::Logs;
use crate::services::secrets::Secrets;
use crate::services::sql::Sql;

/// The services that keep something for each plugin.
#[derive(Clone)]
pub struct Kept {
    pub sql: Sql,
    pub kv: Kv,
    pub blobs: Blobs,
    pub secrets: Secrets,
    pub logs: Logs,
    pub cache: Cache,
    pub idempotency: Idempotency,
}

/// The control of all plugins. One per process.
pub struct Plugins {
    pub(super) store: Store,
    pub(super) artifacts: Artifacts,
    pub(super) trust: Arc<Trust>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) registry: Arc<Registry>,
    pub(super) kept: Kept,
    pub(super) config: Config,
    /// Where tests are run; nowhere on a host that is itself such a place.
    pub(super) stage: Option<Stage>,
    /// Where the host answers itself, beside what is always its own. Without a slash at the end.
    pub(super) own_mounts: Vec<String>,
}

impl Plugins {
    /// With paths where the host answers itself: no plugin hangs there or below.
    #[must_use]
    pub fn apart_from(mut self, own_mounts: Vec<String>) -> Self {
        self.own_mounts = own_mounts;
        self
    }

    /// Puts the control together.
    pub fn new(
        store: Store,
        artifacts: Artifacts,
        trust: Arc<Trust>,
        runtime: Arc<Runtime>,
        registry: Arc<Registry>,
        kept: Kept,
        config: Config,
    ) -> Self {
        Self {
            store,
            artifacts,
            trust,
            runtime,
            registry,
            kept,
            config,
            stage: None,
            own_mounts: Vec::new(),
        }
    }

    /// A plugin's row.
    pub async fn get(&self, plugin: &PluginName) -> Result<PluginRow, StoreError> {
        let row = self.store.find_plugin(plugin).await?;
        row.ok_or_else(|| StoreError::PluginNotFound(plugin.clone()))
    }

    /// The bounds of uploads, and what plugins get.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The rows of plugins, for lists and histories. Changes go through this type.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who may sign plugins. What changes there counts for what is live from the next [`Plugins::refresh`] on.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Makes what is live agree with the rows, after the trust list was changed.
    pub async fn refresh(&self) -> Result<Arc<LiveTable>, StoreError> {
        self.registry.refresh().await
    }

    /// Hangs a plugin elsewhere.
    pub async fn set_mount(
        &self,
        plugin: &PluginName,
        mount: Mount,
        is_nested_accepted: bool,
        by: &str,
    ) -> Result<(), DeployError> {
        let change = Change::Mount {
            mount,
            is_nested_accepted,
        };
        self.change(plugin, change, by).await?;
        Ok(())
    }

    /// Gives a plugin exactly these capabilities. What its manifest asks for and is not among them is refused when it
    /// is used.
    pub async fn set_grants(
        &self,
        plugin: &PluginName,
        grants: &Grants,
        by: &str,
    ) -> Result<(), DeployError> {
        let change = Change::SetGrants(grants.clone());
        self.change(plugin, change, by).await?;
        Ok(())
    }

    /// Gives a plugin these capabilities, too.
    pub async fn add_grants(
        &self,
        plugin: &PluginName,
        more: Vec<Grant>,
        by: &str,
    ) -> Result<(), DeployError> {
        self.change(plugin, Change::AddGrants(more), by).await?;
        Ok(())
    }

    /// Takes a capability from a plugin. [`StoreError::GrantNotFound`] if it does not have it.
    pub async fn remove_grant(
        &self,
        plugin: &PluginName,
        grant: Grant,
        by: &str,
    ) -> Result<(), DeployError> {
        self.change(plugin, Change::RemoveGrant(grant), by).await?;
        Ok(())
    }

    /// Sets a plugin's config, checked against the schema of the live deployment.
    pub async fn set_config(
        &self,
        plugin: &PluginName,
        values: &Map<String, Value>,
        by: &str,
    ) -> Result<(), DeployError> {
        self.get(plugin).await?;
        if let Some(live) = self.registry.live().get(plugin) {
            let schema = live
                .manifest()
                .config
                .as_ref()
                .map(|schema| schema.as_json());
            crate::services::config::resolve(schema, values).map_err(DeployError::Config)?;
        }
        self.change(plugin, Change::Config(values.clone()), by)
            .await?;
        Ok(())
    }

    /// Takes a plugin off the platform, with its history and, if `with_data`, all that it stored.
    pub async fn remove(
        &self,
        plugin: &PluginName,
        with_data: bool,
        by: &str,
    ) -> Result<(), DeployError> {
        self.change(plugin, Change::Delete { with_data }, by)
            .await?;
        self.kept.cache.remove(plugin).await;
        if with_data {
            self.delete_data(plugin, true).await?;
        }
        self.clean_up(Duration::from_secs(3600)).await
    }

    /// Removes what a plugin that is gone has stored and logged.
    async fn delete_data(
        &self,
        plugin: &PluginName,
        with_secrets: bool,
    ) -> Result<(), DeployError> {
        let host = |error: crate::services::Error| DeployError::Host(error.into());
        tracing::debug!(plugin.name = %plugin, "Removing the data of `{plugin}`");
        self.store.forget_migrations(plugin).await?;
        self.kept.sql.delete(plugin).await.map_err(host)?;
        self.kept.kv.delete_plugin(plugin).await.map_err(host)?;
        let blobs = self.kept.blobs.delete_plugin(plugin).await;
        blobs.map_err(|error| host(error.into()))?;
        let forgotten = self.kept.idempotency.delete_plugin(plugin).await;
        forgotten.map_err(|error| DeployError::Host(error.into()))?;
        if with_secrets {
            let secrets = &self.kept.secrets;
            secrets.delete_plugin(plugin).await.map_err(host)?;
        }
        self.kept.logs.delete_plugin(plugin).await.map_err(host)?;
        self.store.forget_unwanted(plugin).await?;
        Ok(())
    }

    /// Notes that a plugin is being deployed for the first time, unless there is data of an earlier one with this name, which
    /// was kept when that was removed.
    pub(super) async fn begin_first(&self, plugin: &PluginName) -> Result<(), DeployError> {
        let host = |error: crate::services::Error| DeployError::Host(error.into());
        let has_entries = self.kept.kv.usage(plugin).await.map_err(host)?.entries > 0;
        let files = self.kept.blobs.usage_of(plugin).await;
        let has_files = files.map_err(|error| host(error.into()))?.objects > 0;
        if !has_entries
            && !has_files
            && !self.kept.sql.has_any(plugin).await
            && !self.store.has_migrated(plugin).await?
        {
            self.store.begin_first(plugin).await?;
        }
        Ok(())
    }

    /// Removes what is left of deployments that were going on when the host died. At the start, when nobody is deploying, on
    /// no other host either.
    pub async fn recover(&self) -> Result<(), DeployError> {
        self.store.release_migrations().await?;
        for (plugin, with_secrets) in self.store.unwanted_data().await? {
            tracing::info!(plugin.name = %plugin, "`{plugin}` was not removed or not deployed to the end; its data is removed");
            self.delete_data(&plugin, with_secrets).await?;
        }
        self.clean_up(Duration::ZERO).await
    }

    /// Removes components that nobody refers to any more, and what was compiled from them: of deployments that failed,
    /// were interrupted, or fell out of the history. Files younger than `age_min` stay, because somebody may be deploying
    /// them now.
    pub async fn clean_up(&self, age_min: Duration) -> Result<(), DeployError> {
        let keep = self.store.referenced_artifacts().await?;
        self.runtime
            .remove_unreferenced(keep.clone(), age_min)
            .await
            .map_err(|error| DeployError::Host(error.into()))?;
        self.artifacts.remove_unreferenced(keep, age_min).await?;
        let forgotten = self.trust.clean_up(age_min).await;
        forgotten.map_err(StoreError::from)?;
        Ok(())
    }

    pub(super) async fn change(
        &self,
        plugin: &PluginName,
        change: Change,
        by: &str,
    ) -> Result<Changed, ChangeError> {
        self.registry
            .change(plugin.clone(), change, None, by.to_owned())
            .await
    }
}
