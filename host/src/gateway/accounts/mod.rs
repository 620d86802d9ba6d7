//! Accounts, for those who have one: login, sessions and what belongs to them, under the operator's mount; and the keys that
//! verify access tokens, at `/.well-known/jwks.json`.

mod answer;
mod body;
mod explain;
mod identities;
mod introspect;
mod key;
mod limit;
mod login;
mod password;
mod providers;
mod register;
mod sessions;
mod totp;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State as AxumState,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, security};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::gateway::State;
use crate::gateway::credentials::{ACCESS_COOKIE, API_KEY};
use crate::gateway::headers::REQUEST_ID;
use crate::gateway::limits::{RATE_LIMIT, RATE_LIMIT_POLICY};
use crate::openapi::failures;
use crate::plugins;

pub use limit::Policies;

/// What handlers are given.
type Shared = AxumState<Arc<State>>;

/// The routes of accounts, unless they are off, and the public keys.
pub fn router(state: &State) -> Router {
    let shared = Arc::new(state.clone());
    let router = Router::new().route("/.well-known/jwks.json", get(keys));
    let mount = state.config.auth_mount.trim_end_matches('/');
    if mount.is_empty() {
        return router.with_state(shared);
    }
    let contract = axum::Json(contract(mount));
    let accounts = Router::from(api(mount));
    let accounts = accounts.route(
        "/openapi.json",
        get(move || std::future::ready(contract.clone())),
    );
    let origins = &state.config.accounts_origins;
    let accounts = match origins.is_empty() {
        true => accounts,
        false => accounts.layer(cors(origins)),
    };
    router.nest(mount, accounts).with_state(shared)
}

/// What pages of these origins may do. Without credentials: cookies are for pages of this host.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins
        .iter()
        .filter_map(|origin| plugins::cors::origin(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, API_KEY])
        .expose_headers([
            header::RETRY_AFTER,
            RATE_LIMIT,
            RATE_LIMIT_POLICY,
            REQUEST_ID,
        ])
        .max_age(Duration::from_secs(600))
}

/// The contract, for programs that speak to the API, as it is below this mount.
pub fn contract(mount: &str) -> Value {
    let contract = api(mount).split_for_parts().1;
    let mut contract = serde_json::to_value(contract).unwrap_or_default();
    failures::complete(&mut contract);
    contract
}

/// Every path, one line each.
fn api(mount: &str) -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(about(mount))
        .routes(routes!(login::log_in))
        .routes(routes!(login::refresh))
        .routes(routes!(login::log_out))
        .routes(routes!(login::me))
        .routes(routes!(key::show_key))
        .routes(routes!(key::rotate_key))
        .routes(routes!(introspect::introspect))
        .routes(routes!(providers::list_providers))
        .routes(routes!(providers::begin_provider_login))
        .routes(routes!(providers::end_provider_login))
        .routes(routes!(providers::fetch_tokens))
        .routes(routes!(
            identities::list_identities,
            identities::link_identity
        ))
        .routes(routes!(identities::unlink_identity))
        .routes(routes!(register::register))
        .routes(routes!(register::confirm_registration))
        .routes(routes!(password::change_password))
        .routes(routes!(password::request_reset))
        .routes(routes!(password::confirm_reset))
        .routes(routes!(totp::totp_status, totp::begin_totp))
        .routes(routes!(totp::confirm_totp))
        .routes(routes!(totp::remove_totp))
        .routes(routes!(sessions::list_sessions, sessions::end_sessions))
        .routes(routes!(sessions::end_session))
}

fn about(mount: &str) -> OpenApi {
    use security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
    let info = InfoBuilder::new()
        .title("Gantry accounts")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Log in, stay logged in, and look after one's own account. Errors are `application/problem+json` (RFC 9457).",
        ));
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description(
        ACCESS_COOKIE,
        "Requests that change something also carry `X-Gantry-CSRF`.",
    ));
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([utoipa::openapi::Server::new(mount)]))
        .components(Some(
            utoipa::openapi::ComponentsBuilder::new()
                .security_scheme("access_token", SecurityScheme::Http(bearer))
                .security_scheme("cookie", SecurityScheme::ApiKey(cookie))
                .build(),
        ))
        .build()
}

async fn keys(AxumState(state): Shared) -> Response {
    let mut answer = state.auth.jwks().to_string().into_response();
    let json = HeaderValue::from_static("application/jwk-set+json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    let cache = HeaderValue::from_static("public, max-age=300");
    answer.headers_mut().insert(header::CACHE_CONTROL, cache);
    answer
}
