//! Compares the limits that an author asks for with the operator's ceilings. Asking for more is a mistake and is not cut
//! down in silence, because the plugin would then fail where nobody looks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plugins::Mistake;
use crate::plugins::manifest::{Manifest, show_duration, show_size};

/// The most that any plugin may ask for.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// All memories and tables of one instance together. Default: 256 MiB.
    pub memory_bytes_max: u64,
    /// Time on a processor, for one invocation. Default: 5000.
    pub cpu_ms_max: u64,
    /// Time on the wall, for one invocation. Also the longest timeout of a route. Default: 60000.
    pub wall_ms_max: u64,
    /// The time of one invocation whose bodies flow (`stream` of a route). Default: 3600000.
    pub stream_ms_max: u64,
    /// Invocations of one plugin at the same time. Default: 256.
    pub concurrency_max: u32,
    /// What one invocation may write to the log. Default: 1 MiB.
    pub log_bytes_max: u64,
    /// The body of one request. Default: 32 MiB.
    pub body_bytes_max: u64,
    /// How long an answer is kept: fresh, and after that. Default: 86400000.
    pub cache_ms_max: u64,
    /// The body that a filter asks for, of a request or an answer. Default: 4 MiB.
    pub filter_body_bytes_max: u64,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 << 20,
            cpu_ms_max: 5000,
            wall_ms_max: 60_000,
            stream_ms_max: 3_600_000,
            concurrency_max: 256,
            log_bytes_max: 1 << 20,
            body_bytes_max: 32 << 20,
            cache_ms_max: 86_400_000,
            filter_body_bytes_max: 4 << 20,
        }
    }
}

pub(super) fn check(manifest: &Manifest, ceilings: &Ceilings) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut refuse = |what: &str, asked: String, most: String, place: &str| {
        let message = format!("{what} asks for {asked}, the operator allows at most {most}");
        mistakes.push(Mistake::new(message).at(manifest.place(place)));
    };
    let (cpu, wall, stream, kept) = (
        Duration::from_millis(ceilings.cpu_ms_max),
        Duration::from_millis(ceilings.wall_ms_max),
        Duration::from_millis(ceilings.stream_ms_max),
        Duration::from_millis(ceilings.cache_ms_max),
    );
    let asked = &manifest.limits;
    let mut size = |what: &str, asked: Option<u64>, most: u64, place: &str| {
        if let Some(asked) = asked.filter(|asked| *asked > most) {
            refuse(what, show_size(asked), show_size(most), place);
        }
    };
    size(
        "`limits.memory`",
        asked.memory_bytes_max,
        ceilings.memory_bytes_max,
        "limits.memory",
    );
    size(
        "`limits.log_bytes`",
        asked.log_bytes_max,
        ceilings.log_bytes_max,
        "limits.log_bytes",
    );
    for (key, asked) in [
        ("filter.request_body_max", manifest.filter.request_body_max),
        (
            "filter.response_body_max",
            manifest.filter.response_body_max,
        ),
    ] {
        size(
            &format!("`{key}`"),
            asked,
            ceilings.filter_body_bytes_max,
            key,
        );
    }
    for (index, route) in manifest.routes.iter().enumerate() {
        let what = format!("`body_bytes_max` of `{}`", route.path);
        size(
            &what,
            route.body_bytes_max,
            ceilings.body_bytes_max,
            &format!("route:{index}"),
        );
    }
    let mut time = |what: &str, asked: Option<Duration>, most: Duration, place: &str| {
        if let Some(asked) = asked.filter(|asked| *asked > most) {
            refuse(what, show_duration(asked), show_duration(most), place);
        }
    };
    time("`limits.cpu`", asked.cpu_max, cpu, "limits.cpu");
    time("`limits.wall`", asked.wall_max, wall, "limits.wall");
    for (index, route) in manifest.routes.iter().enumerate() {
        let what = format!("`timeout` of `{}`", route.path);
        time(&what, route.timeout, wall, &format!("route:{index}"));
        let what = format!("`stream` of `{}`", route.path);
        time(&what, route.stream, stream, &format!("route:{index}"));
        let cache = route.cache.as_ref();
        for (key, asked) in [
            ("ttl", cache.map(|cache| cache.ttl)),
            (
                "stale_while_revalidate",
                cache.map(|cache| cache.stale_while_revalidate),
            ),
            ("stale_if_error", cache.map(|cache| cache.stale_if_error)),
        ] {
            let what = format!("`cache.{key}` of `{}`", route.path);
            time(&what, asked, kept, &format!("route:{index}"));
        }
    }
    if let Some(asked) = asked
        .concurrency_max
        .filter(|asked| *asked > ceilings.concurrency_max)
    {
        let most = ceilings.concurrency_max.to_string();
        refuse(
            "`limits.concurrency`",
            asked.to_string(),
            most,
            "limits.concurrency",
        );
    }
    mistakes
}
