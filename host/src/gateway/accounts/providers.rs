//! `GET /oauth`, `GET /oauth/{provider}`, `GET /oauth/{provider}/callback`, `POST /oauth/token`: logging in elsewhere. Tokens
//! are never in an address.

use axum::{
    Json,
    extract::{Extension, Path, Query, Request, State as AxumState},
    http::{StatusCode, Uri},
    response::Response,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::auth::{self, CodeHolder, LoginOutcome, LoginWish, ProviderAnswer};
use crate::gateway::State;
use crate::gateway::accounts::Shared;
use crate::gateway::accounts::answer::{self, Mode, TokensBody};
use crate::gateway::accounts::body::read_json;
use crate::gateway::accounts::explain::explain;
use crate::gateway::accounts::limit::within;
use crate::gateway::accounts::login::client_of;
use crate::gateway::credentials::Asked;
use crate::gateway::layers::Arrival;
use crate::http::Problem;

/// How long a browser keeps the code of a login that waits for a second factor, in seconds. The code itself ends then.
const FACTOR_LIFE_S: u64 = 300;

#[derive(Serialize, utoipa::ToSchema)]
#[schema(example = json!({ "name": "google", "title": "Google" }))]
pub(super) struct ProviderBody {
    name: String,
    /// For people.
    title: String,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ProvidersBody {
    items: Vec<ProviderBody>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BeginQuery {
    /// Where the browser goes in the end: one of the operator's `return_paths`, or with `code_challenge` of `return_apps`.
    return_to: Option<String>,
    /// Of an app that fetches its tokens itself: the SHA-256, in base64url, of a random text of 43 to 128 characters.
    code_challenge: Option<String>,
    /// `select_account`: the provider lets people choose among their accounts there.
    prompt: Option<Prompt>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Prompt {
    SelectAccount,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EndQuery {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    /// RFC 9207.
    iss: Option<String>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "code": "SplxlOBeZQQYbYS6WxSbIA", "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "mode": "token" }))]
pub(super) struct FetchTokensRequest {
    /// As it was in `login_code`. Pages with a second factor leave it out; it is in a cookie.
    code: Option<String>,
    /// The text whose SHA-256 was the `code_challenge`.
    code_verifier: Option<String>,
    /// Of the second factor, if the account has one: of the app, or a recovery code.
    totp: Option<String>,
    /// Where the tokens are put.
    #[serde(default)]
    mode: Mode,
}

/// List the providers to log in with
#[utoipa::path(get, path = "/oauth", tag = "providers", responses((status = 200, body = ProvidersBody)))]
pub(super) async fn list_providers(AxumState(state): Shared) -> Json<ProvidersBody> {
    let body = |choice: auth::ProviderChoice| ProviderBody {
        name: choice.name,
        title: choice.title,
    };
    let items = state.auth.list_providers().into_iter().map(body).collect();
    Json(ProvidersBody { items })
}

/// Begin a login at a provider
///
/// For browsers: sends them there. When they come back they are logged in with cookies, or, with `code_challenge`, have a
/// `login_code` in the address with which an app fetches its tokens.
#[utoipa::path(get, path = "/oauth/{provider}", tag = "providers", params(("provider" = String, Path), BeginQuery), responses((status = 303)))]
pub(super) async fn begin_provider_login(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(provider): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let work = async {
        let query: BeginQuery = query(&uri)?;
        let wish = LoginWish {
            return_to: query.return_to.as_deref(),
            challenge: query.code_challenge.as_deref(),
            chooses_account: query.prompt == Some(Prompt::SelectAccount),
        };
        let begun = state
            .auth
            .begin_provider_login(&provider, mount(&state), wish);
        let begun = begun.await.map_err(explain)?;
        let cookie = answer::login_cookie(&begun.attempt, begun.life_s);
        Ok(answer::go_to(&begun.address, [cookie]))
    };
    within(
        &state,
        &state.account_policies.provider,
        arrival.client,
        work,
    )
    .await
}

/// End a login at a provider
///
/// Providers send browsers here. Sends them on to where the login was to end: logged in, with a `login_code`, or with the code
/// of a problem in `login_error`. A login that this browser has not begun, or has ended before, is refused.
#[utoipa::path(get, path = "/oauth/{provider}/callback", tag = "providers", params(("provider" = String, Path), EndQuery), responses((status = 303)))]
pub(super) async fn end_provider_login(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    Path(provider): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let work = async {
        let query: EndQuery = query(&uri)?;
        let client = client_of(&arrival, asked.headers());
        let given = ProviderAnswer {
            state: &query.state,
            code: query.code.as_deref(),
            error: query.error.as_deref(),
            issuer: query.iss.as_deref(),
        };
        let kept = asked.login_cookie().unwrap_or_default();
        let end = state
            .auth
            .end_provider_login(&provider, mount(&state), kept, given, &client);
        let end = Box::pin(end).await.map_err(explain)?;
        let done = || vec![answer::login_cookie("", 0)];
        let (say, cookies) = match end.outcome {
            Ok(LoginOutcome::LoggedIn(login)) => (
                None,
                answer::logged_in(&state.auth, &login.tokens).collect(),
            ),
            Ok(LoginOutcome::Code(code)) => (Some(("login_code", code)), done()),
            Ok(LoginOutcome::FactorNeeded(code)) => (
                Some(("login_error", auth::Error::TotpRequired.code().to_owned())),
                vec![answer::login_cookie(&code, FACTOR_LIFE_S)],
            ),
            Err(error) => {
                let problem = explain(error);
                (Some(("login_error", problem.code.into_owned())), done())
            }
        };
        Ok(answer::go_to(&with(&end.return_to, say), cookies))
    };
    within(
        &state,
        &state.account_policies.provider,
        arrival.client,
        work,
    )
    .await
}

/// Fetch the tokens of a login at a provider
///
/// With the `login_code` that it has ended with, once, and the text behind `code_challenge`. An account with a second factor also
/// takes `totp`; without it the answer is `auth.totp_required`, and the code stays good. A page that was told so sends
/// `totp` alone.
#[utoipa::path(post, path = "/oauth/token", tag = "providers", request_body = FetchTokensRequest, responses((status = 200, body = TokensBody)))]
pub(super) async fn fetch_tokens(
    AxumState(state): Shared,
    Extension(arrival): Extension<Arrival>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let work = async {
        let body: FetchTokensRequest = read_json(request).await?;
        let is_of_browser = body.code.is_none();
        let mode = match is_of_browser {
            true => Mode::Cookie,
            false => body.mode,
        };
        if mode == Mode::Cookie {
            // Nobody else's page logs a browser in.
            asked.asking().require_own_page()?;
        }
        let code = body.code.as_deref().or_else(|| asked.login_cookie());
        let holder = match (is_of_browser, &body.code_verifier) {
            (true, _) => CodeHolder::Browser,
            (false, verifier) => CodeHolder::Verifier(verifier.as_deref().unwrap_or_default()),
        };
        let client = client_of(&arrival, asked.headers());
        let (code, totp) = (code.unwrap_or_default(), body.totp.as_deref());
        let login = state.auth.redeem_login_code(code, holder, totp, &client);
        let login = Box::pin(login).await.map_err(explain)?;
        let answer = answer::tokens(&state.auth, login.tokens, Some(login.user), mode);
        Ok(match is_of_browser {
            true => answer::with_cookies(answer, [answer::login_cookie("", 0)]),
            false => answer,
        })
    };
    within(&state, &state.account_policies.login, arrival.client, work).await
}

/// Where accounts are, and so where providers send people back to.
fn mount(state: &State) -> &str {
    state.config.auth_mount.trim_end_matches('/')
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let query = Query::<T>::try_from_uri(uri);
    query.map(|Query(query)| query).map_err(|error| {
        let detail = error.to_string();
        Problem::new(StatusCode::BAD_REQUEST, "request.invalid_query", detail)
    })
}

/// An address with one more parameter. What is said needs no encoding.
fn with(address: &str, say: Option<(&str, String)>) -> String {
    let Some((name, value)) = say else {
        return address.to_owned();
    };
    let mark = if address.contains('?') { '&' } else { '?' };
    format!("{address}{mark}{name}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_comes_behind_what_is_there() {
        let say = || Some(("login_code", "gc_1".to_owned()));
        assert_eq!(with("/", None), "/");
        assert_eq!(with("/app", say()), "/app?login_code=gc_1");
        assert_eq!(
            with("com.app:/x?a=1", say()),
            "com.app:/x?a=1&login_code=gc_1"
        );
    }
}
