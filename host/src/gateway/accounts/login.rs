//! `POST /login`, `POST /refresh`, `POST /logout`, `GET /me`.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Extension, Request, State as AxumState},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::auth::{self, Client, Login, Tokens, User};
use crate::gateway::accounts::Shared;
use crate::gateway::accounts::body::{read_json, read_json_if_any, secret_json};
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::layers::Arrival;
use crate::gateway::response;
use crate::http::{Problem, address};

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogInRequest {
    email: String,
    #[schema(format = Password)]
    password: String,
}

/// As an OAuth 2.0 token response (RFC 6749, section 5.1).
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct TokensBody {
    /// To be sent as `Authorization: Bearer …`.
    access_token: String,
    /// `Bearer`
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: u64,
    /// To be exchanged once, with `POST /refresh`, for the next tokens.
    refresh_token: String,
    /// Seconds for which the refresh token can be exchanged.
    refresh_expires_in: u64,
    /// The id of the session.
    session: String,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct LogInBody {
    #[serde(flatten)]
    tokens: TokensBody,
    user: UserBody,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct UserBody {
    id: String,
    email: String,
    roles: Vec<String>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshRequest {
    refresh_token: String,
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogOutRequest {
    /// Of the session to be ended. Without it, the session of the access token ends.
    #[serde(default)]
    refresh_token: Option<String>,
}

impl From<Tokens> for TokensBody {
    fn from(tokens: Tokens) -> Self {
        Self {
            access_token: tokens.access_token,
            token_type: "Bearer",
            expires_in: tokens.expires_in_s,
            refresh_token: tokens.refresh_token,
            refresh_expires_in: tokens.refresh_expires_in_s,
            session: tokens.session.to_string(),
        }
    }
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            roles: user.roles.iter().map(ToString::to_string).collect(),
            email: user.email,
        }
    }
}

impl From<Login> for LogInBody {
    fn from(login: Login) -> Self {
        Self {
            tokens: login.tokens.into(),
            user: login.user.into(),
        }
    }
}

/// Log in
///
/// With e-mail address and password. Begins a session. A wrong password and an unknown address are answered alike.
#[utoipa::path(post, path = "/login", tag = "sessions", request_body = LogInRequest, responses((status = 200, body = LogInBody)))]
pub(super) async fn log_in(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let agent = agent_of(request.headers());
        let login: LogInRequest = read_json(request).await?;
        let network = network_of(arrival.client);
        let client = Client {
            network: &network,
            agent: &agent,
        };
        let login = state
            .auth
            .login(&login.email, &login.password, client)
            .await
            .map_err(explain)?;
        Ok(secret_json(LogInBody::from(login)))
    };
    within(&state, &state.account_policies.login, arrival.client, work).await
}

/// Exchange a refresh token
///
/// For the next one and an access token. Each counts once; who lost the answer may ask again for some seconds and is given
/// the same next one. One that was used before ends the session: it may have been copied.
#[utoipa::path(post, path = "/refresh", tag = "sessions", request_body = RefreshRequest, responses((status = 200, body = TokensBody)))]
pub(super) async fn refresh(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let RefreshRequest { refresh_token } = read_json(request).await?;
        let tokens = state.auth.refresh(&refresh_token).await.map_err(explain)?;
        Ok(secret_json(TokensBody::from(tokens)))
    };
    within(
        &state,
        &state.account_policies.refresh,
        arrival.client,
        work,
    )
    .await
}

/// Log out
///
/// Ends the session of the refresh token in the body, or else of the access token. Access tokens of the session are
/// refused at once. A session that is over already is no error.
#[utoipa::path(post, path = "/logout", tag = "sessions", security(("access_token" = []), ()), request_body = LogOutRequest, responses((status = 204)))]
pub(super) async fn log_out(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let headers = request.headers().clone();
        let LogOutRequest { refresh_token } = read_json_if_any(request).await?;
        if let Some(token) = refresh_token {
            state.auth.log_out(&token).await.map_err(explain)?;
        } else {
            let (user, session) = response::user(&state.auth, &headers)?;
            if let Some(session) = session {
                match state.auth.end_session(user, session).await {
                    Ok(()) | Err(auth::Error::SessionNotFound) => {}
                    Err(error) => return Err(explain(error)),
                }
            }
        }
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    within(
        &state,
        &state.account_policies.refresh,
        arrival.client,
        work,
    )
    .await
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct MeBody {
    id: String,
    /// `user` or `api-key`.
    kind: &'static str,
    /// The e-mail address of a user, the name of an API key.
    name: String,
    roles: Vec<String>,
}

/// Who am I?
#[utoipa::path(get, path = "/me", tag = "account", security(("access_token" = [])), responses((status = 200, body = MeBody)))]
pub(super) async fn me(
    AxumState(state): Shared,
    headers: HeaderMap,
) -> Result<Json<MeBody>, Problem> {
    let principal = response::authenticate(&state.auth, &headers)?;
    let principal = principal.ok_or_else(response::login_required)?;
    Ok(Json(MeBody {
        id: principal.id.clone(),
        kind: principal.kind.as_str(),
        name: principal.name.clone(),
        roles: principal.roles.iter().map(ToString::to_string).collect(),
    }))
}

/// What the client says it is.
pub(super) fn agent_of(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
    agent.unwrap_or_default().into_owned()
}

/// What failures of a client are counted under: the rest of an address it can change at will.
pub(super) fn network_of(client: IpAddr) -> String {
    address::network(client).to_string()
}
