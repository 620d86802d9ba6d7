//! Login and what belongs to it, under the operator's mount: `POST /login`, `GET /me`; and the keys that verify access
//! tokens, at `/.well-known/jwks.json`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Extension, Request, State as AxumState},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use crate::auth;
use crate::gateway::layers::Arrival;
use crate::gateway::{State, response};
use crate::http::{Problem, address};
use crate::limits::{Caller, Check};

/// Most bytes of a login.
const BODY_BYTES_MAX: usize = 4 << 10;
/// How long the body of a login may take to arrive. Anybody may send one, so nobody may hold a connection with it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The routes of accounts.
pub fn router(state: &State) -> Router {
    let mount = state.config.auth_mount.trim_end_matches('/');
    Router::new()
        .route(&format!("{mount}/login"), post(log_in))
        .route(&format!("{mount}/me"), get(me))
        .route("/.well-known/jwks.json", get(keys))
        .with_state(Arc::new(state.clone()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogInRequest {
    email: String,
    password: String,
}

/// As an OAuth 2.0 token response (RFC 6749, section 5.1).
#[derive(Serialize)]
struct LogInBody {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    user: UserBody,
}

#[derive(Serialize)]
struct UserBody {
    id: String,
    email: String,
    roles: Vec<String>,
}

async fn log_in(
    AxumState(state): AxumState<Arc<State>>,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = Caller {
        address: Some(arrival.client),
        user: None,
        api_key: None,
    };
    let policy = &state.login_policy;
    let checks = [Check {
        policy,
        key: policy.key_of(&caller),
        cost: 1,
    }];
    let decision = state.limiter.check(&checks, state.clock.monotonic_ns());
    let decision = decision.map_err(|error| Problem::internal(&error))?;
    if !decision.is_admitted() {
        return Err(response::limited(&decision));
    }
    // Whatever comes of it, the client learns how many tries are left.
    match check_password(&state, arrival, request).await {
        Ok(mut answer) => {
            response::add_limit_headers(answer.headers_mut(), &decision);
            Ok(answer)
        }
        Err(mut problem) => {
            problem.rate_limit = Some((decision.policy_header(), decision.limit_header()));
            Err(problem)
        }
    }
}

async fn check_password(
    state: &State,
    arrival: Arrival,
    request: Request,
) -> Result<Response, Problem> {
    let login: LogInRequest = read_json(request).await?;
    let client = address::network(arrival.client).to_string();
    let login = state
        .auth
        .login(&login.email, &login.password, &client)
        .await
        .map_err(explain)?;
    let user = UserBody {
        id: login.user.id.to_string(),
        email: login.user.email.clone(),
        roles: login.user.roles.iter().map(ToString::to_string).collect(),
    };
    let body = LogInBody {
        access_token: login.access_token.clone(),
        token_type: "Bearer",
        expires_in: login.expires_in_s,
        user,
    };
    let mut answer = Json(body).into_response();
    // RFC 6749, section 5.1: tokens are not kept by caches.
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

async fn read_json<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_json = content_type
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim() == "application/json")
        });
    if !is_json {
        let detail = "send the body as application/json";
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "request.unsupported_media_type",
            detail,
        ));
    }
    let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
    let body = tokio::time::timeout(BODY_TIMEOUT, body)
        .await
        .map_err(|_| {
            Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "request.body_timeout",
                "the body did not arrive in time",
            )
        })?
        .map_err(|_| {
            let detail = format!("the body of this request has at most {BODY_BYTES_MAX} bytes");
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request.body_too_large",
                detail,
            )
        })?;
    serde_json::from_slice(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "request.invalid_json",
            error.to_string(),
        )
    })
}

#[derive(Serialize)]
struct MeBody {
    id: String,
    kind: &'static str,
    name: String,
    roles: Vec<String>,
}

async fn me(
    AxumState(state): AxumState<Arc<State>>,
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

async fn keys(AxumState(state): AxumState<Arc<State>>) -> Response {
    let mut answer = state.auth.jwks().to_owned().into_response();
    let json = HeaderValue::from_static("application/jwk-set+json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    let cache = HeaderValue::from_static("public, max-age=300");
    answer.headers_mut().insert(header::CACHE_CONTROL, cache);
    answer
}

/// What a failed login tells the client.
fn explain(error: auth::Error) -> Problem {
    let status = match &error {
        auth::Error::CredentialsWrong => StatusCode::UNAUTHORIZED,
        auth::Error::AccountDisabled => StatusCode::FORBIDDEN,
        auth::Error::TooManyAttempts { .. } => StatusCode::TOO_MANY_REQUESTS,
        auth::Error::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => return Problem::internal(&format!("{:#}", anyhow::Error::new(error))),
    };
    let problem = Problem::new(status, error.code(), error.to_string());
    match error.retry_after_s() {
        Some(seconds) => problem.with_retry_after_s(seconds),
        None => problem,
    }
}
