//! Routes as `gantry plugin inspect` shows them: one line for each, and below it what holds there.

use crate::admin::routes::{RateLimitBody, RouteBody, RouteCacheBody};
use crate::cli::plugin::build::size;
use crate::plugins::filters::FilterUse;
use crate::plugins::manifest::{Manifest, Route};

/// A route of a plugin on the server.
pub(super) fn live(route: &RouteBody) -> Vec<String> {
    let mut lines = vec![line(
        &route.methods.join(","),
        &route.path,
        &route.auth,
        &route.permissions,
    )];
    for limit in &route.limits_in_force {
        let declared = route.limits.iter().find(|other| other.name == limit.name);
        let (now, declared) = (rule(limit), declared.map(rule));
        let told = match declared {
            Some(declared) if declared == now => "",
            Some(declared) => &format!("; the manifest says {declared}"),
            None => "; by the settings",
        };
        lines.push(format!("  limit `{}`: {now}{told}", limit.name));
    }
    for gone in &route.limits {
        let is_there = |other: &RateLimitBody| other.name == gone.name;
        if !route.limits_in_force.iter().any(is_there) {
            let declared = rule(gone);
            lines.push(format!(
                "  limit `{}`: off by the settings; the manifest says {declared}",
                gone.name
            ));
        }
    }
    if !route.filters.is_empty() {
        lines.push(format!("  filters: {}", route.filters.join(", ")));
    }
    lines.extend(more(
        route.cache.as_ref(),
        route.idempotency.as_deref(),
        route.timeout_ms,
        route.body_bytes_max,
    ));
    lines
}

/// A route of a plugin in a file.
pub(super) fn declared(route: &Route, manifest: &Manifest) -> Vec<String> {
    let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
    let permissions: Vec<String> = route.permissions.iter().map(ToString::to_string).collect();
    let mut first = line(
        &methods.join(","),
        &route.path,
        &route.auth.to_string(),
        &permissions,
    );
    if let Some(export) = route.export.as_ref().or(manifest.extism.as_ref()) {
        first.push_str(&format!("  {export}"));
    }
    let mut lines = vec![first];
    for limit in &route.limits {
        let body = RateLimitBody::from(limit);
        lines.push(format!("  limit `{}`: {}", body.name, rule(&body)));
    }
    let filters = manifest.filters.iter().chain(&route.filters);
    let filters: Vec<String> = filters.map(FilterUse::name).collect();
    if !filters.is_empty() {
        lines.push(format!("  filters: {}", filters.join(", ")));
    }
    let timeout_ms = route.timeout.map(|time| time.as_millis());
    lines.extend(more(
        RouteCacheBody::of(route).as_ref(),
        route.idempotency.map(|it| it.to_string()).as_deref(),
        timeout_ms.and_then(|ms| u64::try_from(ms).ok()),
        route.body_bytes_max,
    ));
    lines
}

fn line(methods: &str, path: &str, auth: &str, permissions: &[String]) -> String {
    let needs = match permissions {
        [] => String::new(),
        permissions => format!(" ({})", permissions.join(", ")),
    };
    format!("{methods} {path}  {auth}{needs}")
}

/// `10 in 60 s by ip`
fn rule(limit: &RateLimitBody) -> String {
    let mut text = match limit.window_s {
        Some(window_s) => format!("{} in {}", limit.limit, time(window_s * 1000)),
        None => format!("{} at once", limit.limit),
    };
    text.push_str(&format!(" by {}", limit.key));
    if let Some(burst) = limit.burst {
        text.push_str(&format!(", {burst} at once after a rest"));
    }
    if limit.window_s.is_some() && limit.algorithm != "token-bucket" {
        text.push_str(&format!(", {}", limit.algorithm));
    }
    if limit.cost != 1 {
        text.push_str(&format!(", a call costs {}", limit.cost));
    }
    if limit.shadow {
        text.push_str(", only tells");
    }
    text
}

