//! Which plugins are live. There are two ways to a new table, and both swap one pointer: `refresh` makes memory agree with
//! the rows at start-up, and `change` changes rows and memory together, or neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderValue;

use crate::ids::{DeploymentId, PluginName};
use crate::plugins::accounts::Accounts;
use crate::plugins::artifact::Artifacts;
use crate::plugins::build;
use crate::plugins::change::{Change, Changed};
use crate::plugins::filters::{Around, Missing, Wiring};
use crate::plugins::manifest::Manifest;
use crate::plugins::metrics::Metrics;
use crate::plugins::rollout::{self, Figures, Slot};
use crate::plugins::routes::{MountTable, Mounted, RouteTable};
use crate::plugins::store::{LiveRow, Store, StoreError};
use crate::plugins::trust::{Policy, Refusal, Trust, TrustList};
use crate::plugins::validate::Grants;
use crate::plugins::{Config, LoadFailure, Mount};
use crate::runtime::{EntryKind, Hook, LoadedPlugin, Runtime};

/// A deployment that answers requests.
#[derive(Debug)]
pub struct LivePlugin {
    pub loaded: Arc<LoadedPlugin>,
    pub routes: RouteTable,
    pub mount: Mount,
    /// What it did lately.
    pub figures: Figures,
    /// Its version, to be put into an answer.
    pub version_value: HeaderValue,
    manifest: Manifest,
    /// Its id as text, for requests that choose it by header.
    pub(super) id: String,
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

    /// Whether a request that asks for this means it: its version, or the id of its deployment.
    pub fn is_called(&self, name: &[u8]) -> bool {
        name == self.version_value.as_bytes() || name == self.id.as_bytes()
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
    slots: BTreeMap<PluginName, Arc<Slot>>,
    /// Plugins of which a wanted deployment could not be loaded, and why. An earlier one of them may still answer.
    unloaded: BTreeMap<PluginName, String>,
    /// Those, and the ones whose mount another plugin has.
    failures: BTreeMap<PluginName, String>,
    /// The keys that everything in it was last held against.
    trusted: Arc<TrustList>,
    /// Filters that somebody names and that are not there.
    missing: BTreeSet<Missing>,
}

impl LiveTable {
    fn new(
        slots: BTreeMap<PluginName, Arc<Slot>>,
        unloaded: BTreeMap<PluginName, String>,
        trusted: Arc<TrustList>,
        filters: &Filters,
    ) -> Self {
        let wiring = Wiring {
            slots: &slots,
            around: &filters.around,
            has_plugins: filters.has_plugins,
            metrics: &filters.metrics,
        };
        let mounted = slots.values().map(|slot| wiring.mounted(slot));
        let (mounts, refused) = MountTable::new(mounted);
        let missing = wiring.missing().into_iter().collect();
        let mut failures = unloaded.clone();
        for name in refused {
            failures.insert(name, "another plugin has the same mount".to_owned());
        }
        Self {
            mounts,
            slots,
            unloaded,
            failures,
            trusted,
            missing,
        }
    }

    /// The plugin that answers on this host and path.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Mounted>> {
        self.mounts.find(host, path)
    }

    /// Whether some plugin hangs on this host name.
    pub fn has_host(&self, host: &str) -> bool {
        self.mounts.has_host(host)
    }

    /// The stable version of a plugin, by its name.
    pub fn get(&self, name: &PluginName) -> Option<&Arc<LivePlugin>> {
        self.slots.get(name).map(|slot| &slot.stable)
    }

    /// The versions of a plugin, by its name.
    pub fn slot(&self, name: &PluginName) -> Option<&Arc<Slot>> {
        self.slots.get(name)
    }

    /// The stable versions of all live plugins, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<LivePlugin>> {
        self.slots().map(|slot| &slot.stable)
    }

    /// All live plugins by name.
    pub fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots.values()
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
    #[error("`{plugin}` says that it is not fit to go live: {reason}")]
    Unhealthy { plugin: PluginName, reason: String },
    #[error("{} the filter `{filter}`, which would not be there", user_of(.user))]
    FilterMissing {
        /// Nobody: the settings.
        user: Option<PluginName>,
        filter: PluginName,
    },
    #[error("the host stopped before the change was made")]
    Interrupted,
}

