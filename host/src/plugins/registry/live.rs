//! What is live at one moment: the plugins with their versions, and the table that requests read. A table is never changed;
//! one that differs in a single plugin is made out of the one before, and costs little more than that plugin.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use http::HeaderValue;

use crate::ids::{DeploymentId, PluginName};
use crate::plugins::Mount;
use crate::plugins::describe::Description;
use crate::plugins::filters::{Around, Blocked, Missing, Wiring};
use crate::plugins::manifest::Manifest;
use crate::plugins::metrics::Metrics;
use crate::plugins::rollout::{Figures, Slot};
use crate::plugins::routes::{MountTable, Mounted, RouteTable};
use crate::plugins::store::LiveRow;
use crate::plugins::trust::TrustList;
use crate::plugins::validate::Grants;
use crate::runtime::{EntryKind, LoadedPlugin};

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
    pub(super) manifest: Manifest,
    /// Made when somebody first asks.
    pub(super) description: OnceLock<Description>,
    /// Its id as text, for requests that choose it by header.
    pub(in crate::plugins) id: String,
    /// What it was made from. If the row says the same, there is nothing to do.
    pub(super) row: LiveRow,
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

    /// What it promises to its callers.
    pub fn description(&self) -> &Description {
        let describe = || Description::of(&self.manifest, &self.mount.path);
        self.description.get_or_init(describe)
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

/// What stands around the routes of plugins, beside what their manifests name.
pub struct Filters {
    /// The operator's, in their order.
    pub around: Vec<Around>,
    /// Whether plugins filter. Where a plugin is rehearsed it is alone.
    pub has_plugins: bool,
    /// Where filters are counted.
    pub metrics: Metrics,
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
    pub(super) trusted: Arc<TrustList>,
    /// Filters that somebody names and that are not there.
    pub(super) missing: BTreeSet<Missing>,
    /// Filters that stand in the way of files.
    pub(super) blocked: BTreeSet<Blocked>,
}

/// One plugin whose versions differ between two tables.
pub(super) struct Difference {
    pub(super) name: PluginName,
    pub(super) before: Option<Arc<Slot>>,
    pub(super) after: Option<Arc<Slot>>,
}

impl LiveTable {
    pub(super) fn new(
        slots: BTreeMap<PluginName, Arc<Slot>>,
        unloaded: BTreeMap<PluginName, String>,
        trusted: Arc<TrustList>,
        filters: &Filters,
    ) -> Self {
        let mut table = Self {
            mounts: MountTable::default(),
            failures: unloaded.clone(),
            slots: BTreeMap::new(),
            unloaded,
            trusted,
            missing: BTreeSet::new(),
            blocked: BTreeSet::new(),
        };
        let wiring = wiring(&slots, filters);
        for (name, slot) in &slots {
            table.mount(name, wiring.mounted(slot));
        }
        table.missing = wiring.missing().into_iter().collect();
        table.blocked = wiring.blocked().into_iter().collect();
        table.slots = slots;
        table
    }

    /// The same table with other versions of one plugin, or without it. `unloaded` is why a wanted deployment of it could
    /// not be loaded.
    pub(super) fn with(
        &self,
        name: &PluginName,
        slot: Option<&Arc<Slot>>,
        unloaded: Option<String>,
        filters: &Filters,
    ) -> Self {
        let old = self.slots.get(name);
        let is_filter = |slot: &Arc<Slot>| {
            let mut versions = slot.versions();
            versions.any(|version| version.loaded.spec().entry == EntryKind::Filter)
        };
        // Other plugins may name it, or may get the mount that it has.
        let is_for_others =
            old.into_iter().chain(slot).any(is_filter) || self.failures.len() > self.unloaded.len();
        let mut slots = self.slots.clone();
        match slot {
            Some(slot) => slots.insert(name.clone(), Arc::clone(slot)),
            None => slots.remove(name),
        };
        let mut reasons = self.unloaded.clone();
        match unloaded {
            Some(reason) => reasons.insert(name.clone(), reason),
            None => reasons.remove(name),
        };
        if is_for_others {
            return Self::new(slots, reasons, Arc::clone(&self.trusted), filters);
        }
        let mut table = Self {
            mounts: self.mounts.clone(),
            failures: reasons.clone(),
            slots: BTreeMap::new(),
            unloaded: reasons,
            trusted: Arc::clone(&self.trusted),
            missing: self.missing.clone(),
            blocked: self.blocked.clone(),
        };
        if let Some(old) = old {
            table.mounts.remove(old);
        }
        let is_others = |missing: &Missing| missing.0.as_ref() != Some(name);
        table.missing.retain(is_others);
        table.blocked.retain(|(user, _)| user != name);
        if let Some(slot) = slot {
            let wiring = wiring(&slots, filters);
            table.missing.extend(wiring.missing_of(slot));
            table.blocked.extend(wiring.blocked_of(slot));
            table.mount(name, wiring.mounted(slot));
        }
        table.slots = slots;
        table
    }

    fn mount(&mut self, name: &PluginName, mounted: Mounted) {
        if !self.mounts.insert(mounted) {
            let reason = "another plugin has the same mount".to_owned();
            self.failures.insert(name.clone(), reason);
        }
    }

    /// The plugins whose versions are not the same as in an earlier table.
    pub(super) fn differences(&self, before: &Self) -> Vec<Difference> {
        let names: BTreeSet<_> = before.slots.keys().chain(self.slots.keys()).collect();
        names
            .into_iter()
            .filter_map(|name| self.difference(before, name))
            .collect()
    }

    /// How one plugin differs from what it was in an earlier table, if it does.
    pub(super) fn difference(&self, before: &Self, name: &PluginName) -> Option<Difference> {
        let (before, after) = (before.slots.get(name), self.slots.get(name));
        let is_same = match (before, after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            _ => false,
        };
        (!is_same).then(|| Difference {
            name: name.clone(),
            before: before.cloned(),
            after: after.cloned(),
        })
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

fn wiring<'a>(slots: &'a BTreeMap<PluginName, Arc<Slot>>, filters: &'a Filters) -> Wiring<'a> {
    Wiring {
        slots,
        around: &filters.around,
        has_plugins: filters.has_plugins,
        metrics: &filters.metrics,
    }
}
