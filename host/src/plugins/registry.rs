//! Which plugins are live. `refresh` is the only way anything becomes live: it makes the table in memory agree with the
//! rows, and swaps one pointer. Start-up, deployments, rollbacks and changes by the operator all end in it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use crate::ids::{DeploymentId, PluginName};
use crate::plugins::artifact::Artifacts;
use crate::plugins::build;
use crate::plugins::manifest::Manifest;
use crate::plugins::metrics::Metrics;
use crate::plugins::routes::{MountTable, RouteTable};
use crate::plugins::store::{LiveRow, Store, StoreError};
use crate::plugins::validate::Grants;
use crate::plugins::{Config, LoadFailure, Mount};
use crate::runtime::{LoadedPlugin, Runtime};

/// A deployment that answers requests.
#[derive(Debug)]
pub struct LivePlugin {
    pub loaded: Arc<LoadedPlugin>,
    pub routes: RouteTable,
    pub mount: Mount,
    manifest: Manifest,
    /// What it was made from. If the row says the same, there is nothing to do.
    row: LiveRow,
}

impl LivePlugin {
    /// The plugin's name.
    pub fn name(&self) -> &PluginName {
        &self.loaded.spec().name
    }

    /// What its author asks for.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it was given.
    pub fn grants(&self) -> &Grants {
        &self.row.grants
    }

    /// Which deployment of it this is.
    pub fn deployment(&self) -> DeploymentId {
        self.loaded.spec().deployment
    }
}

/// All that is live at one moment. Never changed; a new one takes its place.
#[derive(Debug, Default)]
pub struct LiveTable {
    mounts: MountTable,
    plugins: BTreeMap<PluginName, Arc<LivePlugin>>,
    /// Plugins whose wanted deployment could not be made live, and why. An earlier one of them may still answer.
    failures: BTreeMap<PluginName, String>,
}

impl LiveTable {
    /// The plugin that answers on this host and path.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<LivePlugin>> {
        self.mounts.find(host, path)
    }

    /// Whether a plugin has this host name for itself.
    pub fn has_host(&self, host: &str) -> bool {
        self.mounts.has_host(host)
    }

    /// A plugin by its name.
    pub fn get(&self, name: &PluginName) -> Option<&Arc<LivePlugin>> {
        self.plugins.get(name)
    }

    /// All live plugins by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<LivePlugin>> {
        self.plugins.values()
    }

    /// What is wanted and not live, with the reason.
    pub fn failures(&self) -> &BTreeMap<PluginName, String> {
        &self.failures
    }
}

/// The live table and the way to renew it. One per process.
pub struct Registry {
    live: ArcSwap<LiveTable>,
    store: Store,
    artifacts: Artifacts,
    runtime: Arc<Runtime>,
    metrics: Metrics,
    config: Config,
    refreshing: tokio::sync::Mutex<()>,
    /// Deployments that are loaded already, because deploying them proved that they can be, each with what it was
    /// loaded from.
    staged: Mutex<HashMap<DeploymentId, (LiveRow, LoadedPlugin)>>,
}

impl Registry {
    /// An empty table; `refresh` fills it.
    pub fn new(
        store: Store,
        artifacts: Artifacts,
        runtime: Arc<Runtime>,
        metrics: Metrics,
        config: Config,
    ) -> Self {
        Self {
            live: ArcSwap::default(),
            store,
            artifacts,
            runtime,
            metrics,
            config,
            refreshing: tokio::sync::Mutex::default(),
            staged: Mutex::default(),
        }
    }

    /// What is live now. A request keeps it to its end, and with it the version that answers it.
    pub fn live(&self) -> Arc<LiveTable> {
        self.live.load_full()
    }

    /// Makes the table agree with the rows. A plugin that cannot be loaded keeps its earlier version, and its failure is
    /// in the new table. Several callers at once wait for each other.
    pub async fn refresh(&self) -> Result<Arc<LiveTable>, StoreError> {
        let _turn = self.refreshing.lock().await;
        let before = self.live();
        let mut plugins = BTreeMap::new();
        let mut failures = BTreeMap::new();
        for row in self.store.live().await? {
            let name = row.plugin.clone();
            let old = before.plugins.get(&name);
            if let Some(old) = old.filter(|old| old.row == row) {
                plugins.insert(name, Arc::clone(old));
                continue;
            }
            match self.load(row).await {
                Ok(plugin) => {
                    tracing::info!(
                        plugin.name = %name, deployment.id = %plugin.deployment(),
                        "Plugin `{name}` is live"
                    );
                    self.metrics.count_swap(&name);
                    plugins.insert(name, Arc::new(plugin));
                }
                Err(error) => {
                    tracing::error!(plugin.name = %name, error.cause = %error, "Plugin `{name}` cannot be made live");
                    failures.insert(name.clone(), error.to_string());
                    if let Some(old) = old {
                        plugins.insert(name, Arc::clone(old));
                    }
                }
            }
        }
        let (mounts, refused) = MountTable::new(plugins.values());
        for name in refused {
            failures.insert(name, "another plugin has the same mount".to_owned());
        }
        let table = Arc::new(LiveTable {
            mounts,
            plugins,
            failures,
        });
        self.live.store(Arc::clone(&table));
        self.staged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.forget_series(&before, &table);
        Ok(table)
    }

    /// Hands over a deployment that is loaded already, for the next `refresh`.
    pub(super) fn stage(&self, row: LiveRow, plugin: LoadedPlugin) {
        self.staged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(row.deployment, (row, plugin));
    }

    async fn load(&self, row: LiveRow) -> Result<LivePlugin, LoadFailure> {
        let staged = self
            .staged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&row.deployment)
            // A grant may have been taken back since.
            .filter(|(staged, _)| *staged == row)
            .map(|(_, loaded)| loaded);
        let manifest = build::manifest(&row)?;
        let loaded = match staged {
            Some(loaded) => loaded,
            None => {
                let values = build::known_values(&row, &manifest);
                let spec = build::spec(&row, &manifest, &values, &self.config)?;
                let wasm = self.artifacts.get(spec.digest).await?;
                self.runtime.load(spec, wasm).await?
            }
        };
        let routes = build::routes(&row, &manifest, &self.config, &self.metrics)?;
        let mount = row.mount.clone();
        Ok(LivePlugin {
            loaded: Arc::new(loaded),
            routes,
            mount,
            manifest,
            row,
        })
    }

    /// Series of routes that no live plugin has any more would only grow in number.
    fn forget_series(&self, before: &LiveTable, after: &LiveTable) {
        for (name, old) in &before.plugins {
            let new = after.plugins.get(name);
            if new.is_some_and(|new| Arc::ptr_eq(old, new)) {
                continue;
            }
            for route in old.routes.iter() {
                let is_kept = new.is_some_and(|new| {
                    new.routes
                        .iter()
                        .any(|other| other.pattern == route.pattern)
                });
                if !is_kept {
                    self.metrics.remove_route(name, &route.pattern);
                }
            }
            if new.is_none() {
                self.metrics.remove_plugin(name);
            }
        }
    }
}
