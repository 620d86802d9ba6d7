//! From rows to versions that can answer: one by itself for a change, many at once at the start.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use http::HeaderValue;
use tokio::task::JoinSet;

use crate::ids::DeploymentId;
use crate::plugins::manifest::Manifest;
use crate::plugins::registry::{LivePlugin, Registry};
use crate::plugins::rollout::Figures;
use crate::plugins::store::LiveRow;
use crate::plugins::{LoadFailure, build};
use crate::runtime::LoadedPlugin;

/// In whose name the host compiles of its own accord.
const HOST: &str = "";

impl Registry {
    /// Loads these, `plugins.loads_max` at once. What cannot be loaded is told with the reason.
    pub(super) async fn load_all(
        self: &Arc<Self>,
        rows: Vec<LiveRow>,
    ) -> HashMap<DeploymentId, Result<Arc<LivePlugin>, String>> {
        let mut loaded = HashMap::with_capacity(rows.len());
        let mut rows = rows.into_iter();
        // Whoever gives up waiting ends what is under way.
        let mut tasks = JoinSet::new();
        loop {
            while tasks.len() < self.config.loads_max.max(1)
                && let Some(row) = rows.next()
            {
                let unfinished = Err("the host failed while loading it".to_owned());
                loaded.insert(row.deployment, unfinished);
                let registry = Arc::clone(self);
                tasks.spawn(async move { (row.deployment, registry.try_load(row).await) });
            }
            match tasks.join_next().await {
                Some(Ok((deployment, result))) => drop(loaded.insert(deployment, result)),
                Some(Err(_)) => {}
                None => return loaded,
            }
        }
    }

    async fn try_load(&self, row: LiveRow) -> Result<Arc<LivePlugin>, String> {
        let name = row.plugin.clone();
        let loaded = self.load(row).await.map(Arc::new);
        loaded.map_err(|error| {
            tracing::error!(plugin.name = %name, error.cause = %error, "Plugin `{name}` cannot be made live");
            error.to_string()
        })
    }

    /// A deployment out of its rows and its component, if a trusted key stands for it: here, so that no way leads around.
    pub(super) async fn load(&self, row: LiveRow) -> Result<LivePlugin, LoadFailure> {
        if let Some(refusal) = self.refusal(&row).await? {
            return Err(refusal.into());
        }
        let manifest = build::manifest(&row)?;
        let values = build::known_values(&row, &manifest);
        let spec = build::spec(&row, &manifest, &values, &self.config)?;
        let wasm = self.artifacts.get(spec.digest).await?;
        let loaded = self.runtime.load(spec, wasm, HOST).await?;
        self.with_routes(row, manifest, loaded)
    }

    /// A deployment that is loaded, with all that requests to it need.
    pub(in crate::plugins) fn with_routes(
        &self,
        row: LiveRow,
        manifest: Manifest,
        loaded: Arc<LoadedPlugin>,
    ) -> Result<LivePlugin, LoadFailure> {
        let routes = build::routes(&row, &manifest, &self.config, &self.metrics)?;
        let mount = row.mount.clone();
        let version = row.version.to_string();
        let rollout = &self.config.rollout;
        Ok(LivePlugin {
            loaded,
            routes,
            mount,
            figures: Figures::new(rollout.window(), rollout.client_calls_max()),
            // Versions are plain ASCII.
            version_value: HeaderValue::try_from(version)
                .unwrap_or(HeaderValue::from_static("unknown")),
            manifest,
            description: OnceLock::new(),
            id: row.deployment.to_string(),
            row,
        })
    }
}
