//! Where people are logged in, for those who look after accounts.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Path, Query, may};
use crate::admin::page::{PageBody, PageQuery};
use crate::admin::{ApiError, Shared};
use crate::auth;
use crate::clock::rfc3339;
use crate::ids::{SessionId, UserId};

/// A login that lasts.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SessionBody {
    pub id: String,
    /// The network where it began.
    pub client: String,
    /// What the client said it was.
    pub agent: String,
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When its refresh token was last exchanged.
    #[schema(format = DateTime)]
    pub used_at: String,
    /// When it ends at the latest.
    #[schema(format = DateTime)]
    pub expires_at: String,
}

impl From<auth::Session> for SessionBody {
    fn from(session: auth::Session) -> Self {
        Self {
            id: session.id.to_string(),
            client: session.client,
            agent: session.agent,
            created_at: rfc3339(session.created_at_ms),
            used_at: rfc3339(session.used_at_ms),
            expires_at: rfc3339(session.expires_at_ms),
        }
    }
}

/// List the sessions of an account
///
/// Those that have not ended, in the order in which they began.
#[utoipa::path(get, path = "/users/{id}/sessions", tag = "users", params(("id" = String, Path), PageQuery), responses((status = 200, body = PageBody<SessionBody>)))]
pub(super) async fn list_sessions(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<UserId>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<PageBody<SessionBody>>, ApiError> {
    let user = shared.auth.find_user(id).await?;
    user.ok_or(auth::Error::UserNotFound)?;
    let mut sessions = shared.auth.list_sessions(id).await?;
    sessions.sort_by_key(|session| session.id);
    let page = query.of(sessions, |session| session.id.to_string())?;
    Ok(axum::Json(PageBody {
        items: page.items.into_iter().map(Into::into).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// End all sessions of an account
///
/// Access tokens that came of them are refused at once.
#[utoipa::path(delete, path = "/users/{id}/sessions", tag = "users", params(("id" = String, Path)), responses((status = 204)))]
pub(super) async fn end_sessions(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path(id): Path<UserId>,
) -> Result<StatusCode, ApiError> {
    let user = shared.auth.find_user(id).await?;
    user.ok_or(auth::Error::UserNotFound)?;
    shared.auth.end_sessions(id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a session of an account
///
/// Access tokens that came of it are refused at once.
#[utoipa::path(delete, path = "/users/{id}/sessions/{session}", tag = "users", params(("id" = String, Path), ("session" = String, Path)), responses((status = 204)))]
pub(super) async fn end_session(
    State(shared): State<Shared>,
    _: Caller<may::Users>,
    Path((id, session)): Path<(UserId, SessionId)>,
) -> Result<StatusCode, ApiError> {
    shared.auth.end_session(id, session).await?;
    Ok(StatusCode::NO_CONTENT)
}
