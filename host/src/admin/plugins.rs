//! The plugins on the host.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::routes::{RouteBody, routes_of};
use crate::admin::{ApiError, Shared};
use crate::clock::rfc3339;
use crate::ids::PluginName;
use crate::plugins::Mount;
use crate::plugins::registry::{LivePlugin, LiveTable};
use crate::plugins::routes::Route;
use crate::plugins::store::PluginRow;
use crate::plugins::validate::Grants;

/// A plugin, live or not.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PluginBody {
    pub name: String,
    pub mount: MountBody,
    /// Of the live deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The id of the live deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Who made it live.
    pub live_by: String,
    #[schema(format = DateTime)]
    pub live_at: String,
    /// Of the component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Which export answers: `handler`, `wasi-http-0.2` or `transform`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    pub routes: Vec<RouteBody>,
    /// What the live deployment asks for.
    pub capabilities: Vec<CapabilityBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsBody>,
    /// Why the wanted deployment is not live. An earlier one may still answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    pub invocations_in_progress: u32,
    /// Routes that keep crashing, from which calls are kept away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_routes: Vec<HeldRouteBody>,
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A route that keeps crashing.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HeldRouteBody {
    pub methods: Vec<String>,
    /// Below the mount, as the manifest has it.
    pub route: String,
    /// Whether calls of everybody are kept away. Else it is those of some clients.
    pub is_for_everybody: bool,
    /// For how much longer, if it is for everybody. With 0 the next call is let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Clients whose own calls are kept away.
    pub clients: usize,
}

/// Where the routes of a plugin hang.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MountBody {
    /// Answers only requests to this host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub path: String,
}

/// Something that a plugin asks for.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CapabilityBody {
    /// `kv:carts`, `sql:main`, `http:api.example.com`, `secret:pepper`, `secret:stripe@api.stripe.com`.
    pub capability: String,
    pub is_granted: bool,
}

/// What one call may use, and how many run at once.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LimitsBody {
    pub memory_bytes_max: usize,
    pub cpu_ms: u64,
    pub wall_ms: u64,
    pub concurrency_max: u32,
    pub log_bytes_max: usize,
}

/// What happens to a plugin's data when it is removed.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// `keep` (the default) or `delete`: databases, key-value stores, secrets and logs.
    #[serde(default)]
    #[param(inline)]
    pub data: Data,
}

/// What happens to data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    #[default]
    Keep,
    Delete,
}

impl From<&Mount> for MountBody {
    fn from(mount: &Mount) -> Self {
        let path = if mount.path.is_empty() {
            "/"
        } else {
            &mount.path
        };
        Self {
            host: mount.host.clone(),
            path: path.to_owned(),
        }
    }
}

impl PluginBody {
    fn new(row: PluginRow, live: &LiveTable, now_ns: u64) -> Self {
        let plugin = live.get(&row.name);
        let spec = plugin.map(|plugin| plugin.loaded.spec());
        Self {
            mount: MountBody::from(&row.mount),
            version: spec.map(|spec| spec.version.to_string()),
            description: plugin.and_then(|plugin| plugin.manifest().plugin.description.clone()),
            deployment: spec.map(|spec| spec.deployment.to_string()),
            live_by: row.live_by,
            live_at: rfc3339(row.live_at_ms),
            digest: spec.map(|spec| spec.digest.to_string()),
            entry: spec.map(|spec| spec.entry.as_str().to_owned()),
            routes: plugin
                .map(|plugin| routes_of(plugin, live))
                .unwrap_or_default(),
            capabilities: plugin
                .map(|plugin| capabilities(plugin))
                .unwrap_or_default(),
            limits: spec.map(|spec| LimitsBody::from(&spec.limits)),
            last_error: live.failures().get(&row.name).cloned(),
            invocations_in_progress: plugin.map_or(0, |plugin| plugin.loaded.calls_in_progress()),
            held_routes: plugin
                .map(|plugin| held_routes(plugin, now_ns))
                .unwrap_or_default(),
            created_at: rfc3339(row.created_at_ms),
            name: row.name.to_string(),
        }
    }
}

impl From<&crate::runtime::Limits> for LimitsBody {
    fn from(limits: &crate::runtime::Limits) -> Self {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            memory_bytes_max: limits.memory_bytes_max,
            cpu_ms: ms(limits.cpu),
            wall_ms: ms(limits.wall),
            concurrency_max: limits.concurrency_max,
            log_bytes_max: limits.log_bytes_max,
        }
    }
}

fn held_routes(plugin: &LivePlugin, now_ns: u64) -> Vec<HeldRouteBody> {
    let body = |route: &Arc<Route>| {
        let standing = route.breaker.standing(now_ns);
        let left = standing.everybody;
        let is_held = left.is_some() || standing.clients > 0;
        is_held.then(|| HeldRouteBody {
            methods: route.methods.iter().map(ToString::to_string).collect(),
            route: route.pattern.to_string(),
            is_for_everybody: left.is_some(),
            retry_after_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            clients: standing.clients,
        })
    };
    plugin.routes.iter().filter_map(body).collect()
}

fn capabilities(plugin: &LivePlugin) -> Vec<CapabilityBody> {
    let asked = Grants::all_of(plugin.manifest());
    let body = |grant: &_| CapabilityBody {
        capability: format!("{grant}"),
        is_granted: plugin.grants().covers(grant),
    };
    asked.iter().map(body).collect()
}

/// List plugins
#[utoipa::path(get, path = "/plugins", tag = "plugins", params(PageQuery), responses((status = 200, body = PageBody<PluginBody>)))]
pub(super) async fn list_plugins(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<PluginBody>>, ApiError> {
    let (live, now_ns) = (shared.registry.live(), shared.clock.monotonic_ns());
    let page = query.of(shared.plugins.store().plugins().await?, |row| {
        row.name.to_string()
    })?;
    let items = page
        .items
        .into_iter()
        .map(|row| PluginBody::new(row, &live, now_ns))
        .collect();
    Ok(axum::Json(PageBody {
        items,
        next_cursor: page.next_cursor,
    }))
}

/// Show a plugin
#[utoipa::path(get, path = "/plugins/{name}", tag = "plugins", params(("name" = String, Path)), responses((status = 200, body = PluginBody)))]
pub(super) async fn get_plugin(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(name): Path<PluginName>,
) -> Result<axum::Json<PluginBody>, ApiError> {
    let row = shared.plugins.get(&name).await?;
    let (live, now_ns) = (shared.registry.live(), shared.clock.monotonic_ns());
    Ok(axum::Json(PluginBody::new(row, &live, now_ns)))
}

/// Remove a plugin
///
/// With its history and grants. Its data stays, unless told otherwise.
#[utoipa::path(delete, path = "/plugins/{name}", tag = "plugins", params(("name" = String, Path), DeleteQuery), responses((status = 204)))]
pub(super) async fn delete_plugin(
    State(shared): State<Shared>,
    caller: Caller<may::Deploy>,
    Path(name): Path<PluginName>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, ApiError> {
    shared
        .plugins
        .remove(&name, query.data == Data::Delete, caller.id())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
