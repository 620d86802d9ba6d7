//! Who still calls routes that are deprecated.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::clock::rfc3339;
use crate::ids::PluginName;
use crate::plugins::versions::OldCall;

/// What one caller has called of one deprecated route, since the host was started.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeprecatedCallsBody {
    /// Below the mount, as it is routed.
    pub route: String,
    /// The version of the API that the route is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `user`, `api-key`, `anonymous`, or `others`: all who are too many to be told apart.
    pub kind: String,
    /// The id of the user or key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    pub calls: u64,
    #[schema(format = DateTime)]
    pub last_at: String,
}

impl From<OldCall> for DeprecatedCallsBody {
    fn from(call: OldCall) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            route: call.route,
            version: given(call.version),
            kind: call.kind.to_owned(),
            caller: given(call.caller),
            calls: call.calls,
            last_at: rfc3339(call.last_at_ms),
        }
    }
}

/// List who still calls deprecated routes of a plugin
///
/// Since the host was started, by route, version and caller; requests to routes that are gone count, too.
#[utoipa::path(get, path = "/plugins/{name}/deprecated", tag = "plugins", params(("name" = String, Path), PageQuery), responses((status = 200, body = PageBody<DeprecatedCallsBody>)))]
pub(super) async fn list_deprecated(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(name): Path<PluginName>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<DeprecatedCallsBody>>, ApiError> {
    shared.plugins.get(&name).await?;
    let calls = shared.registry.callers().of_plugin(&name);
    let mut calls: Vec<DeprecatedCallsBody> = calls.into_iter().map(Into::into).collect();
    calls.sort_by_cached_key(key);
    Ok(axum::Json(query.of(calls, key)?))
}

fn key(call: &DeprecatedCallsBody) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (version, caller) = (text(&call.version), text(&call.caller));
    format!("{} {version} {} {caller}", call.route, call.kind)
}
