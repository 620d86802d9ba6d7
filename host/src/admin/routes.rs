//! The routes that answer now.

use std::{collections::HashMap, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::clock::rfc3339;
use crate::plugins::limits::RouteLimit;
use crate::plugins::manifest::{Auth, RateLimit, Route};
use crate::plugins::registry::{LivePlugin, LiveTable};
use crate::plugins::routes;

/// One route of a live plugin.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RouteBody {
    pub plugin: String,
    /// The host name; nothing means every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub methods: Vec<String>,
    /// With the mount: `/shop/orders/{id}`.
    pub path: String,
    /// `public`, `optional` or `required`.
    pub auth: String,
    /// The caller needs all of them.
    pub permissions: Vec<String>,
    /// As the manifest has them.
    pub limits: Vec<RateLimitBody>,
    /// As they hold: as the manifest has them and the settings (`plugins.limits`) have changed them.
    #[serde(default)]
    pub limits_in_force: Vec<RateLimitBody>,
    /// Which answers are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<RouteCacheBody>,
    /// Whether requests with the same key are done once: `optional` or `required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<String>,
    /// What stands before and behind it, outermost first: `plugin:NAME`, or one of the host's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The version of the API that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Since when nobody should begin to use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub deprecated_at: Option<String>,
    /// From when on it is gone, if it ends at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub sunset_at: Option<String>,
}

/// How often a route may be called.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RateLimitBody {
    pub name: String,
    /// How it is added up: `token-bucket`, `fixed-window`, `sliding-window` or `concurrency`.
    pub algorithm: String,
    /// Calls per window, or in progress.
    pub limit: u64,
    /// Nothing of calls in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Whose calls are counted together: `ip`, `user`, `api-key`, `route`, `header` or `expression`.
    pub key: String,
    /// How much one call takes.
    pub cost: u32,
    /// Whether it only counts and tells.
    pub shadow: bool,
}

/// Which answers of a route are kept, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RouteCacheBody {
    /// How long an answer is fresh.
    pub ttl_s: u64,
    /// How long it is given out after that while it is made anew.
    pub stale_while_revalidate_s: u64,
    /// How long it is given out if making it anew fails.
    pub stale_if_error_s: u64,
    /// Headers of the request that decide the answer.
    pub vary: Vec<String>,
    /// Whether everybody who may call the route gets the same answer.
    pub is_shared: bool,
}

impl RouteCacheBody {
    /// What the manifest says of this route, if it keeps answers.
    pub(crate) fn of(route: &Route) -> Option<Self> {
        let cache = route.cache.as_ref()?;
        Some(Self {
            ttl_s: cache.ttl.as_secs(),
            stale_while_revalidate_s: cache.stale_while_revalidate.as_secs(),
            stale_if_error_s: cache.stale_if_error.as_secs(),
            vary: cache.vary.iter().map(ToString::to_string).collect(),
            is_shared: cache.is_shared || route.auth == Auth::Public,
        })
    }
}

impl From<&RouteLimit> for RateLimitBody {
    fn from(limit: &RouteLimit) -> Self {
        let config = &limit.config;
        Self {
            name: config.name.clone(),
            limit: config.limit,
            algorithm: config.algorithm.to_string(),
            window_s: (config.window_ms > 0).then(|| config.window_ms.div_ceil(1000)),
            burst: config.burst,
            key: limit.key_name().to_owned(),
            cost: limit.cost,
            shadow: config.shadow,
        }
    }
}

impl From<&RateLimit> for RateLimitBody {
    fn from(limit: &RateLimit) -> Self {
        Self {
            name: limit.name.clone(),
            limit: limit.limit,
            algorithm: limit.algorithm.to_string(),
            window_s: limit.window.map(|window| window.as_secs()),
            burst: limit.burst,
            key: limit.key.to_string(),
            cost: limit.cost,
            shadow: limit.is_shadow,
        }
    }
}

/// The routes of a plugin, in the order of its manifest.
pub(super) fn routes_of(plugin: &Arc<LivePlugin>, live: &LiveTable) -> Vec<RouteBody> {
    let built: HashMap<usize, &Arc<routes::Route>> = plugin
        .routes
        .iter()
        .map(|route| (route.index(), route))
        .collect();
    let host = plugin.mount.host.as_deref().unwrap_or_default();
    let path = match plugin.mount.path.as_str() {
        "" => "/",
        path => path,
    };
    let mounted = live.find(host, path);
    let chains = mounted
        .filter(|mounted| mounted.slot.stable.name() == plugin.name())
        .map(|mounted| mounted.filters_of(plugin));
    let routes = plugin.manifest().routes.iter().enumerate();
    routes
        .map(|(index, route)| {
            let built = built.get(&index);
            let chain = built.and_then(|built| chains?.of(built));
            let steps = chain.map_or(&[][..], |chain| &chain.steps);
            let limits = built.and_then(|built| built.limits.as_ref());
            RouteBody {
                limits_in_force: limits
                    .map(|limits| limits.limits.iter().map(Into::into).collect())
                    .unwrap_or_default(),
                filters: steps.iter().map(|step| step.filter.name()).collect(),
                ..body(plugin, route)
            }
        })
        .collect()
}

fn body(plugin: &LivePlugin, route: &Route) -> RouteBody {
    RouteBody {
        plugin: plugin.name().to_string(),
        host: plugin.mount.host.clone(),
        limits_in_force: Vec::new(),
        filters: Vec::new(),
        cache: RouteCacheBody::of(route),
        idempotency: route.idempotency.map(|it| it.to_string()),
        methods: route.methods.iter().map(ToString::to_string).collect(),
        path: format!("{}{}", plugin.mount.path, route.path),
        auth: route.auth.to_string(),
        permissions: route.permissions.iter().map(ToString::to_string).collect(),
        limits: route.limits.iter().map(Into::into).collect(),
        timeout_ms: route
            .timeout
            .and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
        body_bytes_max: route.body_bytes_max,
        summary: route.summary.clone(),
        version: route.version.clone(),
        deprecated_at: route.deprecation.as_ref().map(|it| rfc3339(it.since_ms)),
        sunset_at: route
            .deprecation
            .as_ref()
            .and_then(|it| it.sunset_ms)
            .map(rfc3339),
    }
}

/// List the routes that answer now
///
/// By host, path and method.
#[utoipa::path(get, path = "/routes", tag = "plugins", params(PageQuery), responses((status = 200, body = PageBody<RouteBody>)))]
pub(super) async fn list_routes(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<RouteBody>>, ApiError> {
    let live = shared.registry.live();
    let mut routes: Vec<RouteBody> = live
        .iter()
        .flat_map(|plugin| routes_of(plugin, &live))
        .collect();
    routes.sort_by_cached_key(key);
    Ok(axum::Json(query.of(routes, key)?))
}

fn key(route: &RouteBody) -> String {
    format!(
        "{}{} {}",
        route.host.as_deref().unwrap_or_default(),
        route.path,
        route.methods.join(",")
    )
}
