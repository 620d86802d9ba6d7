//! Routes of one plugin must not collide: for each request there is one route at most.

use std::collections::HashMap;

use super::EntryKind;
use crate::plugins::Mistake;
use crate::plugins::manifest::Manifest;
use crate::plugins::routes;

pub(super) fn check(manifest: &Manifest, entry: Option<EntryKind>) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let needs_no_route = |entry| matches!(entry, EntryKind::Transform | EntryKind::Filter);
    if manifest.routes.is_empty() && entry.is_some_and(|entry| !needs_no_route(entry)) {
        let mistake = Mistake::new("the plugin answers requests, but has no route");
        mistakes
            .push(mistake.with_help("add `[[route]]` with `method = \"GET\"` and `path = \"/\"`"));
    }
    let mut router = matchit::Router::new();
    // By pattern, and by method: the first route that has it.
    let mut patterns: HashMap<String, HashMap<&http::Method, Vec<usize>>> = HashMap::new();
    for (index, route) in manifest.routes.iter().enumerate() {
        let place = manifest.place(&format!("route:{index}"));
        if route.stream.is_some() && entry.is_some_and(|entry| !entry.is_standard()) {
            let message = format!(
                "`stream` of `{}`: bodies of this plugin do not flow",
                route.path
            );
            let help = "only components of `wasi:http` take and give bodies piece by piece";
            mistakes.push(Mistake::new(message).at(place).with_help(help));
        }
        let pattern = routes::numbered(&route.path);
        if !patterns.contains_key(&pattern)
            && let Err(error) = router.insert(pattern.clone(), ())
        {
            let message = format!("the route `{}` collides with another: {error}", route.path);
            mistakes.push(Mistake::new(message).at(place));
            continue;
        }
        let mut earlier = manifest.routes[..index].iter();
        if let Some(other) = earlier.find(|other| routes::hides(&other.path, &route.path)) {
            let message = format!("the route `{}` collides with `{}`", route.path, other.path);
            let help = "in one segment, before others, a parameter has the same text behind it in all routes";
            mistakes.push(Mistake::new(message).at(place).with_help(help));
        }
        let methods = patterns.entry(pattern).or_default();
        for method in &route.methods {
            let others = methods.entry(method).or_default();
            let meets = |other: &&usize| {
                let other = &manifest.routes[**other].version;
                // A route without a version answers in all of them.
                other.is_none() || route.version.is_none() || *other == route.version
            };
            let Some(other) = others.iter().find(meets) else {
                others.push(index);
                continue;
            };
            let message = format!("`{method} {}` is routed twice", route.path);
            let first = manifest.place(&format!("route:{other}"));
            let mistake = Mistake::new(message).at(place);
            mistakes.push(match first {
                Some(first) => {
                    mistake.with_help(format!("the other route is in line {}", first.line))
                }
                None => mistake,
            });
        }
    }
    mistakes
}
