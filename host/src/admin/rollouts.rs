//! Versions that are on their way: canaries, approvals, how well they do, and what happened to them.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::deployments::{DeployedBody, checked, weight};
use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth::PlatformPermission;
use crate::clock::rfc3339;
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::rollout::{Approval, Event, VersionStatus, Weight};

/// What answers for a plugin now, and how well.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutBody {
    pub plugin: String,
    /// The stable version first, then its canary.
    pub versions: Vec<VersionBody>,
    /// Over how long the figures are.
    pub window_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalBody>,
}

/// A version that answers, and what it did lately. Requests that chose it by header do not count beside a canary with a
/// weight.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VersionBody {
    pub deployment: String,
    pub version: String,
    /// `stable` or `canary`.
    pub role: String,
    /// Of a hundred requests.
    pub weight_percent: u32,
    pub requests: u64,
    /// Answers with a status from 500 on that are not the host's own fault.
    pub errors: u64,
    /// 0 to 1.
    pub error_rate: f64,
    /// Half of the calls took no longer.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub invocations_in_progress: u32,
}

/// An upgrade that asks for more than was granted.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalBody {
    pub plugin: String,
    /// The id that says which upgrade it is.
    pub deployment: String,
    pub version: String,
    /// What it asks for and was not granted.
    pub missing: Vec<String>,
    /// Of a hundred requests, if it begins as a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_percent: Option<u32>,
    pub asked_by: String,
    #[schema(format = DateTime)]
    pub asked_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One line of a plugin's history.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutEventBody {
    #[schema(format = DateTime)]
    pub at: String,
    /// `deployed`, `canary-started`, `canary-weight`, `promoted`, `rolled-back`, `approval-asked`, `approved` or `rejected`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_percent: Option<u32>,
    /// The user or API key, or `gantry` for the host itself.
    pub by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Another part of the requests for a canary.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryRequest {
    /// Of a hundred requests, 0 to 99; with 0 only those that ask for it by header.
    #[schema(maximum = 99)]
    pub weight_percent: u32,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Agreement to what an upgrade asks for.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// Which upgrade, as it was shown: another one may wait by now, and ask for more.
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

/// That a canary is to get all requests.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// For the history.
    #[serde(default)]
    pub reason: Option<String>,
    /// Promote it even if it does not keep what the live version promises to callers.
    #[serde(default)]
    pub allow_breaking: bool,
}

/// Why an upgrade is refused.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReasonQuery {
    /// For the history.
    pub reason: Option<String>,
}

impl VersionBody {
    fn new(status: &VersionStatus, role: &str, weight_percent: u32) -> Self {
        let lately = status.lately;
        Self {
            deployment: status.deployment.to_string(),
            version: status.version.to_string(),
            role: role.to_owned(),
            weight_percent,
            requests: lately.requests,
            errors: lately.errors,
            error_rate: lately.error_rate(),
            p50_ms: lately.p50_ms,
            p99_ms: lately.p99_ms,
            invocations_in_progress: status.calls_in_progress,
        }
    }
}

impl From<Approval> for ApprovalBody {
    fn from(approval: Approval) -> Self {
        Self {
            weight_percent: approval.canary().map(Weight::percent),
            plugin: approval.plugin.to_string(),
            deployment: approval.id.to_string(),
            version: approval.version.to_string(),
            missing: approval.missing.iter().map(ToString::to_string).collect(),
            asked_by: approval.asked_by,
            asked_at: rfc3339(approval.asked_at_ms),
            reason: approval.reason,
        }
    }
}

impl From<Event> for RolloutEventBody {
    fn from(event: Event) -> Self {
        Self {
            at: rfc3339(event.at_ms),
            kind: event.kind.as_str().to_owned(),
            version: event.version.map(|version| version.to_string()),
            deployment: event.deployment.map(|id| id.to_string()),
            weight_percent: event.weight,
            by: event.by,
            reason: event.reason,
        }
    }
}

/// Show what answers for a plugin, and how well
#[utoipa::path(get, path = "/plugins/{name}/status", tag = "plugins", params(("name" = String, Path)), responses((status = 200, body = RolloutBody)))]
pub(super) async fn show_status(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(name): Path<PluginName>,
) -> Result<axum::Json<RolloutBody>, ApiError> {
    let now_ns = shared.clock.monotonic_ns();
    let status = shared.plugins.status(&name, now_ns).await?;
    let weight = status
        .canary
        .as_ref()
        .map_or(0, |(_, weight)| weight.percent());
    let stable = status.stable.iter();
    let stable = stable.map(|stable| VersionBody::new(stable, "stable", 100 - weight));
    let canary = status.canary.iter();
    let canary = canary.map(|(canary, _)| VersionBody::new(canary, "canary", weight));
    Ok(axum::Json(RolloutBody {
        plugin: name.to_string(),
        versions: stable.chain(canary).collect(),
        window_s: shared.plugins.config().rollout.window_s,
        approval: status.approval.map(Into::into),
    }))
}

