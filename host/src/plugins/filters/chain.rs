//! Filters put together: for each route one list, made when the table of live plugins is made, so that a request looks
//! nothing up.

use std::{collections::BTreeMap, sync::Arc};

use super::{Around, FilterUse, Native, OnFailure, PLUGIN, What};
use crate::ids::PluginName;
use crate::plugins::metrics::{FilterMetrics, Metrics};
use crate::plugins::registry::LivePlugin;
use crate::plugins::rollout::Slot;
use crate::plugins::routes::{Mounted, Route};
use crate::runtime::{Direction, EntryKind};
use crate::services::Account;

/// What stands before and behind one route.
#[derive(Debug)]
pub struct Chain {
    /// Outermost first: requests meet them in this order, answers in the opposite one.
    pub steps: Vec<Arc<Step>>,
    /// What the filters leave of a request's body, in bytes.
    pub body_bytes_max: usize,
    /// Whether one of them is handed the bodies of requests, so that these cannot flow.
    pub reads_requests: bool,
    /// Whether a plugin among them looks at answers, and must be told then what the request was.
    pub shows_answers: bool,
}

/// One filter in a list.
#[derive(Debug)]
pub struct Step {
    pub filter: Filter,
    pub metrics: FilterMetrics,
}

/// Who filters.
#[derive(Debug)]
pub enum Filter {
    Native(Native),
    Plugin {
        name: PluginName,
        on_failure: OnFailure,
        /// Its versions; nothing while it is not there.
        slot: Option<Arc<Slot>>,
        /// Where it is booked what it uses: for requests, for answers.
        accounts: [Arc<Account>; 2],
    },
}

impl Filter {
    /// As manifests and settings write it.
    pub fn name(&self) -> String {
        match self {
            Self::Native(native) => native.name().to_owned(),
            Self::Plugin { name, .. } => format!("{PLUGIN}{name}"),
        }
    }
}

impl Chain {
    /// Whether one of them is handed the bodies of answers, so that these cannot flow.
    pub fn reads_answers(&self) -> bool {
        const OUT: Direction = Direction::Response;
        let mut versions = self.steps.iter().flat_map(|step| step.filtering(OUT));
        versions.any(|live| live.filtered_bytes_max(OUT).is_some())
    }
}

impl Step {
    /// The versions of the plugin that filter this way, if it is one.
    fn filtering(&self, direction: Direction) -> impl Iterator<Item = &Arc<LivePlugin>> {
        let slot = match &self.filter {
            Filter::Plugin { slot, .. } => slot.as_deref(),
            Filter::Native(_) => None,
        };
        let versions = slot.into_iter().flat_map(Slot::versions);
        versions.filter(move |version| version.loaded.filters(direction))
    }

    /// The bound that it puts on bodies of requests.
    fn body_bytes_max(&self) -> Option<usize> {
        if let Filter::Native(Native::BodyLimit { bytes_max }) = self.filter {
            return Some(bytes_max);
        }
        let versions = self.filtering(Direction::Request);
        let bounds = versions.filter_map(|live| live.filtered_bytes_max(Direction::Request));
        bounds.min()
    }
}

impl Slot {
    /// Whether one of its versions is a filter that is handed bodies.
    pub(in crate::plugins) fn reads_bodies(&self) -> bool {
        let mut versions = self.versions();
        versions.any(|live| {
            let mut directions = [Direction::Request, Direction::Response].into_iter();
            directions.any(|direction| {
                live.loaded.filters(direction) && live.filtered_bytes_max(direction).is_some()
            })
        })
    }
}

impl LivePlugin {
    /// Of a filter: the longest body that it is handed, in bytes. Nothing if it is handed none.
    pub fn filtered_bytes_max(&self, direction: Direction) -> Option<usize> {
        let asked = &self.manifest().filter;
        let bytes = match direction {
            Direction::Request => asked.request_body_max,
            Direction::Response => asked.response_body_max,
        };
        bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }
}

/// The lists of all routes of one plugin.
#[derive(Debug, Default)]
pub struct Chains(Vec<Option<Chain>>);

impl Chains {
    /// What stands before and behind this route, if anything does.
    pub fn of(&self, route: &Route) -> Option<&Chain> {
        self.0.get(route.index)?.as_ref()
    }
}

/// Somebody who names a filter that is not there: a plugin, or the settings.
pub(in crate::plugins) type Missing = (Option<PluginName>, PluginName);

/// A plugin with files and a filter before them that wants to see bodies, past which files flow.
pub(in crate::plugins) type Blocked = (PluginName, PluginName);

/// What lists are made of.
pub(in crate::plugins) struct Wiring<'a> {
    pub(in crate::plugins) slots: &'a BTreeMap<PluginName, Arc<Slot>>,
    /// The operator's.
    pub(in crate::plugins) around: &'a [Around],
    /// Only then are filters found that are plugins; else they are left out.
    pub(in crate::plugins) has_plugins: bool,
    pub(in crate::plugins) metrics: &'a Metrics,
}

