//! `POST /login`, `POST /refresh`, `POST /logout`, `GET /me`.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{Extension, Request, State as AxumState},
    http::{HeaderMap, header},
    response::Response,
};
use serde::{Deserialize, Serialize};

use crate::auth::{self, Client};
use crate::gateway::accounts::Shared;
use crate::gateway::accounts::answer::{self, Mode, TokensBody};
use crate::gateway::accounts::body::{read_json, read_json_if_any};
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::credentials::{Asked, login_required};
use crate::gateway::layers::Arrival;
use crate::http::{Problem, address};
use crate::ledger::acting_as;

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "email": "ann@example.com", "password": "correct horse battery", "mode": "token" }))]
pub(super) struct LogInRequest {
    email: String,
    #[schema(format = Password)]
    password: String,
    /// Of the second factor, if the account has one: of the app, or a recovery code.
    #[serde(default)]
    code: Option<String>,
    /// Where the tokens are put.
    #[serde(default)]
    mode: Mode,
}

#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({ "refresh_token": "gr_AZeEbn8PcAC…" }))]
pub(super) struct RefreshRequest {
    /// Pages with cookies leave it out.
    refresh_token: Option<String>,
}

/// Log in
///
/// With e-mail address and password. Begins a session. A wrong password and an unknown address are answered alike. An account with a
/// second factor also takes a code: without it, whoever has the password is told `auth.totp_required`.
#[utoipa::path(post, path = "/login", tag = "sessions", request_body = LogInRequest, responses((status = 200, body = TokensBody)))]
pub(super) async fn log_in(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let LogInRequest {
            email,
            password,
            code,
            mode,
        } = read_json(request).await?;
        if mode == Mode::Cookie {
            // Nobody else's page logs a browser in.
            asked.asking().require_own_page()?;
        }
        let client = client_of(&arrival, asked.headers());
        let login = state
            .auth
            .login(&email, &password, code.as_deref(), &client)
            .await;
        let login = login.map_err(explain)?;
        Ok(answer::tokens(
            &state.auth,
            login.tokens,
            Some(login.user),
            mode,
        ))
    };
    within(&state, &state.account_policies.login, arrival.client, work).await
}

/// Exchange a refresh token
///
/// For the next one and an access token. Each counts once; who lost the answer may ask again for some seconds and is given
/// the same next one. One that was used before ends the session: it may have been copied. A page sends no body; its tokens are
/// in cookies.
#[utoipa::path(post, path = "/refresh", tag = "sessions", request_body = RefreshRequest, responses((status = 200, body = TokensBody)))]
pub(super) async fn refresh(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let auth = &state.auth;
        let RefreshRequest { refresh_token } = read_json_if_any(request).await?;
        let (token, mode) = match &refresh_token {
            Some(token) => (Some(token.as_str()), Mode::Token),
            None => (asked.asking().page_refresh_token(auth)?, Mode::Cookie),
        };
        let token = token.ok_or_else(|| explain(auth::Error::RefreshInvalid))?;
        let tokens = auth.refresh(token).await.map_err(explain)?;
        Ok(answer::tokens(auth, tokens, None, mode))
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
/// Ends the session of the refresh token in the body, or else of the access token or the cookies. Access tokens of the session
/// are refused at once. A session that is over already is no error.
#[utoipa::path(post, path = "/logout", tag = "sessions", security(("access_token" = []), ("cookie" = []), ()), request_body = RefreshRequest, responses((status = 204)))]
pub(super) async fn log_out(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let auth = &state.auth;
        let RefreshRequest { refresh_token } = read_json_if_any(request).await?;
        let page_token = match &refresh_token {
            Some(_) => None,
            None => asked.asking().page_refresh_token(auth)?,
        };
        let mut is_page = page_token.is_some();
        match refresh_token.as_deref().or(page_token) {
            Some(token) => auth.log_out(token).await.map_err(explain)?,
            None => {
                let caller = asked.asking().user(auth)?;
                is_page = caller.is_page;
                if let Some(session) = caller.session {
                    match auth.end_session(caller.user, session).await {
                        Ok(()) | Err(auth::Error::SessionNotFound) => {}
                        Err(error) => return Err(explain(error)),
                    }
                }
            }
        }
        Ok(answer::logged_out(is_page))
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
#[schema(example = json!({ "id": "01980000-0000-7000-8000-000000000000", "kind": "user", "name": "ann@example.com", "roles": ["waiter"] }))]
pub(super) struct MeBody {
    id: String,
    /// `user` or `api-key`.
    kind: &'static str,
    /// The e-mail address of a user, the name of an API key.
    name: String,
    roles: Vec<String>,
}

/// Who am I?
#[utoipa::path(get, path = "/me", tag = "account", security(("access_token" = []), ("cookie" = [])), responses((status = 200, body = MeBody)))]
pub(super) async fn me(AxumState(state): Shared, asked: Asked) -> Result<Json<MeBody>, Problem> {
    let principal = asked.asking().principal(&state.auth)?;
    let principal = principal.ok_or_else(login_required)?;
    acting_as(principal.kind.as_str(), &principal.id);
    Ok(Json(MeBody {
        id: principal.id.clone(),
        kind: principal.kind.as_str(),
        name: principal.name.clone(),
        roles: principal.roles.iter().map(ToString::to_string).collect(),
    }))
}

/// Where a request comes from.
pub(super) fn client_of(arrival: &Arrival, headers: &HeaderMap) -> Client {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
    Client {
        network: network_of(arrival.client),
        agent: agent.unwrap_or_default().into_owned(),
    }
}

/// What failures of a client are counted under: the rest of an address it can change at will.
pub(super) fn network_of(client: IpAddr) -> String {
    address::network(client).to_string()
}
