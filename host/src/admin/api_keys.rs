//! API keys of programs.

use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth::{self, ApiKeyId, NewApiKey};
use crate::clock::rfc3339;
use crate::ids::RoleName;

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
    /// The whole key. Told once, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What an API key is made of.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKeyRequest {
    /// Who uses it and what for.
    pub name: String,
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<RoleName>,
    /// Refused from this moment on. Nothing means never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

impl From<auth::ApiKey> for ApiKeyBody {
    fn from(key: auth::ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            roles: key.roles.iter().map(ToString::to_string).collect(),
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
    let keys = shared.auth.list_api_keys();
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
    let CreateApiKeyRequest {
        name,
        roles,
        expires_at,
    } = request;
    caller.require_all_of(&shared.auth.permissions_of(&roles))?;
    let expires_at_ms = expires_at.map(Timestamp::as_millisecond);
    let created = shared
        .auth
        .create_api_key(NewApiKey {
            name,
            roles,
            expires_at_ms,
        })
        .await?;
    let body = ApiKeyBody {
        token: Some(created.token),
        ..created.key.into()
    };
    Ok((StatusCode::CREATED, axum::Json(body)))
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
