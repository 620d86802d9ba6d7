//! `GET /sessions`, `DELETE /sessions`, `DELETE /sessions/{id}`: where else one is logged in.

use axum::{
    Json,
    extract::{Path, State as AxumState},
    http::StatusCode,
};
use serde::Serialize;

use crate::auth;
use crate::clock::rfc3339;
use crate::gateway::accounts::Shared;
use crate::gateway::accounts::explain::explain;
use crate::gateway::credentials::Asked;
use crate::http::Problem;
use crate::ids::SessionId;

/// A login that lasts.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "id": "01980000-0000-7000-8000-000000000001",
    "is_current": true,
    "client": "192.0.2.7",
    "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "created_at": "2026-01-05T08:00:00Z",
    "used_at": "2026-01-05T09:30:00Z",
    "expires_at": "2026-02-04T08:00:00Z",
}))]
pub(super) struct SessionBody {
    id: String,
    /// Whether the request comes of this session.
    is_current: bool,
    /// The network where it began.
    client: String,
    /// What the client said it was.
    agent: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When its refresh token was last exchanged.
    #[schema(format = DateTime)]
    used_at: String,
    /// When it ends at the latest.
    #[schema(format = DateTime)]
    expires_at: String,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct SessionsBody {
    items: Vec<SessionBody>,
}

/// List one's own sessions
///
/// The one used last first.
#[utoipa::path(get, path = "/sessions", tag = "sessions", security(("access_token" = []), ("cookie" = [])), responses((status = 200, body = SessionsBody)))]
pub(super) async fn list_sessions(
    AxumState(state): Shared,
    asked: Asked,
) -> Result<Json<SessionsBody>, Problem> {
    let caller = asked.asking().user(&state.auth)?;
    let sessions = state
        .auth
        .list_sessions(caller.user)
        .await
        .map_err(explain)?;
    let body = |session: auth::Session| SessionBody {
        is_current: caller.session == Some(session.id),
        id: session.id.to_string(),
        client: session.client,
        agent: session.agent,
        created_at: rfc3339(session.created_at_ms),
        used_at: rfc3339(session.used_at_ms),
        expires_at: rfc3339(session.expires_at_ms),
    };
    Ok(Json(SessionsBody {
        items: sessions.into_iter().map(body).collect(),
    }))
}

/// End all other sessions
///
/// The one that the request comes of stays.
#[utoipa::path(delete, path = "/sessions", tag = "sessions", security(("access_token" = []), ("cookie" = [])), responses((status = 204)))]
pub(super) async fn end_sessions(
    AxumState(state): Shared,
    asked: Asked,
) -> Result<StatusCode, Problem> {
    let caller = asked.asking().user(&state.auth)?;
    state
        .auth
        .end_sessions(caller.user, caller.session)
        .await
        .map_err(explain)?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a session
///
/// Access tokens that came of it are refused at once.
#[utoipa::path(delete, path = "/sessions/{id}", tag = "sessions", security(("access_token" = []), ("cookie" = [])), params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn end_session(
    AxumState(state): Shared,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let caller = asked.asking().user(&state.auth)?;
    let id: SessionId = id
        .parse()
        .map_err(|_| explain(auth::Error::SessionNotFound))?;
    let ended = state.auth.end_session(caller.user, id).await;
    ended.map_err(explain)?;
    Ok(StatusCode::NO_CONTENT)
}