fn more(
    cache: Option<&RouteCacheBody>,
    idempotency: Option<&str>,
    timeout_ms: Option<u64>,
    body_bytes_max: Option<u64>,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(cache) = cache {
        let mut text = format!("  cache: {}", time(cache.ttl_s * 1000));
        for (seconds, why) in [
            (cache.stale_while_revalidate_s, "while it is made anew"),
            (cache.stale_if_error_s, "if that fails"),
        ] {
            if seconds > 0 {
                text.push_str(&format!(", {} more {why}", time(seconds * 1000)));
            }
        }
        if !cache.vary.is_empty() {
            text.push_str(&format!(", by {}", cache.vary.join(", ")));
        }
        text.push_str(if cache.is_shared {
            ", the same for everybody"
        } else {
            ", for each caller apart"
        });
        lines.push(text);
    }
    if let Some(idempotency) = idempotency {
        lines.push(format!("  done once by `Idempotency-Key`: {idempotency}"));
    }
    if let Some(ms) = timeout_ms {
        lines.push(format!("  timeout: {}", time(ms)));
    }
    if let Some(bytes) = body_bytes_max {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        lines.push(format!("  body: {} at most", size(bytes)));
    }
    lines
}

/// A time as people read it: `250 ms`, `10 s`, `90 min`, `24 h`.
pub(super) fn time(ms: u64) -> String {
    match ms {
        ms if ms < 1000 || !ms.is_multiple_of(1000) => format!("{ms} ms"),
        ms if ms < 120_000 || !ms.is_multiple_of(60_000) => format!("{} s", ms / 1000),
        ms if ms < 7_200_000 || !ms.is_multiple_of(3_600_000) => format!("{} min", ms / 60_000),
        ms => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, limit: u64) -> RateLimitBody {
        RateLimitBody {
            name: name.to_owned(),
            algorithm: "token-bucket".to_owned(),
            limit,
            window_s: Some(60),
            burst: None,
            key: "ip".to_owned(),
            cost: 1,
            shadow: false,
        }
    }

    #[test]
    fn times_are_in_the_largest_unit_that_is_whole() {
        for (ms, wanted) in [
            (0, "0 ms"),
            (250, "250 ms"),
            (1500, "1500 ms"),
            (10_000, "10 s"),
            (90_000, "90 s"),
            (5_400_000, "90 min"),
            (86_400_000, "24 h"),
        ] {
            assert_eq!(time(ms), wanted);
        }
    }

    #[test]
    fn what_the_settings_have_made_of_limits_stands_beside_what_the_author_declared() {
        let route = RouteBody {
            plugin: "lab".to_owned(),
            host: None,
            methods: vec!["GET".to_owned()],
            path: "/lab/x".to_owned(),
            auth: "public".to_owned(),
            permissions: Vec::new(),
            limits: vec![limit("same", 5), limit("less", 5), limit("gone", 5)],
            limits_in_force: vec![limit("same", 5), limit("less", 2), limit("new", 9)],
            cache: None,
            idempotency: Some("required".to_owned()),
            filters: vec!["security-headers".to_owned(), "plugin:mark".to_owned()],
            timeout_ms: Some(2000),
            body_bytes_max: Some(2 << 20),
            summary: None,
            version: None,
            deprecated_at: None,
            sunset_at: None,
        };
        assert_eq!(
            live(&route),
            [
                "GET /lab/x  public",
                "  limit `same`: 5 in 60 s by ip",
                "  limit `less`: 2 in 60 s by ip; the manifest says 5 in 60 s by ip",
                "  limit `new`: 9 in 60 s by ip; by the settings",
                "  limit `gone`: off by the settings; the manifest says 5 in 60 s by ip",
                "  filters: security-headers, plugin:mark",
                "  done once by `Idempotency-Key`: required",
                "  timeout: 2 s",
                "  body: 2.0 MiB at most",
            ]
        );
    }
}
