//! Settings about plugins that change nothing, because what they name is not there.

use crate::ids::PluginName;
use crate::plugins::Config;
use crate::plugins::filters::Around;
use crate::plugins::limits::LimitOverride;
use crate::plugins::manifest::Route;
use crate::plugins::registry::{LivePlugin, LiveTable};

/// A sentence for each setting under `plugins` that names a plugin, a route or a limit that is not live.
pub(super) fn idle(config: &Config, around: &[Around], live: &LiveTable) -> Vec<String> {
    let is_missing =
        |plugin: &PluginName| live.slot(plugin).is_none() && !live.failures().contains_key(plugin);
    let mut found = Vec::new();
    for change in &config.limits {
        let of = format!("`plugins.limits`: `{}` of `{}`", change.name, change.plugin);
        if live.failures().contains_key(&change.plugin) {
            continue;
        }
        let Some(slot) = live.slot(&change.plugin) else {
            found.push(format!("{of} changes nothing: no such plugin is deployed"));
            continue;
        };
        // What only a canary has is there.
        let mut reasons = slot.versions().map(|version| reason(change, version));
        if let Some(Some(reason)) = reasons.next()
            && reasons.all(|reason| reason.is_some())
        {
            found.push(format!("{of} changes nothing: {reason}"));
        }
    }
    for rule in &config.cors {
        if let Some(plugin) = &rule.plugin
            && is_missing(plugin)
        {
            found.push(format!(
                "`plugins.cors`: the entry of `{plugin}` changes nothing: no such plugin is deployed"
            ));
        }
    }
    for filter in &config.filters {
        let named = filter.filter.strip_prefix("plugin:");
        if let Some(Ok(plugin)) = named.map(str::parse::<PluginName>)
            && is_missing(&plugin)
        {
            found.push(format!(
                "`plugins.filters`: `{}` is not deployed; what it stands around fails as its `on_failure` says",
                filter.filter
            ));
        }
    }
    // In the same order; they are made of one another.
    for (filter, around) in config.filters.iter().zip(around) {
        let is_bound = filter.host.is_some() || filter.mount.is_some();
        let mut versions = live.slots().flat_map(|slot| slot.versions());
        if is_bound && !versions.any(|version| around.covers(&version.mount)) {
            let host = filter.host.as_deref().unwrap_or("every host");
            let mount = filter.mount.as_deref().unwrap_or("/");
            found.push(format!(
                "`plugins.filters`: `{}` changes nothing: no plugin is live on {host} at `{mount}` or below",
                filter.filter
            ));
        }
    }
    found
}

/// Why an override changes nothing in this version of the plugin, if it does not.
fn reason(change: &LimitOverride, plugin: &LivePlugin) -> Option<String> {
    let routes = || {
        let routes = plugin.manifest().routes.iter();
        routes.filter(|route| change.is_for(plugin.name(), &route.path))
    };
    if routes().next().is_none() {
        let route = change.route.as_deref().unwrap_or("*");
        return Some(format!("it has no route `{route}`"));
    }
    let has = |route: &Route| route.limits.iter().any(|limit| limit.name == change.name);
    if change.add || routes().any(has) {
        return None;
    }
    let mut names: Vec<&str> = routes()
        .flat_map(|route| &route.limits)
        .map(|limit| &*limit.name)
        .collect();
    names.sort_unstable();
    names.dedup();
    Some(match &names[..] {
        [] => "no limit is declared there; `add = true` makes one".to_owned(),
        names => format!(
            "there is no limit of this name, but `{}`; `add = true` makes one",
            names.join("`, `")
        ),
    })
}
