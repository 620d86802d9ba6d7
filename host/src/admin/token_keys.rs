//! The keys that sign access tokens.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Json, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth::{Begin, KeyState, TokenAlgorithm, TokenKey};
use crate::clock::rfc3339;

/// A key that signs access tokens. Its public part is at `/.well-known/jwks.json`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenKeyBody {
    /// As it stands in tokens (`kid`).
    pub id: String,
    pub algorithm: TokenAlgorithm,
    pub state: KeyState,
    /// Since when it is in this state.
    #[schema(format = DateTime)]
    pub since: String,
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A new key.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AddTokenKeyRequest {
    /// How it signs. Default: as `auth.token_key_algorithm` says.
    pub algorithm: Option<TokenAlgorithm>,
    /// Whether it signs at once, and not only when others had time to see it. Other services may then refuse tokens until they
    /// fetch the key set again.
    pub at_once: bool,
}

impl From<TokenKey> for TokenKeyBody {
    fn from(key: TokenKey) -> Self {
        Self {
            id: key.id,
            algorithm: key.algorithm,
            state: key.state,
            since: rfc3339(key.since_ms),
            created_at: rfc3339(key.created_at_ms),
        }
    }
}

/// List the keys that sign access tokens
///
/// Oldest first, with those revoked in the last 90 days.
#[utoipa::path(get, path = "/token-keys", tag = "users", params(PageQuery), responses((status = 200, body = PageBody<TokenKeyBody>)))]
pub(super) async fn list_token_keys(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<TokenKeyBody>>, ApiError> {
    let keys = shared.auth.list_token_keys();
    let page = query.of(keys, |key| format!("{:016}-{}", key.created_at_ms, key.id))?;
    Ok(axum::Json(PageBody {
        items: page.items.into_iter().map(Into::into).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Make a new key for access tokens
///
/// It is shown for ten minutes and signs from then on; the one before is shown until nothing that it has signed is good. No
/// request fails.
#[utoipa::path(post, path = "/token-keys", tag = "users", request_body = AddTokenKeyRequest, responses((status = 201, body = TokenKeyBody)))]
pub(super) async fn add_token_key(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Json(request): Json<AddTokenKeyRequest>,
) -> Result<(StatusCode, axum::Json<TokenKeyBody>), ApiError> {
    let begin = match request.at_once {
        true => Begin::AtOnce,
        false => Begin::WhenShown,
    };
    let key = shared.auth.add_token_key(request.algorithm, begin).await?;
    Ok((StatusCode::CREATED, axum::Json(key.into())))
}

/// Revoke a key for access tokens
///
/// Nothing that it has signed is good from now on. If it was the active one, another takes its place at once. Sessions stay:
/// their refresh tokens give new access tokens.
#[utoipa::path(delete, path = "/token-keys/{id}", tag = "users", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn revoke_token_key(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    shared.auth.revoke_token_key(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
