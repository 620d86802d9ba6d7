//! Which plugins are live. There are two ways to a new table, and both swap one pointer: `refresh` makes memory agree with
//! the rows at start-up, and `change` changes rows and memory together, or neither.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::ids::{DeploymentId, PluginName};
use crate::plugins::accounts::Accounts;
use crate::plugins::artifact::Artifacts;
use crate::plugins::build;
use crate::plugins::change::{Change, Changed};
use crate::plugins::manifest::Manifest;
use crate::plugins::metrics::Metrics;
use crate::plugins::routes::{MountTable, RouteTable};
use crate::plugins::store::{LiveRow, Store, StoreError};
use crate::plugins::trust::{Policy, Refusal, Trust, TrustList};
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
    /// Plugins whose wanted deployment could not be loaded, and why. An earlier one of them may still answer.
    unloaded: BTreeMap<PluginName, String>,
    /// Those, and the ones whose mount another plugin has.
    failures: BTreeMap<PluginName, String>,
    /// The keys that everything in it was last held against.
    trusted: Arc<TrustList>,
}

impl LiveTable {
    fn new(
        plugins: BTreeMap<PluginName, Arc<LivePlugin>>,
        unloaded: BTreeMap<PluginName, String>,
        trusted: Arc<TrustList>,
    ) -> Self {
        let (mounts, refused) = MountTable::new(plugins.values());
        let mut failures = unloaded.clone();
        for name in refused {
            failures.insert(name, "another plugin has the same mount".to_owned());
        }
        Self {
            mounts,
            plugins,
            unloaded,
            failures,
            trusted,
        }
    }

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

/// Why a change was not made. Rows and memory are as before.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{plugin}` could not be made live: {reason}")]
    NotLive { plugin: PluginName, reason: String },
    #[error("the host stopped before the change was made")]
    Interrupted,
}

/// In whose name the host compiles of its own accord.
const HOST: &str = "";

/// How often a change is tried while the plugin's rows change under it.
const TRIES_MAX: usize = 4;

/// The live table and the ways to renew it. One per process.
pub struct Registry {
    live: ArcSwap<LiveTable>,
    store: Store,
    artifacts: Artifacts,
    trust: Arc<Trust>,
    runtime: Arc<Runtime>,
    metrics: Metrics,
    config: Config,
    /// Held while the table is replaced.
    turn: tokio::sync::Mutex<()>,
}

impl Registry {
    /// An empty table; `refresh` fills it.
    pub fn new(
        store: Store,
        artifacts: Artifacts,
        trust: Arc<Trust>,
        runtime: Arc<Runtime>,
        metrics: Metrics,
        config: Config,
    ) -> Self {
        Self {
            live: ArcSwap::default(),
            store,
            artifacts,
            trust,
            runtime,
            metrics,
            config,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// What is live now. A request keeps it to its end, and with it the version that answers it.
    pub fn live(&self) -> Arc<LiveTable> {
        self.live.load_full()
    }

    /// What the calls of all routes have used.
    pub fn accounts(&self) -> &Accounts {
        self.metrics.accounts()
    }

    /// Makes the table agree with the rows. A plugin that cannot be loaded keeps its earlier version, and its failure is
    /// in the new table. Several callers at once wait for each other.
    pub async fn refresh(&self) -> Result<Arc<LiveTable>, StoreError> {
        let _turn = self.turn.lock().await;
        let before = self.live();
        let trusted = Arc::new(self.trust.list().await?);
        let is_same_list = trusted == before.trusted;
        let mut plugins = BTreeMap::new();
        let mut unloaded = BTreeMap::new();
        for row in self.store.live().await? {
            let name = row.plugin.clone();
            let mut old = before.plugins.get(&name);
            // Whose signature counts no more goes, even if nothing better is there.
            if let Some(one) = old
                && !is_same_list
                && self.trust.check(&trusted, &one.row).await?.is_err()
            {
                old = None;
            }
            if let Some(old) = old.filter(|old| old.row == row) {
                plugins.insert(name, Arc::clone(old));
                continue;
            }
            match self.load(row).await {
                Ok(plugin) => {
                    plugins.insert(name, Arc::new(plugin));
                }
                Err(error) => {
                    tracing::error!(plugin.name = %name, error.cause = %error, "Plugin `{name}` cannot be made live");
                    unloaded.insert(name.clone(), error.to_string());
                    if let Some(old) = old {
                        plugins.insert(name, Arc::clone(old));
                    }
                }
            }
        }
        Ok(self.swap(&before, LiveTable::new(plugins, unloaded, trusted)))
    }

    /// Makes one change of one plugin in rows and memory. `ready` is what it leads to, if that is loaded already. What the
    /// change leads to is loaded before the rows are changed, so it goes live with them or the change is not made; only
    /// a plugin that could not be loaded before may stay so. Runs to its end even if the caller goes away: memory must not
    /// be left behind the rows.
    #[expect(
        clippy::disallowed_methods,
        reason = "the caller waits for it; it must end even if the caller gives up"
    )]
    pub(super) async fn change(
        self: &Arc<Self>,
        plugin: PluginName,
        change: Change,
        ready: Option<LivePlugin>,
        by: String,
    ) -> Result<Changed, ChangeError> {
        let registry = Arc::clone(self);
        let work = async move { registry.make(&plugin, &change, ready, &by).await };
        tokio::spawn(work)
            .await
            .map_err(|_| ChangeError::Interrupted)?
    }

