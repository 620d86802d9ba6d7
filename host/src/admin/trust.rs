//! Whose plugins are taken: the keys that may sign them, and what of what is live no such key has signed.

use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::clock::rfc3339;
use crate::plugins::trust::{self, KeyId, NamePattern, Policy, PublicKey, TrustedKey};

/// What the host does about signatures.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustBody {
    /// `off`, `warn` or `required`: the setting `plugins.signatures`.
    #[schema(value_type = String)]
    pub signatures: Policy,
    /// Live plugins that would be refused, were signatures required, each with the reason.
    pub unfit: Vec<UnfitBody>,
}

/// A live plugin that no trusted key stands for.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UnfitBody {
    pub plugin: String,
    pub code: String,
    pub detail: String,
}

/// A key that may sign plugins.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustedKeyBody {
    pub id: String,
    /// `ed25519:` and base64.
    pub public_key: String,
    pub owner: String,
    /// Names, beginnings of names with `*`, or `*` for all.
    pub plugins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
    pub added_by: String,
    /// Nothing for a key of the settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub added_at: Option<String>,
    /// Stands in the settings of the server; the API cannot change it.
    pub is_in_settings: bool,
}

/// A key to trust.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKeyRequest {
    /// `ed25519:` and base64, as in the `.pub` file.
    pub public_key: String,
    /// Whose it is, for people.
    pub owner: String,
    #[schema(value_type = Vec<String>)]
    pub plugins: Vec<String>,
    /// From then on nothing new is taken that it signed. Nothing means never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// What a key may sign from now on, and until when.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetKeyRequest {
    pub plugins: Vec<String>,
    /// Nothing means never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// What a change of the trust list did to what is live.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrustChangedBody {
    /// Plugins that answered before and do so no more.
    pub stopped: Vec<String>,
}

impl From<TrustedKey> for TrustedKeyBody {
    fn from(key: TrustedKey) -> Self {
        Self {
            id: key.public.id().to_string(),
            public_key: key.public.to_string(),
            owner: key.owner,
            plugins: key.plugins.iter().map(ToString::to_string).collect(),
            expires_at: key.expires_at_ms.map(rfc3339),
            revoked_at: key.revoked_at_ms.map(rfc3339),
            added_by: key.added_by,
            added_at: (!key.is_in_settings).then(|| rfc3339(key.added_at_ms)),
            is_in_settings: key.is_in_settings,
        }
    }
}

/// Show what the host does about signatures
#[utoipa::path(get, path = "/trust", tag = "trust", responses((status = 200, body = TrustBody)))]
pub(super) async fn show_trust(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
) -> Result<axum::Json<TrustBody>, ApiError> {
    let trust = shared.plugins.trust();
    let wanted = shared.plugins.store().wanted().await?.into_iter();
    let rows = wanted.flat_map(|wanted| {
        let canary = wanted.canary.map(|(row, _)| row);
        std::iter::once(wanted.stable).chain(canary)
    });
    let rows: Vec<_> = rows.collect();
    let unfit = trust.unfit(&rows).await.map_err(trust::Error::from)?;
    let unfit = unfit.into_iter().map(|(plugin, refusal)| UnfitBody {
        plugin: plugin.to_string(),
        code: refusal.code().to_owned(),
        detail: refusal.to_string(),
    });
    Ok(axum::Json(TrustBody {
        signatures: trust.policy(),
        unfit: unfit.collect(),
    }))
}

/// List keys that may sign plugins
#[utoipa::path(get, path = "/trust/keys", tag = "trust", params(PageQuery), responses((status = 200, body = PageBody<TrustedKeyBody>)))]
pub(super) async fn list_keys(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<TrustedKeyBody>>, ApiError> {
    let list = shared.plugins.trust().list().await;
    let list = list.map_err(trust::Error::from)?;
    let keys = list.iter().cloned().map(TrustedKeyBody::from).collect();
    Ok(axum::Json(
        query.of(keys, |key: &TrustedKeyBody| key.id.clone())?,
    ))
}

/// Trust a key
#[utoipa::path(post, path = "/trust/keys", tag = "trust", request_body = AddKeyRequest, responses((status = 201, body = TrustedKeyBody)))]
pub(super) async fn add_key(
    State(shared): State<Shared>,
    caller: Caller<may::Trust>,
    Json(request): Json<AddKeyRequest>,
) -> Result<(StatusCode, axum::Json<TrustedKeyBody>), ApiError> {
    let public: PublicKey = request.public_key.parse().map_err(trust::Error::from)?;
    let plugins = patterns(&request.plugins)?;
    let expires_at_ms = request.expires_at.map(Timestamp::as_millisecond);
    let trust = shared.plugins.trust();
    let key = trust
        .add(public, &request.owner, plugins, expires_at_ms, caller.id())
        .await?;
    shared.plugins.refresh().await?;
    Ok((StatusCode::CREATED, axum::Json(key.into())))
}

/// Change what a key may sign
///
/// Counts at once, also for what is live.
#[utoipa::path(put, path = "/trust/keys/{id}", tag = "trust", params(("id" = String, Path)), request_body = SetKeyRequest, responses((status = 200, body = TrustChangedBody)))]
pub(super) async fn set_key(
    State(shared): State<Shared>,
    _: Caller<may::Trust>,
    Path(id): Path<KeyId>,
    Json(request): Json<SetKeyRequest>,
) -> Result<axum::Json<TrustChangedBody>, ApiError> {
    let plugins = patterns(&request.plugins)?;
    let expires_at_ms = request.expires_at.map(Timestamp::as_millisecond);
    shared
        .plugins
        .trust()
        .set(id, plugins, expires_at_ms)
        .await?;
    refreshed(&shared).await
}

/// Revoke a key
///
/// Nothing counts any more that it signed, whenever that was. Where signatures are required, what is live by its word
/// stops.
#[utoipa::path(post, path = "/trust/keys/{id}/revoke", tag = "trust", params(("id" = String, Path)), responses((status = 200, body = TrustChangedBody)))]
pub(super) async fn revoke_key(
    State(shared): State<Shared>,
    _: Caller<may::Trust>,
    Path(id): Path<KeyId>,
) -> Result<axum::Json<TrustChangedBody>, ApiError> {
    shared.plugins.trust().revoke(id).await?;
    refreshed(&shared).await
}

/// Forget a key
///
/// Like revoking it, but afterwards nobody knows that it ever was there.
#[utoipa::path(delete, path = "/trust/keys/{id}", tag = "trust", params(("id" = String, Path)), responses((status = 200, body = TrustChangedBody)))]
pub(super) async fn delete_key(
    State(shared): State<Shared>,
    _: Caller<may::Trust>,
    Path(id): Path<KeyId>,
) -> Result<axum::Json<TrustChangedBody>, ApiError> {
    shared.plugins.trust().remove(id).await?;
    refreshed(&shared).await
}

/// Makes the change count for what is live, and tells what it did there.
async fn refreshed(shared: &Shared) -> Result<axum::Json<TrustChangedBody>, ApiError> {
    let before = shared.registry.live();
    let after = shared.plugins.refresh().await?;
    let stopped = before
        .iter()
        .map(|plugin| plugin.name())
        .filter(|name| after.get(name).is_none())
        .map(ToString::to_string);
    Ok(axum::Json(TrustChangedBody {
        stopped: stopped.collect(),
    }))
}

fn patterns(texts: &[String]) -> Result<Vec<NamePattern>, trust::Error> {
    let patterns = texts.iter().map(|text| text.parse());
    Ok(patterns.collect::<Result<_, _>>()?)
}
