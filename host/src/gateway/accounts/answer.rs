//! Tokens as an answer: in the body for programs, in cookies for pages, which scripts cannot read.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::auth::{Auth, Tokens, User};
use crate::gateway::credentials::{ACCESS_COOKIE, CSRF_COOKIE, LOGIN_COOKIE, REFRESH_COOKIE};

/// Where tokens are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// Into the body.
    #[default]
    Token,
    /// Into cookies: for pages in a browser.
    Cookie,
}

/// As an OAuth 2.0 token response (RFC 6749, section 5.1). In the mode `cookie` the tokens are in cookies, and
/// `csrf_token` is in the body.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({
    "access_token": "eyJhbGciOiJFZERTQSIs…",
    "token_type": "Bearer",
    "expires_in": 900,
    "refresh_token": "gr_AZeEbn8PcAC…",
    "refresh_expires_in": 2_592_000,
    "session": "01980000-0000-7000-8000-000000000001",
    "user": { "id": "01980000-0000-7000-8000-000000000000", "email": "ann@example.com", "roles": ["waiter"] },
}))]
pub(super) struct TokensBody {
    /// To be sent as `Authorization: Bearer …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    /// `Bearer` or `Cookie`.
    token_type: &'static str,
    /// Seconds for which the access token is good.
    expires_in: u64,
    /// To be exchanged once, with `POST /refresh`, for the next tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// Seconds for which the refresh token can be exchanged.
    refresh_expires_in: u64,
    /// The id of the session.
    session: String,
    /// To be sent as `X-Gantry-CSRF` with every request that changes something. Also in the cookie `__Host-gantry-csrf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
    /// Who has logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserBody>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({ "id": "01980000-0000-7000-8000-000000000000", "email": "ann@example.com", "roles": ["waiter"] }))]
pub(super) struct UserBody {
    id: String,
    email: String,
    roles: Vec<String>,
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

/// Tokens, where they are wanted. Caches do not keep them.
pub(super) fn tokens(auth: &Auth, tokens: Tokens, user: Option<User>, mode: Mode) -> Response {
    let mut body = TokensBody {
        access_token: None,
        token_type: "Cookie",
        expires_in: tokens.expires_in_s,
        refresh_token: None,
        refresh_expires_in: tokens.refresh_expires_in_s,
        session: tokens.session.to_string(),
        csrf_token: None,
        user: user.map(Into::into),
    };
    let mut cookies = Vec::new();
    match mode {
        Mode::Token => {
            body.token_type = "Bearer";
            body.access_token = Some(tokens.access_token);
            body.refresh_token = Some(tokens.refresh_token);
        }
        Mode::Cookie => {
            let csrf_token = auth.csrf_token(tokens.session);
            cookies.extend(session_cookies(&tokens, &csrf_token));
            body.csrf_token = Some(csrf_token);
        }
    }
    with_cookies(Json(body).into_response(), cookies)
}

fn session_cookies(tokens: &Tokens, csrf_token: &str) -> [String; 3] {
    let (short_s, long_s) = (tokens.expires_in_s, tokens.refresh_expires_in_s);
    // Lax: who follows a link from elsewhere is logged in. The others are sent by pages of the same site only.
    let access = cookie(
        ACCESS_COOKIE,
        &tokens.access_token,
        short_s,
        "HttpOnly; SameSite=Lax",
    );
    let refresh = cookie(
        REFRESH_COOKIE,
        &tokens.refresh_token,
        long_s,
        "HttpOnly; SameSite=Strict",
    );
    let csrf = cookie(CSRF_COOKIE, csrf_token, long_s, "SameSite=Strict");
    [access, refresh, csrf]
}

/// Sends a browser on.
pub(super) fn go_to(address: &str, cookies: impl IntoIterator<Item = String>) -> Response {
    let mut answer = StatusCode::SEE_OTHER.into_response();
    if let Ok(address) = HeaderValue::try_from(address) {
        answer.headers_mut().insert(header::LOCATION, address);
    }
    with_cookies(answer, cookies)
}

/// The cookies of a browser that has logged in with a provider.
pub(super) fn logged_in(auth: &Auth, tokens: &Tokens) -> impl Iterator<Item = String> + use<> {
    let csrf_token = auth.csrf_token(tokens.session);
    let cookies = session_cookies(tokens, &csrf_token).into_iter();
    cookies.chain([login_cookie("", 0)])
}

/// What a browser keeps of a login at a provider. Lax: it comes back from there with it.
pub(super) fn login_cookie(value: &str, life_s: u64) -> String {
    cookie(LOGIN_COOKIE, value, life_s, "HttpOnly; SameSite=Lax")
}

/// Nothing to say, and no cookies any more.
pub(super) fn logged_out(is_page: bool) -> Response {
    let cookies = [ACCESS_COOKIE, REFRESH_COOKIE, CSRF_COOKIE];
    let cookies = cookies.map(|name| cookie(name, "", 0, "SameSite=Strict"));
    let cookies = cookies.into_iter().filter(|_| is_page);
    with_cookies(StatusCode::NO_CONTENT.into_response(), cookies)
}

/// An answer with secrets in it. Caches do not keep it.
pub(super) fn secret(body: impl Serialize) -> Response {
    with_cookies(Json(body).into_response(), [])
}

pub(super) fn with_cookies(
    mut answer: Response,
    cookies: impl IntoIterator<Item = String>,
) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies {
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    answer
}

/// The prefix `__Host-` asks for `Secure`, `Path=/` and no `Domain`: no other host name can set or see it.
fn cookie(name: &str, value: &str, life_s: u64, more: &str) -> String {
    format!("{name}={value}; Path=/; Secure; Max-Age={life_s}; {more}")
}
