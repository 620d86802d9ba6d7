//! What plugins may use: the operator's side of the manifest's capabilities.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, may};
use crate::admin::{ApiError, Shared};
use crate::ids::PluginName;
use crate::plugins::validate::{Grant, Grants};

/// Most capabilities in one request.
const GRANTS_MAX: usize = 500;

/// What a plugin was given. A capability is written `kv:carts`, `sql:main`, `http:api.example.com`, `secret:pepper` or
/// `secret:stripe@api.stripe.com`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GrantsBody {
    pub grants: Vec<String>,
    /// What the live deployment asks for and was not given.
    pub missing: Vec<String>,
}

/// Capabilities to give.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantsRequest {
    pub grants: Vec<String>,
}

/// Show what a plugin may use
#[utoipa::path(get, path = "/plugins/{name}/grants", tag = "plugins", params(("name" = String, Path)), responses((status = 200, body = GrantsBody)))]
pub(super) async fn list_grants(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(plugin): Path<PluginName>,
) -> Result<axum::Json<GrantsBody>, ApiError> {
    shared.plugins.get(&plugin).await?;
    let grants = shared.plugins.store().grants(&plugin).await?;
    Ok(axum::Json(body(&shared, &plugin, &grants)))
}

/// Give a plugin exactly these capabilities
///
/// Counts from the next request to the plugin on.
#[utoipa::path(put, path = "/plugins/{name}/grants", tag = "plugins", params(("name" = String, Path)), request_body = GrantsRequest, responses((status = 200, body = GrantsBody)))]
pub(super) async fn set_grants(
    State(shared): State<Shared>,
    caller: Caller<may::Grant>,
    Path(plugin): Path<PluginName>,
    Json(request): Json<GrantsRequest>,
) -> Result<axum::Json<GrantsBody>, ApiError> {
    let grants: Grants = parse(&request)?.into_iter().collect();
    shared
        .plugins
        .set_grants(&plugin, &grants, caller.id())
        .await?;
    Ok(axum::Json(body(&shared, &plugin, &grants)))
}

/// Give a plugin more capabilities
#[utoipa::path(post, path = "/plugins/{name}/grants", tag = "plugins", params(("name" = String, Path)), request_body = GrantsRequest, responses((status = 200, body = GrantsBody)))]
pub(super) async fn add_grants(
    State(shared): State<Shared>,
    caller: Caller<may::Grant>,
    Path(plugin): Path<PluginName>,
    Json(request): Json<GrantsRequest>,
) -> Result<axum::Json<GrantsBody>, ApiError> {
    let more = parse(&request)?;
    shared
        .plugins
        .add_grants(&plugin, more, caller.id())
        .await?;
    let grants = shared.plugins.store().grants(&plugin).await?;
    Ok(axum::Json(body(&shared, &plugin, &grants)))
}

/// Take a capability from a plugin
#[utoipa::path(delete, path = "/plugins/{name}/grants/{capability}", tag = "plugins", params(("name" = String, Path), ("capability" = String, Path)), responses((status = 204)))]
pub(super) async fn delete_grant(
    State(shared): State<Shared>,
    caller: Caller<may::Grant>,
    Path((plugin, capability)): Path<(PluginName, String)>,
) -> Result<StatusCode, ApiError> {
    let unwanted: Grant = capability.parse().map_err(|error| invalid(&[error]))?;
    shared
        .plugins
        .remove_grant(&plugin, unwanted, caller.id())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn body(shared: &Shared, plugin: &PluginName, grants: &Grants) -> GrantsBody {
    let live = shared.registry.live();
    let asked = live
        .get(plugin)
        .map(|plugin| Grants::all_of(plugin.manifest()))
        .unwrap_or_default();
    GrantsBody {
        grants: grants.iter().map(ToString::to_string).collect(),
        missing: asked
            .iter()
            .filter(|grant| !grants.covers(grant))
            .map(ToString::to_string)
            .collect(),
    }
}

/// All capabilities of a request, or everything that is wrong with them.
fn parse(request: &GrantsRequest) -> Result<Vec<Grant>, ApiError> {
    if request.grants.len() > GRANTS_MAX {
        let detail = format!("at most {GRANTS_MAX} capabilities fit into one request");
        return Err(ApiError::invalid("grant.too_many", detail));
    }
    let (mut grants, mut mistakes) = (Vec::new(), Vec::new());
    for text in &request.grants {
        match text.parse() {
            Ok(grant) => grants.push(grant),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() {
        Ok(grants)
    } else {
        Err(invalid(&mistakes))
    }
}

fn invalid(mistakes: &[crate::plugins::validate::InvalidGrant]) -> ApiError {
    let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "grant.invalid",
        texts.join("; "),
    )
}
