//! API keys of programs.

use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth::{self, ApiKeyId, NewApiKey, Rotation, Scope};
use crate::clock::rfc3339;
use crate::ids::{Network, RoleName, ServiceAccountId};

/// What is known about an API key.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApiKeyBody {
    /// The first part of the key; it may be logged.
    pub id: String,
    pub name: String,
    pub roles: Vec<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_used_at: Option<String>,
    /// What of the roles' permissions it carries, and words that routes ask for as scopes. Empty: not narrowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Those of its scopes that are no permissions: they count where a route asks for them as scopes, and give nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub free_scopes: Vec<String>,
    /// From where it may be used. Empty: from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateBody>,
    /// The service account that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// How long the secret before the last change counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub previous_until: Option<String>,
    /// From when on the secret should be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub rotate_at: Option<String>,
    /// When the secret ends if it is not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub secret_ends_at: Option<String>,
    /// The whole key. Told once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// How often a key may be used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateBody {
    /// Requests in each window.
    #[schema(minimum = 1)]
    pub limit: u32,
    /// Length of a window in seconds, 1 to 86400.
    #[schema(minimum = 1, maximum = 86400)]
    pub window_s: u32,
}

/// What an API key is made of.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKeyRequest {
    /// Who uses it and what for.
    pub name: String,
    /// Left out for a key of a service account.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<RoleName>,
    /// The service account that it belongs to; its roles count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub service_account: Option<ServiceAccountId>,
    /// Permissions to which the roles' are narrowed, and words that routes ask for as scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// From where it may be used: `10.0.0.0/8`, `2001:db8::/32`, or single addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateBody>,
    /// Days after which the secret has to be changed. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_days: Option<u32>,
    /// Seconds for which the secret before a change counts, and one that was due to be changed. Default: 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u32>,
    /// Refused from this moment on. Nothing means never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

impl From<auth::ApiKey> for ApiKeyBody {
    fn from(key: auth::ApiKey) -> Self {
        let (due_ms, ends_ms) = (key.rotation_due_ms(), key.secret_ends_ms());
        Self {
            rotate_at: due_ms.map(rfc3339),
            secret_ends_at: ends_ms.map(rfc3339),
            id: key.id.to_string(),
            name: key.name,
            roles: key.roles.iter().map(ToString::to_string).collect(),
            scopes: texts(&key.scopes),
            free_scopes: key
                .scopes
                .iter()
                .filter(|scope| scope.is_free())
                .map(ToString::to_string)
                .collect(),
            networks: texts(&key.networks),
            rate: key
                .rate
                .map(|(limit, window_s)| RateBody { limit, window_s }),
            service_account: key.service_account.map(|id| id.to_string()),
            previous_until: key.previous_until_ms.map(rfc3339),
            created_at: rfc3339(key.created_at_ms),
            expires_at: key.expires_at_ms.map(rfc3339),
            revoked_at: key.revoked_at_ms.map(rfc3339),
            last_used_at: key.last_used_at_ms.map(rfc3339),
            token: None,
        }
    }
}

/// List API keys
///
/// Also those revoked or expired, oldest first.
#[utoipa::path(get, path = "/api-keys", tag = "users", params(PageQuery), responses((status = 200, body = PageBody<ApiKeyBody>)))]
pub(super) async fn list_api_keys(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<ApiKeyBody>>, ApiError> {
    let keys = shared.auth.list_api_keys().await?;
    let page = query.of(keys, |key| format!("{:016}-{}", key.created_at_ms, key.id))?;
    let items = page.items.into_iter().map(Into::into).collect();
    Ok(axum::Json(PageBody {
        items,
        next_cursor: page.next_cursor,
    }))
}

/// Create an API key
///
/// The answer holds the only copy of the key. Nobody can make one that may do more than they may themselves.
#[utoipa::path(post, path = "/api-keys", tag = "users", request_body = CreateApiKeyRequest, responses((status = 201, body = ApiKeyBody)))]
pub(super) async fn create_api_key(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Json(request): Json<CreateApiKeyRequest>,
) -> Result<(StatusCode, axum::Json<ApiKeyBody>), ApiError> {
    let scopes = request.scopes.iter().map(|scope| scope.parse());
    let scopes: Vec<Scope> = scopes
        .collect::<Result<_, _>>()
        .map_err(auth::Error::PermissionInvalid)?;
    let account = request.service_account;
    let account = account
        .map(|id| shared.auth.service_account(id))
        .transpose()?;
    let roles = account
        .as_ref()
        .map_or(&request.roles, |account| &account.roles);
    caller.require_all_of(&shared.auth.permissions_of(roles).narrowed_to(&scopes))?;
    let created = shared
        .auth
        .create_api_key(NewApiKey {
            name: request.name,
            roles: request.roles,
            scopes,
            networks: request.networks,
            rate: request.rate.map(|rate| (rate.limit, rate.window_s)),
            service_account: request.service_account,
            expires_at_ms: request.expires_at.map(Timestamp::as_millisecond),
            rotation: Rotation {
                every_days: request.rotate_days.unwrap_or(0),
                overlap_s: request.overlap_s,
            },
        })
        .await?;
    let body = ApiKeyBody {
        token: Some(created.token),
        ..created.key.into()
    };
    Ok((StatusCode::CREATED, axum::Json(body)))
}

/// How the secret of a key is changed.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateApiKeyRequest {
    /// Seconds for which the secret before counts. Default: as the key says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u32>,
}

/// Change the secret of an API key
///
/// The answer holds the only copy of the new one. The one before counts for a while, so that no request fails on the way; with an
/// `overlap_s` of 0 it ends at once. Of two changes within that time, only the last two secrets count.
#[utoipa::path(post, path = "/api-keys/{id}/rotate", tag = "users", params(("id" = String, Path)), request_body = RotateApiKeyRequest, responses((status = 200, body = ApiKeyBody)))]
pub(super) async fn rotate_api_key(
    State(shared): State<Shared>,
    caller: Caller<may::Users>,
    Path(id): Path<String>,
    Json(request): Json<RotateApiKeyRequest>,
) -> Result<axum::Json<ApiKeyBody>, ApiError> {
    let id: ApiKeyId = id.parse().map_err(|_| auth::Error::ApiKeyNotFound)?;
    // Whoever has the secret is that key.
    let may = shared.auth.permissions_of_key(id)?;
    caller.require_all_of(&may)?;
    let rotated = shared.auth.rotate_api_key(id, request.overlap_s).await?;
    Ok(axum::Json(ApiKeyBody {
        token: Some(rotated.token),
        ..rotated.key.into()
    }))
}

/// Revoke an API key
///
/// At once and for good.
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "users", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn revoke_api_key(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id: ApiKeyId = id.parse().map_err(|_| auth::Error::ApiKeyNotFound)?;
    shared.auth.revoke_api_key(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
