//! Putting plugins on the host, their history, and the way back.

use axum::body::Body;
use axum::extract;
use http::StatusCode;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::plugins::MountBody;
use crate::admin::{ApiError, Shared};
use crate::auth::PlatformPermission;
use crate::clock::rfc3339;
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::rehearsal::Report;
use crate::plugins::rollout::Weight;
use crate::plugins::store::Deployment;
use crate::plugins::trust::{self, Provenance};
use crate::plugins::{Deployed, GrantMode, Mount, State, Upload};

/// Most characters of a note, and of a source.
const NOTE_CHARS_MAX: usize = 500;

/// One version of a plugin as it was put on the host.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentBody {
    pub id: String,
    pub plugin: String,
    pub version: String,
    /// Of the component.
    pub digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The user or API key that deployed it.
    pub created_by: String,
    #[schema(format = DateTime)]
    pub created_at: String,
    pub is_live: bool,
    /// The id of the key that signed it, if it was trusted then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Where the upload came from, as the uploader said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of the upload as it came; for one from a registry, of its layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_digest: Option<String>,
}

/// A deployment that just became live, or is on its way.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeployedBody {
    /// `live`; `canary`, which answers a part of the requests; or `pending-approval`, which answers none.
    pub state: String,
    /// Of a hundred requests, for a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_percent: Option<u32>,
    /// What has to be granted before it goes live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    pub deployment: DeploymentBody,
    /// The deployment that was live before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    pub mount: MountBody,
    /// What it is: `handler`, `filter`, `transform`, ….
    #[serde(default)]
    pub entry: String,
    /// Migrations that ran, as `label/version`.
    pub migrated: Vec<String>,
    /// What would have kept it off, were signatures required, and what it breaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How its `[[test]]`s went, if it has any and they were run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tests: Option<Report>,
    /// From the upload to the moment from which requests reach it.
    pub took_ms: u64,
}

/// How to deploy.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeployQuery {
    /// The name of the plugin, for a component without a manifest.
    #[param(value_type = Option<String>)]
    pub name: Option<PluginName>,
    /// The path before its routes. Nothing leaves it as it is, which for a new plugin is `/` and its name.
    pub mount: Option<String>,
    /// Answer only requests to this host name.
    pub host: Option<String>,
    /// Whether the mount may lie below or above the one of another plugin, and so take requests from it. Default: false.
    #[serde(default)]
    #[param(inline)]
    pub nested: bool,
    /// `keep` (the default) or `all`: grant everything that the plugin asks for.
    #[serde(default)]
    #[param(inline)]
    pub grant: Grant,
    /// Why, for the history.
    pub note: Option<String>,
    /// Where the upload comes from, for the history: `oci://registry.example.com/shop@sha256:…`.
    pub source: Option<String>,
    /// Take it even if it is older than what is live. Needs `platform.trust`.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Take it even if it does not keep what the live version promises to callers.
    #[serde(default)]
    pub allow_breaking: bool,
    /// Answer only so many of a hundred requests at first, 0 to 99; with 0 only those that ask for it by header.
    #[param(maximum = 99)]
    pub canary: Option<u32>,
}

/// What a plugin is granted along with a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    #[default]
    Keep,
    All,
}

/// Where to go back to.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBackRequest {
    /// Nothing means the deployment before the live one, or, if there is a canary, the live one.
    #[schema(value_type = Option<String>)]
    pub deployment: Option<DeploymentId>,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
}

impl DeploymentBody {
    fn new(deployment: Deployment, provenance: Option<Provenance>) -> Self {
        let (signed_by, source, upload) = match provenance {
            Some(from) => (from.signed_by, from.source, Some(from.upload)),
            None => (None, None, None),
        };
        Self {
            signed_by: signed_by.map(|key| key.to_string()),
            source,
            upload_digest: upload.map(|digest| digest.to_string()),
            id: deployment.id.to_string(),
            plugin: deployment.plugin.to_string(),
            version: deployment.version.to_string(),
            digest: deployment.component.to_string(),
            note: deployment.note,
            created_by: deployment.created_by,
            created_at: rfc3339(deployment.created_at_ms),
            is_live: deployment.is_live,
        }
    }
}

