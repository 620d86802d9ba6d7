//! `GET /identities`, `POST /identities`, `DELETE /identities/{id}`: the logins elsewhere that open one's account.

use axum::{
    Json,
    extract::{Extension, Path, Request, State as AxumState},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::auth;
use crate::clock::rfc3339;
use crate::gateway::accounts::Shared;
use crate::gateway::accounts::body::read_json;
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::accounts::login::client_of;
use crate::gateway::credentials::Asked;
use crate::gateway::layers::Arrival;
use crate::http::Problem;
use crate::ids::IdentityId;

/// A login elsewhere that opens the account.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "01980000-0000-7000-8000-000000000002",
    "provider": "google",
    "email": "ann@example.com",
    "created_at": "2026-01-05T08:00:00Z",
    "used_at": "2026-01-05T09:30:00Z",
}))]
pub(super) struct IdentityBody {
    id: String,
    /// The name of the provider.
    provider: String,
    /// As the provider last said it.
    email: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    /// When somebody last logged in with it.
    #[schema(format = DateTime)]
    used_at: String,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct IdentitiesBody {
    items: Vec<IdentityBody>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "code": "SplxlOBeZQQYbYS6WxSbIA", "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" }))]
pub(super) struct LinkIdentityRequest {
    /// The `login_code` that a login at the provider has ended with.
    code: String,
    /// The text whose SHA-256 was the `code_challenge`.
    code_verifier: String,
    /// Needed if the session did not begin just now.
    #[schema(format = Password)]
    password: Option<String>,
}

impl From<auth::Identity> for IdentityBody {
    fn from(identity: auth::Identity) -> Self {
        Self {
            id: identity.id.to_string(),
            provider: identity.provider,
            email: identity.email,
            created_at: rfc3339(identity.created_at_ms),
            used_at: rfc3339(identity.used_at_ms),
        }
    }
}

/// List one's own linked logins
///
/// The oldest first.
#[utoipa::path(get, path = "/identities", tag = "providers", security(("access_token" = []), ("cookie" = [])), responses((status = 200, body = IdentitiesBody)))]
pub(super) async fn list_identities(
    AxumState(state): Shared,
    asked: Asked,
) -> Result<Json<IdentitiesBody>, Problem> {
    let caller = asked.asking().user(&state.auth)?;
    let identities = state.auth.list_identities(caller.user).await;
    let identities = identities.map_err(explain)?;
    Ok(Json(IdentitiesBody {
        items: identities.into_iter().map(Into::into).collect(),
    }))
}

/// Link a login elsewhere to one's account
///
/// Log in at the provider first, with a `code_challenge` (best with `prompt=select_account`), and send the `login_code` here. The
/// session must have begun just now, or the password is sent, too.
#[utoipa::path(post, path = "/identities", tag = "providers", security(("access_token" = []), ("cookie" = [])), request_body = LinkIdentityRequest, responses((status = 201, body = IdentityBody)))]
pub(super) async fn link_identity(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let caller = asked.asking().user(&state.auth)?;
        let body: LinkIdentityRequest = read_json(request).await?;
        let client = client_of(&arrival, asked.headers());
        let linked = state.auth.link_identity(
            (caller.user, caller.session),
            (&body.code, &body.code_verifier),
            body.password.as_deref(),
            &client,
        );
        let linked = IdentityBody::from(Box::pin(linked).await.map_err(explain)?);
        Ok((StatusCode::CREATED, Json(linked)).into_response())
    };
    within(&state, &state.account_policies.login, arrival.client, work).await
}

/// Take a login elsewhere from one's account
///
/// The session must have begun just now, and another way to log in must stay: a password, or another linked login.
#[utoipa::path(delete, path = "/identities/{id}", tag = "providers", security(("access_token" = []), ("cookie" = [])), params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn unlink_identity(
    AxumState(state): Shared,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let caller = asked.asking().user(&state.auth)?;
    let id: IdentityId = id
        .parse()
        .map_err(|_| explain(auth::Error::IdentityNotFound))?;
    let whose = (caller.user, caller.session);
    let unlinked = state.auth.unlink_identity(whose, id).await;
    unlinked.map_err(explain)?;
    Ok(StatusCode::NO_CONTENT)
}
