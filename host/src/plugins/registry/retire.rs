//! What becomes of versions that are live no more: they finish what they have begun, and what was counted of routes that
//! nobody has any more is forgotten.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crate::plugins::registry::live::Difference;
use crate::plugins::registry::{LivePlugin, Registry};
use crate::plugins::rollout::Slot;
use crate::runtime::LoadedPlugin;

impl Registry {
    /// Gives the versions that were replaced their time to finish.
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for it; if the host stops first, requests are let finish anyway"
    )]
    pub(super) fn retire(&self, differences: &[Difference]) {
        // Only as long as there is a request that uses it.
        let mut replaced: Vec<Weak<LoadedPlugin>> = Vec::new();
        for Difference { before, after, .. } in differences {
            let is_kept = |version: &Arc<LivePlugin>| {
                let mut kept = after.iter().flat_map(|after| after.versions());
                kept.any(|kept| Arc::ptr_eq(kept, version))
            };
            let old = before.iter().flat_map(|before| before.versions());
            let gone = old.filter(|version| !is_kept(version));
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

    /// Series of routes that no live plugin has any more would only grow in number.
    pub(super) fn forget_series(&self, differences: &[Difference]) {
        let has_route = |slot: &Slot, pattern: &str| {
            let mut routes = slot.versions().flat_map(|version| version.routes.iter());
            routes.any(|route| *route.pattern == *pattern)
        };
        for difference in differences {
            let Some(old) = &difference.before else {
                continue;
            };
            let (name, new) = (&difference.name, difference.after.as_ref());
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