/// A deployment with where it came from.
async fn body(shared: &Shared, deployment: Deployment) -> Result<DeploymentBody, ApiError> {
    let provenance = shared.plugins.trust().provenance(deployment.id).await;
    let provenance = provenance.map_err(trust::Error::from)?;
    Ok(DeploymentBody::new(deployment, provenance))
}

impl DeployedBody {
    /// With where it came from.
    pub(super) async fn new(shared: &Shared, deployed: Deployed) -> Result<Self, ApiError> {
        let (state, weight_percent, missing) = match deployed.state {
            State::Live => ("live", None, Vec::new()),
            State::Canary(weight) => ("canary", Some(weight.percent()), Vec::new()),
            State::Waiting(missing) => (
                "pending-approval",
                None,
                missing.iter().map(ToString::to_string).collect(),
            ),
        };
        Ok(Self {
            state: state.to_owned(),
            weight_percent,
            missing,
            entry: deployed.deployment.entry.as_str().to_owned(),
            deployment: body(shared, deployed.deployment).await?,
            replaced: deployed.replaced.map(|id| id.to_string()),
            mount: MountBody::from(&deployed.mount),
            migrated: deployed.migrated,
            warnings: deployed.warnings,
            tests: deployed.tests,
            took_ms: u64::try_from(deployed.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// Deploy a plugin
///
/// The body is a bundle (`.gantry`) or a component (`.wasm`). When the answer comes, the plugin is live. All mistakes
/// are told at once, and the version that was live stays live. An upgrade that asks for capabilities it was not granted is
/// kept until somebody approves it.
#[utoipa::path(post, path = "/deployments", tag = "plugins", params(DeployQuery), request_body(content = String, content_type = "application/octet-stream"), responses((status = 201, body = DeployedBody), (status = 202, description = "It waits for approval", body = DeployedBody), (status = 409, description = "`deploy.breaking`: it does not keep what callers rely on, with every difference in `errors`; `deploy.conflict`: somebody else changed the plugin meanwhile; `deploy.mount_taken`, `deploy.mount_nested`: another plugin is in the way"), (status = 422, description = "`deploy.invalid`, with every mistake in `errors`")))]
pub(super) async fn deploy(
    extract::State(shared): extract::State<Shared>,
    caller: Caller<may::Deploy>,
    Query(query): Query<DeployQuery>,
    body: Body,
) -> Result<(StatusCode, axum::Json<DeployedBody>), ApiError> {
    if query.grant == Grant::All {
        caller.require(PlatformPermission::Grant)?;
    }
    if query.allow_downgrade {
        caller.require(PlatformPermission::Trust)?;
    }
    let upload = read(&shared, caller.id(), query, body).await?;
    let deployed = shared.plugins.deploy(upload).await?;
    let status = match &deployed.state {
        State::Waiting(_) => StatusCode::ACCEPTED,
        _ => StatusCode::CREATED,
    };
    let body = DeployedBody::new(&shared, deployed).await?;
    Ok((status, axum::Json(body)))
}

/// List deployments of a plugin
///
/// Newest first.
#[utoipa::path(get, path = "/plugins/{name}/deployments", tag = "plugins", params(("name" = String, Path), PageQuery), responses((status = 200, body = PageBody<DeploymentBody>)))]
pub(super) async fn list_deployments(
    extract::State(shared): extract::State<Shared>,
    _: Caller<may::Read>,
    Path(name): Path<PluginName>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<DeploymentBody>>, ApiError> {
    let limit = query.limit()?;
    let before = query.cursor_as::<DeploymentId>()?;
    // One more than wanted tells whether there is another page.
    let mut found = shared
        .plugins
        .store()
        .deployments(&name, before, limit + 1)
        .await?;
    let has_more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next_cursor = found
        .last()
        .filter(|_| has_more)
        .map(|last| last.id.to_string());
    let mut items = Vec::with_capacity(found.len());
    for deployment in found {
        items.push(body(&shared, deployment).await?);
    }
    Ok(axum::Json(PageBody { items, next_cursor }))
}

/// Make an earlier deployment live again
///
/// If there is a canary and no deployment is named, the canary is taken back.
#[utoipa::path(post, path = "/plugins/{name}/rollback", tag = "plugins", params(("name" = String, Path)), request_body = RollBackRequest, responses((status = 200, body = DeployedBody)))]
pub(super) async fn roll_back(
    extract::State(shared): extract::State<Shared>,
    caller: Caller<may::Deploy>,
    Path(name): Path<PluginName>,
    Json(request): Json<RollBackRequest>,
) -> Result<axum::Json<DeployedBody>, ApiError> {
    let deployed = shared
        .plugins
        .roll_back(
            &name,
            request.deployment,
            caller.id(),
            checked(request.reason)?,
        )
        .await?;
    Ok(axum::Json(DeployedBody::new(&shared, deployed).await?))
}

/// Reads the upload into a buffer of bounded size; few at a time, because each takes as much memory as it is large.
async fn read(
    shared: &Shared,
    by: &str,
    query: DeployQuery,
    body: Body,
) -> Result<Upload, ApiError> {
    let mount = match (&query.mount, &query.host) {
        (None, None) => None,
        (Some(path), host) => Some(mount(host.as_deref(), path)?),
        (None, Some(_)) => {
            let detail =
                "`host` needs `mount`: say both, for example host=shop.example.com and mount=/";
            return Err(ApiError::invalid("deploy.mount_invalid", detail));
        }
    };
    let (note, source) = (checked(query.note)?, checked(query.source)?);
    let canary = query.canary.map(weight).transpose()?;
    let place = shared.uploads.acquire().await;
    let max = shared.plugins.config().bundle.bytes_max;
    let bytes = match Limited::new(body, max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let detail =
                format!("the upload has more than {max} bytes (`plugins.bundle.bytes_max`)");
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "deploy.too_large",
                detail,
            ));
        }
        Err(_) => {
            return Err(ApiError::invalid(
                "request.body_unreadable",
                "the upload broke off; send it again",
            ));
        }
    };
    drop(place);
    let grant = match query.grant {
        Grant::Keep => GrantMode::Keep,
        Grant::All => GrantMode::AllAsked,
    };
    Ok(Upload {
        bytes,
        name: query.name,
        mount,
        is_nested_accepted: query.nested,
        grant,
        canary,
        config: None,
        source,
        allows_downgrade: query.allow_downgrade,
        allows_breaking: query.allow_breaking,
        by: by.to_owned(),
        note,
    })
}

/// A reason as the history takes it: of bounded length, and nothing rather than an empty one.
pub(super) fn checked(reason: Option<String>) -> Result<Option<String>, ApiError> {
    let reason = reason.filter(|reason| !reason.is_empty());
    if reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > NOTE_CHARS_MAX)
    {
        let detail = format!("a note and a source have at most {NOTE_CHARS_MAX} characters each");
        return Err(ApiError::invalid("deploy.note_too_long", detail));
    }
    Ok(reason)
}

pub(super) fn weight(percent: u32) -> Result<Weight, ApiError> {
    Weight::new(percent)
        .map_err(|error| ApiError::invalid("rollout.weight_invalid", error.to_string()))
}

fn mount(host: Option<&str>, path: &str) -> Result<Mount, ApiError> {
    Mount::new(host, path)
        .map_err(|error| ApiError::invalid("deploy.mount_invalid", error.to_string()))
}
