//! Putting a plugin on the platform, and going back: `upload → validate → store → compile → link → migrate → record →
//! refresh`. Each step takes what the last one made. Whatever fails, the version that was live stays live.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::ids::{DeploymentId, Digest, PluginName};
use crate::plugins::artifact::{self, Artifacts};
use crate::plugins::bundle::{Bundle, BundleError};
use crate::plugins::registry::Registry;
use crate::plugins::routes::Mount;
use crate::plugins::store::{Deployment, LiveRow, Store, StoreError};
use crate::plugins::validate::{Grants, validate};
use crate::plugins::{Config, LoadFailure, Mistake, build};
use crate::runtime::{LoadError, Runtime, Services};
use crate::services::sql;

/// What somebody wants to put on the platform. Nothing of it is believed yet.
#[derive(Debug, Clone)]
pub struct Upload {
    /// A bundle, or a component alone.
    pub bytes: Bytes,
    /// For a component alone: the name of the plugin.
    pub name: Option<PluginName>,
    /// Where its routes hang from now on; nothing leaves it as it is, which for a new plugin is `/` and its name.
    pub mount: Option<Mount>,
    pub grant: GrantMode,
    /// Config values from now on; nothing leaves them as they are.
    pub config: Option<Map<String, Value>>,
    /// Who it is, for the history.
    pub by: String,
    /// Why, for the history.
    pub note: Option<String>,
}

/// Which capabilities the operator gives along with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantMode {
    /// None beyond what was granted before.
    Keep,
    /// Everything that the manifest asks for.
    AllAsked,
}

/// A deployment that is live now.
#[derive(Debug, Clone)]
pub struct Deployed {
    pub deployment: Deployment,
    /// Which one was live before.
    pub replaced: Option<DeploymentId>,
    pub mount: Mount,
    /// Migrations that ran, as `label/version`.
    pub migrated: Vec<String>,
    /// From the upload to the answer of the first request it can take.
    pub took_ms: u64,
}

/// Why a plugin could not be deployed or rolled back.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error("the plugin has {} mistakes", .0.len())]
    Mistakes(Vec<Mistake>),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("migrating the database `{label}` failed: {source}")]
    Migrate { label: String, source: sql::MigrateError },
    #[error("there is no plugin `{0}`")]
    PluginNotFound(PluginName),
    #[error("the plugin `{plugin}` has no such deployment to go back to")]
    DeploymentNotFound { plugin: PluginName },
    #[error("the mount is taken by the plugin `{by}`; choose another one with --mount or --host")]
    MountTaken { by: PluginName },
    #[error("`{plugin}` could not be made live: {reason}")]
    NotLive { plugin: PluginName, reason: String },
    #[error("the host's rows or files failed")]
    Host(#[source] anyhow::Error),
}

/// The control of all plugins. One per process.
pub struct Plugins {
    pub(super) store: Store,
    pub(super) artifacts: Artifacts,
    pub(super) runtime: Arc<Runtime>,
    pub(super) registry: Arc<Registry>,
    pub(super) services: Services,
    pub(super) config: Config,
}

impl Plugins {
    /// Puts the control together.
    pub fn new(
        store: Store,
        artifacts: Artifacts,
        runtime: Arc<Runtime>,
        registry: Arc<Registry>,
        services: Services,
        config: Config,
    ) -> Self {
        Self { store, artifacts, runtime, registry, services, config }
    }

    /// Makes an upload live.
    pub async fn deploy(&self, upload: Upload) -> Result<Deployed, DeployError> {
        let began = Instant::now();
        let (wanted, plugin) = self.prepare(&upload).await?;
        self.artifacts.put(&plugin.component).await?;
        // Linking happens here too, so a missing import fails the deployment and not the first request.
        let spec = build::spec(&wanted, &plugin.manifest, &self.config)?;
        let loaded = self.runtime.load(spec, plugin.component.clone()).await?;
        let migrated = self.migrate(&wanted.plugin, &plugin.migrations).await?;
        let (deployment, replaced) = self.store.record(&wanted, &upload.by, upload.note.as_deref()).await?;
        self.registry.stage(loaded);
        self.go_live(&wanted.plugin).await?;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Deployed { deployment, replaced, mount: wanted.mount, migrated, took_ms })
    }

    /// Makes an earlier deployment live again: the one before the live one, if none is named.
    pub async fn roll_back(
        &self,
        plugin: &PluginName,
        to: Option<DeploymentId>,
        by: &str,
    ) -> Result<Deployed, DeployError> {
        let began = Instant::now();
        let (deployment, replaced) = self.store.roll_back(plugin, to, by).await?;
        let table = self.go_live(plugin).await;
        if let Err(error) = table {
            // The rows say what is live; they must not name something that is not.
            if let Some(replaced) = replaced {
                self.store.roll_back(plugin, Some(replaced), by).await?;
                self.registry.refresh().await?;
            }
            return Err(error);
        }
        let mount = self.store.mount(plugin).await?;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Deployed { deployment, replaced, mount, migrated: Vec::new(), took_ms })
    }
}
