//! `GET /key`, `POST /key/rotate`: what a program may know of its own key, and how it changes the secret by itself.

use axum::{
    Json,
    extract::{Extension, State as AxumState},
    response::Response,
};
use serde::Serialize;

use crate::auth::{self, ApiKey};
use crate::clock::rfc3339;
use crate::gateway::accounts::Shared;
use crate::gateway::accounts::answer::secret;
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::credentials::{Asked, api_key_in, login_required};
use crate::gateway::layers::Arrival;
use crate::http::Problem;
use crate::ledger::acting_as;

#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "01980000-0000-7000-8000-000000000003",
    "name": "till",
    "is_newest": true,
    "expires_at": "2027-01-05T08:00:00Z",
}))]
pub(super) struct KeyBody {
    id: String,
    name: String,
    /// Whether the secret is the newest one. The one before ends at `previous_until`, and cannot change the key.
    is_newest: bool,
    /// When the key ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// From when on the secret should be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    rotate_at: Option<String>,
    /// When the secret ends if it was not changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    secret_ends_at: Option<String>,
    /// How long the secret before counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    previous_until: Option<String>,
    /// The whole key with its new secret. Told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl KeyBody {
    fn of(key: &ApiKey, is_newest: bool, token: Option<String>) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            is_newest,
            expires_at: key.expires_at_ms.map(rfc3339),
            rotate_at: key.rotation_due_ms().map(rfc3339),
            secret_ends_at: key.secret_ends_ms().map(rfc3339),
            previous_until: key.previous_until_ms.map(rfc3339),
            token,
        }
    }
}

/// Show the API key that this request comes with
#[utoipa::path(get, path = "/key", tag = "keys", security(("access_token" = [])), responses((status = 200, body = KeyBody)))]
pub(super) async fn show_key(
    AxumState(state): Shared,
    asked: Asked,
) -> Result<Json<KeyBody>, Problem> {
    let token = token_of(&state.auth, &asked)?;
    let key = state.auth.find_own_key(&token).ok_or_else(login_required)?;
    let is_newest = state.auth.is_newest_secret(&token);
    Ok(Json(KeyBody::of(&key, is_newest, None)))
}

/// Change the secret of the API key that this request comes with
///
/// The answer holds the only copy of the new one. The one before counts for a while, so programs that use the same key can follow one
/// by one. Only the newest secret can be changed so.
#[utoipa::path(post, path = "/key/rotate", tag = "keys", security(("access_token" = [])), responses((status = 200, body = KeyBody)))]
pub(super) async fn rotate_key(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
) -> Result<Response, Problem> {
    let work = async {
        let token = token_of(&state.auth, &asked)?;
        let rotated = state.auth.rotate_own_key(&token).await.map_err(explain)?;
        Ok(secret(KeyBody::of(&rotated.key, true, Some(rotated.token))))
    };
    within(
        &state,
        &state.account_policies.refresh,
        arrival.client,
        work,
    )
    .await
}

/// The key that a request comes with, if it counts; it acts from now on.
fn token_of(auth: &auth::Auth, asked: &Asked) -> Result<String, Problem> {
    let principal = asked.asking().principal(auth)?;
    let principal = principal.ok_or_else(login_required)?;
    let token = api_key_in(asked.headers()).filter(|token| auth.find_own_key(token).is_some());
    let token = token.ok_or_else(login_required)?;
    acting_as(principal.kind.as_str(), &principal.id);
    Ok(token.to_owned())
}
