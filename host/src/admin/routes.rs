//! The routes that answer now.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::clock::rfc3339;
use crate::plugins::manifest::{RateLimit, Route};
use crate::plugins::registry::LivePlugin;

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
    pub limits: Vec<RateLimitBody>,
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
pub(super) fn routes_of(plugin: &LivePlugin) -> Vec<RouteBody> {
    plugin
        .manifest()
        .routes
        .iter()
        .map(|route| body(plugin, route))
        .collect()
}

fn body(plugin: &LivePlugin, route: &Route) -> RouteBody {
    RouteBody {
        plugin: plugin.name().to_string(),
        host: plugin.mount.host.clone(),
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
    let mut routes: Vec<RouteBody> = live.iter().flat_map(|plugin| routes_of(plugin)).collect();
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