/// Who names a filter, for a sentence that says so.
pub(super) fn user_of(user: &Option<PluginName>) -> String {
    match user {
        Some(plugin) => format!("`{plugin}` names"),
        None => "the settings name".to_owned(),
    }
}

/// What stands around the routes of plugins, beside what their manifests name.
pub struct Filters {
    /// The operator's, in their order.
    pub around: Vec<Around>,
    /// Whether plugins filter. Where a plugin is rehearsed it is alone.
    pub has_plugins: bool,
    /// Where filters are counted.
    pub metrics: Metrics,
}

/// In whose name the host compiles of its own accord.
const HOST: &str = "";

/// How often a change is tried while the plugin's rows change under it.
const TRIES_MAX: usize = 6;

/// The live table and the ways to renew it. One per process.
pub struct Registry {
    live: ArcSwap<LiveTable>,
    store: Store,
    artifacts: Artifacts,
    trust: Arc<Trust>,
    runtime: Arc<Runtime>,
    metrics: Metrics,
    filters: Filters,
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
        filters: Filters,
        config: Config,
    ) -> Self {
        Self {
            live: ArcSwap::default(),
            store,
            artifacts,
            trust,
            runtime,
            metrics: filters.metrics.clone(),
            filters,
            config,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whether a plugin of this name is live and filters; nothing if there is none. Always fine where plugins do not filter.
    pub(super) fn is_filter(&self, name: &PluginName) -> Option<bool> {
        if !self.filters.has_plugins {
            return Some(true);
        }
        let live = self.live();
        let plugin = live.get(name)?;
        Some(plugin.loaded.spec().entry == EntryKind::Filter)
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
        let mut slots = BTreeMap::new();
        let mut unloaded = BTreeMap::new();
        for wanted in self.store.wanted().await? {
            let name = wanted.stable.plugin.clone();
            let slot = before.slots.get(&name);
            let mut old = Vec::new();
            for version in slot.into_iter().flat_map(|slot| slot.versions()) {
                // Whose signature counts no more goes, even if nothing better is there.
                if is_same_list || self.trust.check(&trusted, &version.row).await?.is_ok() {
                    old.push(Arc::clone(version));
                }
            }
            let stable = self.find_or_load(&old, wanted.stable, &mut unloaded).await;
            let canary = match wanted.canary {
                Some((row, weight)) => self
                    .find_or_load(&old, row, &mut unloaded)
                    .await
                    .map(|plugin| (plugin, weight)),
                None => None,
            };
            // An earlier version rather than none.
            let is_left =
                |stable: &&Arc<LivePlugin>| old.iter().any(|one| Arc::ptr_eq(one, stable));
            let earlier = slot.map(|slot| &slot.stable).filter(is_left).cloned();
            if let Some(stable) = stable.or(earlier) {
                slots.insert(name, kept(slot, Slot::new(stable, canary)));
            }
        }
        let table = LiveTable::new(slots, unloaded, trusted, &self.filters);
        Ok(self.swap(&before, table))
    }

    /// The version that is live already or can be loaded. If it cannot, the reason is kept.
    async fn find_or_load(
        &self,
        old: &[Arc<LivePlugin>],
        row: LiveRow,
        unloaded: &mut BTreeMap<PluginName, String>,
    ) -> Option<Arc<LivePlugin>> {
        if let Some(found) = of_row(old.iter(), &row) {
            return Some(found);
        }
        let name = row.plugin.clone();
        match Box::pin(self.load(row)).await {
            Ok(plugin) => Some(Arc::new(plugin)),
            Err(error) => {
                tracing::error!(plugin.name = %name, error.cause = %error, "Plugin `{name}` cannot be made live");
                unloaded.insert(name, error.to_string());
                None
            }
        }
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
        let mut ready: Vec<_> = ready.map(Arc::new).into_iter().collect();
        let mut failure = None;
        for _ in 0..TRIES_MAX {
            // The turn comes before the transaction: whoever has the one writer never waits for the turn.
            let turn = self.turn.lock().await;
            let before = self.live();
            let mut tx = self.store.begin().await?;
            tracing::debug!(plugin.name = %plugin, "Changing `{plugin}`: write");
            let changed = self.store.apply(&mut tx, plugin, change, by).await?;
            let mut slots = before.slots.clone();
            let mut unloaded = before.unloaded.clone();
            unloaded.remove(plugin);
            let old = before.slots.get(plugin);
            let mut wanted = self.store.wanted_of(&mut tx, plugin).await?;
            let mut refusal = None;
            if let Some(wanted) = &mut wanted {
                // The key may have been revoked since somebody asked.
                refusal = self.refusal(&wanted.stable).await?;
                if let Some((row, _)) = &wanted.canary
                    && let Some(refusal) = self.refusal(row).await?
                {
                    unloaded.insert(plugin.clone(), refusal.to_string());
                    wanted.canary = None;
                }
            }
            match (wanted, refusal) {
                (None, _) => drop(slots.remove(plugin)),
                (Some(_), Some(refusal)) => {
                    slots.remove(plugin);
                    unloaded.insert(plugin.clone(), refusal.to_string());
                }
                (Some(wanted), None) => {
                    let found = |row: &LiveRow| {
                        let old = old.into_iter().flat_map(|old| old.versions());
                        of_row(old.chain(&ready), row)
                    };
                    let stable = found(&wanted.stable);
                    let canary = wanted.canary.as_ref();
                    let canary = canary.map(|(row, weight)| (row, found(row), *weight));
                    let missing = match (&stable, &canary) {
                        (None, _) => Some(wanted.stable.clone()),
                        (_, Some((row, None, _))) => Some((*row).clone()),
                        _ => None,
                    };
                    match (missing, stable) {
                        (None, Some(stable)) => {
                            let canary =
                                canary.and_then(|(_, found, weight)| Some((found?, weight)));
                            slots.insert(plugin.clone(), kept(old, Slot::new(stable, canary)));
                        }
                        (Some(row), _) if failure.as_ref().is_some_and(|(of, _)| *of == row) => {
                            let reason = failure.take().map(|(_, reason)| reason);
                            unloaded.insert(plugin.clone(), reason.unwrap_or_default());
                        }
                        (Some(row), _) => {
                            // Loading takes its time. Nobody else should wait for it.
                            drop((tx, turn));
                            match self.load(row.clone()).await {
                                Ok(loaded) => {
                                    if change.is_gated() {
                                        self.check_health(plugin, &loaded.loaded).await?;
                                    }
                                    ready.push(Arc::new(loaded));
                                }
                                Err(error) => failure = Some((row, error.to_string())),
                            }
                            continue;
                        }
                        (None, None) => {}
                    }
                }
            }
            let trusted = Arc::clone(&before.trusted);
            let table = LiveTable::new(slots, unloaded, trusted, &self.filters);
            // No change may leave a route without a filter that it had, or make one live whose filter is not there.
            if let Some((user, filter)) = table.missing.difference(&before.missing).next() {
                let (user, filter) = (user.clone(), filter.clone());
                return Err(ChangeError::FilterMissing { user, filter });
            }
            if let Some(reason) = table.failures.get(plugin)
                && (change.makes_live() || !before.failures.contains_key(plugin))
            {
                let (plugin, reason) = (plugin.clone(), reason.clone());
                return Err(ChangeError::NotLive { plugin, reason });
            }
            tracing::debug!(plugin.name = %plugin, "Changing `{plugin}`: commit");
            tx.commit().await.map_err(StoreError::from)?;
            tracing::debug!(plugin.name = %plugin, "Changing `{plugin}`: swap");
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

    /// Asks a version whether it is fit to answer, if it has a say in that.
    pub(super) async fn check_health(
        &self,
        plugin: &PluginName,
        loaded: &LoadedPlugin,
    ) -> Result<(), ChangeError> {
        let config = &self.config.rollout;
        let (cpu, wall) = (config.health_cpu_ms, config.health_wall_ms);
        let (cpu, wall) = (Duration::from_millis(cpu), Duration::from_millis(wall));
        let health = self.runtime.call_hook(loaded, Hook::Health, cpu, wall);
        health.await.map_err(|error| ChangeError::Unhealthy {
            plugin: plugin.clone(),
            reason: error.to_string(),
        })
    }

    /// How requests are spread over a stable version and its canary.
    pub fn rollout(&self) -> &rollout::Config {
        &self.config.rollout
    }

    /// The step that makes it so. Only for who holds the turn.
    fn swap(&self, before: &LiveTable, table: LiveTable) -> Arc<LiveTable> {
        let table = Arc::new(table);
        self.live.store(Arc::clone(&table));
        for (name, slot) in &table.slots {
            let old = before.slots.get(name);
            if !old.is_some_and(|old| Arc::ptr_eq(&old.stable, &slot.stable)) {
                let deployment = slot.stable.deployment();
                tracing::info!(plugin.name = %name, deployment.id = %deployment, "Plugin `{name}` is live");
                self.metrics.count_swap(name);
            }
        }
        for (user, filter) in table.missing.difference(&before.missing) {
            let user = user_of(user);
            tracing::error!(plugin.name = %filter, "The filter `{filter}` is not there, and {user} it");
        }
        self.forget_series(before, &table);
        self.retire(before, &table);
        table
    }

    /// Gives the versions that were replaced their time to finish.
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for it; if the host stops first, requests are let finish anyway"
    )]
    fn retire(&self, before: &LiveTable, after: &LiveTable) {
        // Only as long as there is a request that uses it.
        let mut replaced: Vec<Weak<LoadedPlugin>> = Vec::new();
        for (name, old) in &before.slots {
            let new = after.slots.get(name);
            if new.is_some_and(|new| Arc::ptr_eq(old, new)) {
                continue;
            }
            let is_kept = |version: &Arc<LivePlugin>| {
                new.is_some_and(|new| new.versions().any(|kept| Arc::ptr_eq(kept, version)))
            };
            let gone = old.versions().filter(|version| !is_kept(version));
            replaced.extend(gone.map(|version| Arc::downgrade(&version.loaded)));
        }
        if replaced.is_empty() {
            return;
        }
        let drain = Duration::from_secs(self.config.rollout.drain_s);
        tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            for version in replaced.iter().filter_map(Weak::upgrade) {
                version.retire();
            }
        });
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
        let version = row.version.to_string();
        Ok(LivePlugin {
            loaded: Arc::new(loaded),
            routes,
            mount,
            figures: Figures::new(self.config.rollout.window()),
            // Versions are plain ASCII.
            version_value: HeaderValue::try_from(version)
                .unwrap_or(HeaderValue::from_static("unknown")),
            manifest,
            id: row.deployment.to_string(),
            row,
        })
    }

    /// Series of routes that no live plugin has any more would only grow in number.
    fn forget_series(&self, before: &LiveTable, after: &LiveTable) {
        let has_route = |slot: &Slot, pattern: &str| {
            let mut routes = slot.versions().flat_map(|version| version.routes.iter());
            routes.any(|route| *route.pattern == *pattern)
        };
        for (name, old) in &before.slots {
            let new = after.slots.get(name);
            if new.is_some_and(|new| Arc::ptr_eq(old, new)) {
                continue;
            }
            for route in old.versions().flat_map(|version| version.routes.iter()) {
                if !new.is_some_and(|new| has_route(new, &route.pattern)) {
                    self.metrics.remove_route(name, &route.pattern);
                }
            }
            if new.is_none() {
                self.metrics.remove_plugin(name);
                self.metrics.remove_filter(name);
            }
        }
    }
}

/// The version that was made from this row.
fn of_row<'a>(
    mut versions: impl Iterator<Item = &'a Arc<LivePlugin>>,
    row: &LiveRow,
) -> Option<Arc<LivePlugin>> {
    versions.find(|version| version.row == *row).cloned()
}

/// The old slot if it is the same as the new one, so that requests go on being spread as they were.
fn kept(old: Option<&Arc<Slot>>, new: Slot) -> Arc<Slot> {
    match old {
        Some(old) if old.is_same(&new) => Arc::clone(old),
        _ => Arc::new(new),
    }
}
