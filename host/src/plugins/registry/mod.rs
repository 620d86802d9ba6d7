//! Which plugins are live. There are two ways to a new table, and both swap one pointer: `refresh` makes memory agree with
//! the rows at start-up, and `change` changes rows and memory together, or neither.

mod live;
mod load;
mod retire;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::ids::PluginName;
use crate::ledger::carried;
use crate::plugins::Config;
use crate::plugins::accounts::Accounts;
use crate::plugins::artifact::Artifacts;
use crate::plugins::change::{Change, Changed};
use crate::plugins::idle::idle;
use crate::plugins::metrics::Metrics;
use crate::plugins::rollout::{self, Slot};
use crate::plugins::store::{LiveRow, Store, StoreError};
use crate::plugins::trust::{Policy, Refusal, Trust};
use crate::plugins::versions::Callers;
use crate::runtime::{EntryKind, Hook, LoadedPlugin, Runtime};

pub use live::{Filters, LivePlugin, LiveTable};

use live::Difference;

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
    #[error(
        "the filter `{filter}` wants to see bodies, and would stand before the files of `{user}`, which flow past filters"
    )]
    FilesBehindFilter {
        user: PluginName,
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

    /// Whether a plugin of this name is live, and a filter that is handed bodies.
    pub(super) fn reads_bodies(&self, name: &PluginName) -> bool {
        let live = self.live();
        let slot = live.slot(name);
        self.filters.has_plugins && slot.is_some_and(|slot| slot.reads_bodies())
    }

    /// What is live now. A request keeps it to its end, and with it the version that answers it.
    pub fn live(&self) -> Arc<LiveTable> {
        self.live.load_full()
    }

    /// Settings about plugins that change nothing, because what they name is not live: a sentence for each.
    pub fn idle_settings(&self) -> Vec<String> {
        idle(&self.config, &self.filters.around, &self.live())
    }

    /// Who still calls routes that are deprecated.
    pub fn callers(&self) -> &Callers {
        self.metrics.callers()
    }

    /// What the calls of all routes have used.
    pub fn accounts(&self) -> &Accounts {
        self.metrics.accounts()
    }

    /// Makes the table agree with the rows. A plugin that cannot be loaded keeps its earlier version, and its failure is
    /// in the new table. What is missing is loaded some at once. Several callers at once wait for each other.
    pub async fn refresh(self: &Arc<Self>) -> Result<Arc<LiveTable>, StoreError> {
        let _turn = self.turn.lock().await;
        let before = self.live();
        let trusted = Arc::new(self.trust.list().await?);
        let is_same_list = trusted == before.trusted;
        let all = self.store.wanted().await?;
        let mut olds = HashMap::new();
        let mut missing = Vec::new();
        for wanted in &all {
            let name = &wanted.stable.plugin;
            let mut old = Vec::new();
            for version in before
                .slot(name)
                .into_iter()
                .flat_map(|slot| slot.versions())
            {
                // Whose signature counts no more goes, even if nothing better is there.
                if is_same_list || self.trust.check(&trusted, &version.row).await?.is_ok() {
                    old.push(Arc::clone(version));
                }
            }
            let rows = [
                Some(&wanted.stable),
                wanted.canary.as_ref().map(|(row, _)| row),
            ];
            let is_missing = |row: &&LiveRow| of_row(old.iter(), row).is_none();
            missing.extend(rows.into_iter().flatten().filter(is_missing).cloned());
            olds.insert(name.clone(), old);
        }
        let mut loaded = self.load_all(missing).await;
        let mut slots = BTreeMap::new();
        let mut unloaded = BTreeMap::new();
        for wanted in all {
            let name = wanted.stable.plugin.clone();
            let old = olds.remove(&name).unwrap_or_default();
            let mut find = |row: &LiveRow| {
                let known = of_row(old.iter(), row);
                known.or_else(|| match loaded.remove(&row.deployment)? {
                    Ok(plugin) => Some(plugin),
                    Err(reason) => {
                        unloaded.insert(name.clone(), reason);
                        None
                    }
                })
            };
            let stable = find(&wanted.stable);
            let canary = wanted.canary.as_ref();
            let canary = canary.and_then(|(row, weight)| Some((find(row)?, *weight)));
            // An earlier version rather than none.
            let slot = before.slot(&name);
            let is_left =
                |stable: &&Arc<LivePlugin>| old.iter().any(|one| Arc::ptr_eq(one, stable));
            let earlier = slot.map(|slot| &slot.stable).filter(is_left).cloned();
            if let Some(stable) = stable.or(earlier) {
                slots.insert(name, kept(slot, Slot::new(stable, canary)));
            }
        }
        let table = LiveTable::new(slots, unloaded, trusted, &self.filters);
        let differences = table.differences(&before);
        Ok(self.swap(&before, table, &differences))
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
        tokio::spawn(carried(work))
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
            let were = self.store.wanted_of(&mut tx, plugin).await?;
            let changed = self.store.apply(&mut tx, plugin, change, by).await?;
            let old = before.slot(plugin);
            let mut unloaded = None;
            let mut wanted = self.store.wanted_of(&mut tx, plugin).await?;
            let event = change.event(plugin, were.as_ref(), wanted.as_ref());
            self.store.record_event(&mut tx, event).await?;
            if let Some(rows) = &mut wanted {
                // The key may have been revoked since somebody asked.
                if let Some(refusal) = self.refusal(&rows.stable).await? {
                    unloaded = Some(refusal.to_string());
                    wanted = None;
                } else if let Some((row, _)) = &rows.canary
                    && let Some(refusal) = self.refusal(row).await?
                {
                    unloaded = Some(refusal.to_string());
                    rows.canary = None;
                }
            }
            let mut slot = None;
            if let Some(wanted) = wanted {
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
                        let canary = canary.and_then(|(_, found, weight)| Some((found?, weight)));
                        slot = Some(kept(old, Slot::new(stable, canary)));
                    }
                    (Some(row), _) if failure.as_ref().is_some_and(|(of, _)| *of == row) => {
                        let reason = failure.take().map(|(_, reason)| reason);
                        unloaded = Some(reason.unwrap_or_default());
                        slot = old.cloned();
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
                    (None, None) => slot = old.cloned(),
                }
            }
            let table = before.with(plugin, slot.as_ref(), unloaded, &self.filters);
            // No change may leave a route without a filter that it had, or make one live whose filter is not there.
            if let Some((user, filter)) = table.missing.difference(&before.missing).next() {
                let (user, filter) = (user.clone(), filter.clone());
                return Err(ChangeError::FilterMissing { user, filter });
            }
            // Nor may it put one in the way of files: none of them could be sent or had.
            if let Some((user, filter)) = table.blocked.difference(&before.blocked).next() {
                let (user, filter) = (user.clone(), filter.clone());
                return Err(ChangeError::FilesBehindFilter { user, filter });
            }
            if let Some(reason) = table.failures().get(plugin)
                && (change.makes_live() || !before.failures().contains_key(plugin))
            {
                let (plugin, reason) = (plugin.clone(), reason.clone());
                return Err(ChangeError::NotLive { plugin, reason });
            }
            tracing::debug!(plugin.name = %plugin, "Changing `{plugin}`: commit");
            tx.commit().await.map_err(StoreError::from)?;
            tracing::debug!(plugin.name = %plugin, "Changing `{plugin}`: swap");
            let difference = table.difference(&before, plugin);
            self.swap(&before, table, difference.as_slice());
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
        loaded: &Arc<LoadedPlugin>,
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
    fn swap(
        &self,
        before: &LiveTable,
        table: LiveTable,
        differences: &[Difference],
    ) -> Arc<LiveTable> {
        let table = Arc::new(table);
        self.live.store(Arc::clone(&table));
        for Difference {
            name,
            before,
            after,
        } in differences
        {
            let Some(after) = after else { continue };
            let is_same = |before: &Arc<Slot>| Arc::ptr_eq(&before.stable, &after.stable);
            if !before.as_ref().is_some_and(is_same) {
                let deployment = after.stable.deployment();
                tracing::info!(plugin.name = %name, deployment.id = %deployment, "Plugin `{name}` is live");
                self.metrics.count_swap(name);
            }
        }
        for (user, filter) in table.missing.difference(&before.missing) {
            let user = user_of(user);
            tracing::error!(plugin.name = %filter, "The filter `{filter}` is not there, and {user} it");
        }
        for (user, filter) in table.blocked.difference(&before.blocked) {
            tracing::error!(
                plugin.name = %user,
                "The filter `{filter}` wants to see bodies and stands before the files of `{user}`: nobody can send or have any"
            );
        }
        self.forget_series(differences);
        self.retire(differences);
        table
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