impl Wiring<'_> {
    /// A plugin with the lists of its versions.
    pub(in crate::plugins) fn mounted(&self, slot: &Arc<Slot>) -> Mounted {
        let canary = slot.canary().map(|canary| self.chains(&canary.plugin));
        Mounted {
            slot: Arc::clone(slot),
            filters: [self.chains(&slot.stable), canary.unwrap_or_default()],
        }
    }

    fn chains(&self, plugin: &LivePlugin) -> Chains {
        let manifest = plugin.manifest();
        let around = self.around.iter();
        let outer: Vec<Arc<Step>> = around
            .filter(|around| around.covers(&plugin.mount))
            .map(|around| &around.filter)
            .chain(&manifest.filters)
            .filter_map(|filter| self.step(filter))
            .collect();
        let has_any = !outer.is_empty() || manifest.routes.iter().any(|r| !r.filters.is_empty());
        if !has_any {
            return Chains::default();
        }
        let routes = manifest.routes.iter();
        Chains(
            routes
                .map(|route| {
                    let own = route.filters.iter().filter_map(|filter| self.step(filter));
                    chain(outer.iter().cloned().chain(own).collect())
                })
                .collect(),
        )
    }

    /// Who names a filter that is not there.
    pub(in crate::plugins) fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        for around in self.around {
            self.look(None, &around.filter, &mut missing);
        }
        missing.extend(self.slots.values().flat_map(|slot| self.missing_of(slot)));
        missing
    }

    /// What one plugin names that is not there.
    pub(in crate::plugins) fn missing_of(&self, slot: &Slot) -> Vec<Missing> {
        let mut missing = Vec::new();
        for plugin in slot.versions() {
            let manifest = plugin.manifest();
            let of_routes = manifest.routes.iter().flat_map(|route| &route.filters);
            for filter in manifest.filters.iter().chain(of_routes) {
                self.look(Some(plugin.name()), filter, &mut missing);
            }
        }
        missing
    }

    /// Which filters stand in the way of which files.
    pub(in crate::plugins) fn blocked(&self) -> Vec<Blocked> {
        let slots = self.slots.values();
        slots.flat_map(|slot| self.blocked_of(slot)).collect()
    }

    /// Which filters stand in the way of the files of one plugin.
    pub(in crate::plugins) fn blocked_of(&self, slot: &Slot) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        for plugin in slot.versions() {
            let manifest = plugin.manifest();
            if manifest.files.is_empty() || !self.has_plugins {
                continue;
            }
            let around = self.around.iter();
            let around = around.filter(|around| around.covers(&plugin.mount));
            let around = around.map(|around| &around.filter);
            for filter in around.chain(&manifest.filters) {
                if let What::Plugin { name, .. } = &filter.what
                    && self.find(name).is_some_and(|slot| slot.reads_bodies())
                {
                    blocked.push((plugin.name().clone(), name.clone()));
                }
            }
        }
        blocked
    }

    fn look(&self, user: Option<&PluginName>, filter: &FilterUse, missing: &mut Vec<Missing>) {
        if let What::Plugin { name, .. } = &filter.what
            && self.has_plugins
            && self.find(name).is_none()
        {
            missing.push((user.cloned(), name.clone()));
        }
    }

    fn find(&self, name: &PluginName) -> Option<&Arc<Slot>> {
        let slot = self.slots.get(name)?;
        let mut versions = slot.versions();
        versions
            .all(|version| version.loaded.spec().entry == EntryKind::Filter)
            .then_some(slot)
    }

    fn step(&self, named: &FilterUse) -> Option<Arc<Step>> {
        let (filter, name) = match &named.what {
            What::Native(native) => (Filter::Native(native.clone()), native.name().to_owned()),
            What::Plugin { .. } if !self.has_plugins => return None,
            What::Plugin { name, on_failure } => (
                Filter::Plugin {
                    name: name.clone(),
                    on_failure: *on_failure,
                    slot: self.find(name).cloned(),
                    accounts: [Direction::Request, Direction::Response]
                        .map(|direction| self.metrics.account_of_filter(name, direction)),
                },
                format!("{PLUGIN}{name}"),
            ),
        };
        let metrics = self.metrics.of_filter(&name);
        Some(Arc::new(Step { filter, metrics }))
    }
}

fn chain(steps: Vec<Arc<Step>>) -> Option<Chain> {
    if steps.is_empty() {
        return None;
    }
    let bounds = steps.iter().filter_map(|step| step.body_bytes_max());
    let body_bytes_max = bounds.min().unwrap_or(usize::MAX);
    let filtering = |direction| steps.iter().flat_map(move |step| step.filtering(direction));
    let reads_requests = filtering(Direction::Request)
        .any(|live| live.filtered_bytes_max(Direction::Request).is_some());
    let shows_answers = filtering(Direction::Response).next().is_some();
    Some(Chain {
        steps,
        body_bytes_max,
        reads_requests,
        shows_answers,
    })
}
