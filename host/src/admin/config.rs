//! The settings of plugins: the operator's values, checked against the manifest's schema.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::admin::extract::{Caller, Json, Path, may};
use crate::admin::{ApiError, Shared};
use crate::ids::PluginName;

/// The settings of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConfigBody {
    /// The JSON Schema of the live deployment; nothing if it takes no settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub schema: Option<Value>,
    /// What the operator set.
    #[schema(value_type = Object)]
    pub values: Map<String, Value>,
    /// What the plugin reads: the operator's values and the author's defaults, as text.
    pub effective: BTreeMap<String, String>,
}

/// Show the settings of a plugin
#[utoipa::path(get, path = "/plugins/{name}/config", tag = "plugins", params(("name" = String, Path)), responses((status = 200, body = ConfigBody)))]
pub(super) async fn get_config(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(plugin): Path<PluginName>,
) -> Result<axum::Json<ConfigBody>, ApiError> {
    Ok(axum::Json(body(&shared, &plugin).await?))
}

/// Set the settings of a plugin
///
/// In place of those before. Counts from the next request to the plugin on.
#[utoipa::path(put, path = "/plugins/{name}/config", tag = "plugins", params(("name" = String, Path)), request_body(content = Object), responses((status = 200, body = ConfigBody)))]
pub(super) async fn set_config(
    State(shared): State<Shared>,
    caller: Caller<may::Grant>,
    Path(plugin): Path<PluginName>,
    Json(values): Json<Map<String, Value>>,
) -> Result<axum::Json<ConfigBody>, ApiError> {
    shared
        .plugins
        .set_config(&plugin, &values, caller.id())
        .await?;
    Ok(axum::Json(body(&shared, &plugin).await?))
}

async fn body(shared: &Shared, plugin: &PluginName) -> Result<ConfigBody, ApiError> {
    let values = shared.plugins.get(plugin).await?.config;
    let live = shared.registry.live();
    let live = live.get(plugin);
    let schema = live.and_then(|live| live.manifest().config.as_ref());
    let effective = live.map(|live| live.loaded.spec().config.iter().cloned().collect());
    Ok(ConfigBody {
        schema: schema.map(|schema| schema.as_json().clone()),
        values,
        effective: effective.unwrap_or_default(),
    })
}
