//! Filters: what one may declare, and whether those that others name are there.

use super::EntryKind;
use super::component::Interfaces;
use super::imports::split_name;
use crate::ids::PluginName;
use crate::plugins::Mistake;
use crate::plugins::filters::What;
use crate::plugins::manifest::Manifest;

pub(super) fn check(
    manifest: &Manifest,
    entry: Option<EntryKind>,
    interfaces: Option<&Interfaces>,
) -> Vec<Mistake> {
    let (Some(entry), Some(interfaces)) = (entry, interfaces) else {
        return Vec::new();
    };
    let mut mistakes = Vec::new();
    let mut refuse = |place: &str, message: &str, help: &str| {
        let mistake = Mistake::new(message).at(manifest.place(place));
        mistakes.push(mistake.with_help(help));
    };
    let exports = |name: &str| {
        let mut exports = interfaces.exports.iter();
        exports.any(|export| split_name(&export.name).0 == name)
    };
    for (key, asked, interface) in [
        (
            "filter.request_body_max",
            manifest.filter.request_body_max,
            "gantry:http/request-filter",
        ),
        (
            "filter.response_body_max",
            manifest.filter.response_body_max,
            "gantry:http/response-filter",
        ),
    ] {
        if asked.is_some() && !exports(interface) {
            let message = format!("`{key}` asks for bodies that nothing looks at");
            refuse(key, &message, &format!("export `{interface}@0.1.0`"));
        }
    }
    if entry != EntryKind::Filter {
        return mistakes;
    }
    if !manifest.routes.is_empty() {
        let help = "other plugins name it: `filters = [{ use = \"plugin:NAME\", on_failure = \"closed\" }]`";
        refuse("route:0", "a filter has no routes", help);
    }
    if !manifest.filters.is_empty() {
        refuse(
            "filters",
            "a filter has no filters",
            "name them where this one is named",
        );
    }
    if !manifest.tests.is_empty() {
        let help = "test its functions with `cargo test`";
        let message = "`[[test]]` asks routes, and a filter has none";
        refuse("tests", message, help);
    }
    mistakes
}

/// The filters that a manifest names and that are not there.
pub(in crate::plugins) fn missing_filters(
    manifest: &Manifest,
    is_filter: impl Fn(&PluginName) -> Option<bool>,
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut seen = Vec::new();
    let routes = manifest.routes.iter().flat_map(|route| &route.filters);
    for named in manifest.filters.iter().chain(routes) {
        let What::Plugin { name, .. } = &named.what else {
            continue;
        };
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let (message, help) = match is_filter(name) {
            Some(true) => continue,
            Some(false) => (
                format!("the plugin `{name}` is no filter"),
                "a filter exports `gantry:http/request-filter` or `response-filter`",
            ),
            None => (
                format!("there is no filter `{name}`"),
                "deploy the filter first",
            ),
        };
        let place = manifest.place(&format!("filter:{name}"));
        mistakes.push(Mistake::new(message).at(place).with_help(help));
    }
    mistakes
}

/// The filters that a manifest names before its own files and that want to see bodies: files flow past filters.
pub(in crate::plugins) fn blocking_filters(
    manifest: &Manifest,
    reads_bodies: impl Fn(&PluginName) -> bool,
) -> Vec<Mistake> {
    if manifest.files.is_empty() {
        return Vec::new();
    }
    let named = manifest
        .filters
        .iter()
        .filter_map(|named| match &named.what {
            What::Plugin { name, .. } => Some(name),
            What::Native(_) => None,
        });
    let blocking = named.filter(|name| reads_bodies(name));
    blocking
        .map(|name| {
            let message = format!(
                "the filter `{name}` wants to see bodies, and `[[files]]` flow past filters"
            );
            let help = "name it in the `[[route]]`s that it is for, and not for all of them";
            let place = manifest.place(&format!("filter:{name}"));
            Mistake::new(message).at(place).with_help(help)
        })
        .collect()
}