    async fn make(
        &self,
        plugin: &PluginName,
        change: &Change,
        ready: Option<LivePlugin>,
        by: &str,
    ) -> Result<Changed, ChangeError> {
        let mut ready = ready.map(Arc::new);
        let mut failure = None;
        for _ in 0..TRIES_MAX {
            // The turn comes before the transaction: whoever has the one writer never waits for the turn.
            let turn = self.turn.lock().await;
            let before = self.live();
            let mut tx = self.store.begin().await?;
            let changed = self.store.apply(&mut tx, plugin, change, by).await?;
            let mut plugins = before.plugins.clone();
            let mut unloaded = before.unloaded.clone();
            unloaded.remove(plugin);
            let row = self.store.live_of(&mut tx, plugin).await?;
            let refusal = match &row {
                Some(row) => self.refusal(row).await?,
                None => None,
            };
            match (row, refusal) {
                (None, _) => drop(plugins.remove(plugin)),
                // The key may have been revoked since somebody asked.
                (Some(_), Some(refusal)) => {
                    plugins.remove(plugin);
                    unloaded.insert(plugin.clone(), refusal.to_string());
                }
                (Some(row), None) => {
                    let is_row = |candidate: &&Arc<LivePlugin>| candidate.row == row;
                    let old = before.plugins.get(plugin);
                    if let Some(found) = old.filter(is_row).or(ready.as_ref().filter(is_row)) {
                        plugins.insert(plugin.clone(), Arc::clone(found));
                    } else if let Some((_, reason)) = failure.take_if(|(of, _)| *of == row) {
                        unloaded.insert(plugin.clone(), reason);
                    } else {
                        // Loading takes its time. Nobody else should wait for it.
                        drop((tx, turn));
                        match self.load(row.clone()).await {
                            Ok(plugin) => ready = Some(Arc::new(plugin)),
                            Err(error) => failure = Some((row, error.to_string())),
                        }
                        continue;
                    }
                }
            }
            let table = LiveTable::new(plugins, unloaded, Arc::clone(&before.trusted));
            if let Some(reason) = table.failures.get(plugin)
                && (change.makes_live() || !before.failures.contains_key(plugin))
            {
                let (plugin, reason) = (plugin.clone(), reason.clone());
                return Err(ChangeError::NotLive { plugin, reason });
            }
            tx.commit().await.map_err(StoreError::from)?;
            self.swap(&before, table);
            return Ok(changed);
        }
        let plugin = plugin.clone();
        Err(StoreError::Changed { plugin }.into())
    }

    /// Why the keys that count now do not stand for a deployment, if they do not.
    async fn refusal(&self, row: &LiveRow) -> Result<Option<Refusal>, StoreError> {
        if self.trust.policy() == Policy::Off {
            return Ok(None);
        }
        let list = self.trust.list().await?;
        Ok(self.trust.check(&list, row).await?.err())
    }

    /// The step that makes it so. Only for who holds the turn.
    fn swap(&self, before: &LiveTable, table: LiveTable) -> Arc<LiveTable> {
        let table = Arc::new(table);
        self.live.store(Arc::clone(&table));
        for (name, new) in &table.plugins {
            let old = before.plugins.get(name);
            if !old.is_some_and(|old| Arc::ptr_eq(old, new)) {
                let deployment = new.deployment();
                tracing::info!(plugin.name = %name, deployment.id = %deployment, "Plugin `{name}` is live");
                self.metrics.count_swap(name);
            }
        }
        self.forget_series(before, &table);
        table
    }

    /// A deployment out of its rows and its component, if a trusted key stands for it: here, so that no way leads around.
    async fn load(&self, row: LiveRow) -> Result<LivePlugin, LoadFailure> {
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
    pub(super) fn with_routes(
        &self,
        row: LiveRow,
        manifest: Manifest,
        loaded: LoadedPlugin,
    ) -> Result<LivePlugin, LoadFailure> {
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