/// List what happened to the versions of a plugin
///
/// Who did it and why, newest first.
#[utoipa::path(get, path = "/plugins/{name}/history", tag = "plugins", params(("name" = String, Path), PageQuery), responses((status = 200, body = PageBody<RolloutEventBody>)))]
pub(super) async fn list_history(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(name): Path<PluginName>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<RolloutEventBody>>, ApiError> {
    let limit = query.limit()?;
    let before = query.cursor_as::<DeploymentId>()?;
    // One more than wanted tells whether there is another page.
    let store = shared.plugins.store();
    let mut found = store.events(&name, before, limit + 1).await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().filter(|_| has_more);
    let next_cursor = last.map(|last| last.id.to_string());
    Ok(axum::Json(PageBody {
        items: found.into_iter().map(Into::into).collect(),
        next_cursor,
    }))
}

/// Give a canary another part of the requests
#[utoipa::path(put, path = "/plugins/{name}/canary", tag = "plugins", params(("name" = String, Path)), request_body = CanaryRequest, responses((status = 200, body = DeployedBody), (status = 404, description = "`rollout.not_found`: there is no canary")))]
pub(super) async fn set_canary(
    State(shared): State<Shared>,
    caller: Caller<may::Deploy>,
    Path(name): Path<PluginName>,
    Json(request): Json<CanaryRequest>,
) -> Result<axum::Json<DeployedBody>, ApiError> {
    let (weight, reason) = (weight(request.weight_percent)?, checked(request.reason)?);
    let plugins = &shared.plugins;
    let changed = plugins.set_canary_weight(&name, weight, caller.id(), reason);
    Ok(axum::Json(
        DeployedBody::new(&shared, changed.await?).await?,
    ))
}

/// Give a canary all requests
///
/// It becomes the live version; the one before it can be rolled back to.
#[utoipa::path(post, path = "/plugins/{name}/promote", tag = "plugins", params(("name" = String, Path)), request_body = PromoteRequest, responses((status = 200, body = DeployedBody), (status = 404, description = "`rollout.not_found`: there is no canary"), (status = 409, description = "`deploy.breaking`: it does not keep what callers rely on, with every difference in `errors`; `deploy.conflict`: another canary has taken its place meanwhile")))]
pub(super) async fn promote(
    State(shared): State<Shared>,
    caller: Caller<may::Deploy>,
    Path(name): Path<PluginName>,
    Json(request): Json<PromoteRequest>,
) -> Result<axum::Json<DeployedBody>, ApiError> {
    let reason = checked(request.reason)?;
    let plugins = &shared.plugins;
    let promoted = plugins.promote(&name, caller.id(), reason, request.allow_breaking);
    let promoted = promoted.await?;
    Ok(axum::Json(DeployedBody::new(&shared, promoted).await?))
}

/// Show the upgrade that waits for approval
#[utoipa::path(get, path = "/plugins/{name}/approval", tag = "plugins", params(("name" = String, Path)), responses((status = 200, body = ApprovalBody), (status = 404, description = "`approval.not_found`: nothing waits")))]
pub(super) async fn show_approval(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(name): Path<PluginName>,
) -> Result<axum::Json<ApprovalBody>, ApiError> {
    Ok(axum::Json(shared.plugins.get_approval(&name).await?.into()))
}

/// Approve the upgrade that waits
///
/// Grants what it asked for when it came, and deploys it as it was meant to be.
#[utoipa::path(post, path = "/plugins/{name}/approval", tag = "plugins", params(("name" = String, Path)), request_body = ApproveRequest, responses((status = 200, body = DeployedBody), (status = 404, description = "`approval.not_found`: nothing waits"), (status = 409, description = "`approval.changed`: another upgrade waits")))]
pub(super) async fn approve(
    State(shared): State<Shared>,
    caller: Caller<may::Grant>,
    Path(name): Path<PluginName>,
    Json(request): Json<ApproveRequest>,
) -> Result<axum::Json<DeployedBody>, ApiError> {
    caller.require(PlatformPermission::Deploy)?;
    let reason = checked(request.reason)?;
    let plugins = &shared.plugins;
    let deployed = plugins.approve(&name, request.deployment, caller.id(), reason);
    Ok(axum::Json(
        DeployedBody::new(&shared, deployed.await?).await?,
    ))
}

/// Refuse the upgrade that waits
#[utoipa::path(delete, path = "/plugins/{name}/approval", tag = "plugins", params(("name" = String, Path), ReasonQuery), responses((status = 204), (status = 404, description = "`approval.not_found`: nothing waits")))]
pub(super) async fn reject(
    State(shared): State<Shared>,
    caller: Caller<may::Grant>,
    Path(name): Path<PluginName>,
    Query(query): Query<ReasonQuery>,
) -> Result<StatusCode, ApiError> {
    let reason = checked(query.reason)?;
    shared.plugins.reject(&name, caller.id(), reason).await?;
    Ok(StatusCode::NO_CONTENT)
}
