//! The front door of operators and tools: the admin API under `/_gantry/api/v1`. Each resource is a file; a handler asks
//! whether the caller may, has the work done below, and answers.

pub mod api_keys;
pub mod audit;
pub mod cache;
pub mod config;
pub mod deployments;
pub mod deprecated;
pub mod documentation;
mod error;
pub mod explain;
mod extract;
pub mod grants;
pub mod logs;
pub mod page;
mod pages;
pub mod plugins;
pub mod rbac;
pub mod roles;
pub mod rollouts;
pub mod routes;
pub mod secrets;
pub mod service_accounts;
pub mod sessions;
pub mod settings;
pub mod status;
#[cfg(test)]
mod tests;
pub mod token_keys;
pub mod trust;
pub mod usage;
pub mod users;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use axum::{Router, extract::DefaultBodyLimit, middleware, routing::get};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, security};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::audit::Audit;
use crate::auth::Auth;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::openapi::failures;
use crate::plugins::describe::Accounts;
use crate::plugins::registry::Registry;
use crate::plugins::{Plugins, is_within};
use crate::runtime::Runtime;
use crate::services::log::Logs;
use crate::services::secrets::Secrets;

use error::ApiError;

/// Where the API is.
pub const BASE: &str = "/_gantry/api/v1";
/// Most bytes of a JSON body.
const JSON_BYTES_MAX: usize = 1 << 20;
/// Most streams of logs that are followed at the same time.
const FOLLOWERS_MAX: usize = 100;
/// Most uploads that are read at the same time.
const UPLOADS_MAX: usize = 4;

/// Where operators are served.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A listener of its own for `/_gantry/`, with `/readyz` and `/metrics` in full; then the other one answers none of
    /// it. Bind it to an address that only operators reach. Default: none, the API is where the plugins are.
    pub listen: Option<SocketAddr>,
}

/// What the admin API needs of the rest.
#[derive(Clone)]
pub struct State {
    pub audit: Audit,
    pub auth: Auth,
    pub plugins: Arc<Plugins>,
    pub registry: Arc<Registry>,
    pub runtime: Arc<Runtime>,
    pub cache: Cache,
    pub secrets: Secrets,
    pub logs: Logs,
    pub clock: Clock,
    /// What the host was started with.
    pub settings: Arc<serde_json::Value>,
    /// Login and accounts, if documents are to tell of them.
    pub documented_accounts: Option<Accounts>,
    /// Where the host itself answers.
    pub own_paths: Arc<[String]>,
    /// Whether no plugin answers on the listener of this API.
    pub is_apart: bool,
    /// Whether pages of plugins on the listener of this API are kept apart from it.
    pub pages_are_sandboxed: bool,
    /// Ends the streams of those who follow logs.
    pub stop: CancellationToken,
}

/// The state with what only this module knows.
#[derive(Clone)]
struct Shared {
    state: State,
    began: Instant,
    followers: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Shared {
    /// Where the host itself answers, if it does at this path.
    fn own_path_of(&self, path: &str) -> Option<&str> {
        let mut places = self.own_paths.iter().map(String::as_str);
        places.find(|place| is_within(path, place))
    }
}

impl std::ops::Deref for Shared {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

/// The whole API. Every path is below [`BASE`].
pub fn router(state: State) -> Router {
    let contract = axum::Json(contract());
    let router = Router::from(api());
    let shared = Shared {
        state,
        began: Instant::now(),
        followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
    };
    let router = router
        .route(
            "/openapi.json",
            get(move || std::future::ready(contract.clone())),
        )
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            pages::refuse,
        ))
        .with_state(shared);
    Router::new().nest(BASE, router)
}

/// The contract, for programs that speak to the API.
pub fn contract() -> Value {
    let contract = api().split_for_parts().1;
    let mut contract = serde_json::to_value(contract).unwrap_or_default();
    failures::complete(&mut contract);
    contract
}

/// Every path of the API, one line each resource.
fn api() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(about())
        .routes(routes!(status::show_status))
        .routes(routes!(settings::show_settings))
        .routes(routes!(plugins::list_plugins))
        .routes(routes!(plugins::get_plugin, plugins::delete_plugin))
        .routes(routes!(usage::show_usage))
        .routes(routes!(cache::show_cache))
        .routes(routes!(cache::purge))
        .routes(routes!(deprecated::list_deprecated))
        .routes(routes!(documentation::show_documentation))
        .routes(routes!(deployments::deploy))
        .routes(routes!(deployments::list_deployments))
        .routes(routes!(deployments::roll_back))
        .routes(routes!(rollouts::show_status))
        .routes(routes!(rollouts::list_history))
        .routes(routes!(rollouts::set_canary))
        .routes(routes!(rollouts::promote))
        .routes(routes!(
            rollouts::show_approval,
            rollouts::approve,
            rollouts::reject
        ))
        .routes(routes!(routes::list_routes))
        .routes(routes!(
            grants::list_grants,
            grants::set_grants,
            grants::add_grants
        ))
        .routes(routes!(grants::delete_grant))
        .routes(routes!(secrets::list_secrets))
        .routes(routes!(secrets::set_secret, secrets::delete_secret))
        .routes(routes!(config::get_config, config::set_config))
        .routes(routes!(logs::list_logs))
        .routes(routes!(logs::follow_logs))
        .routes(routes!(trust::show_trust))
        .routes(routes!(trust::list_keys, trust::add_key))
        .routes(routes!(trust::set_key, trust::delete_key))
        .routes(routes!(trust::revoke_key))
        .routes(routes!(users::list_users, users::create_user))
        .routes(routes!(users::get_user, users::delete_user))
        .routes(routes!(users::set_roles))
        .routes(routes!(users::set_password))
        .routes(routes!(users::set_disabled))
        .routes(routes!(users::remove_totp))
        .routes(routes!(sessions::list_sessions, sessions::end_sessions))
        .routes(routes!(sessions::end_session))
        .routes(routes!(
            token_keys::list_token_keys,
            token_keys::add_token_key
        ))
        .routes(routes!(token_keys::revoke_token_key))
        .routes(routes!(roles::list_roles, roles::create_role))
        .routes(routes!(roles::delete_role))
        .routes(routes!(roles::set_permissions))
        .routes(routes!(roles::list_permissions))
        .routes(routes!(explain::explain))
        .routes(routes!(rbac::show_matrix))
        .routes(routes!(api_keys::list_api_keys, api_keys::create_api_key))
        .routes(routes!(api_keys::revoke_api_key))
        .routes(routes!(api_keys::rotate_api_key))
        .routes(routes!(
            service_accounts::list_service_accounts,
            service_accounts::create_service_account
        ))
        .routes(routes!(
            service_accounts::set_service_account,
            service_accounts::delete_service_account
        ))
        .routes(routes!(audit::list_events))
        .routes(routes!(audit::export_events))
        .routes(routes!(audit::show_checkpoint))
}

fn about() -> OpenApi {
    use security::{
        ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
    };
    let info = InfoBuilder::new()
        .title("Gantry admin API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Deploy plugins and look after the host. Errors are `application/problem+json` (RFC 9457)."));
    let key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let none: [&str; 0] = [];
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([utoipa::openapi::Server::new(BASE)]))
        .components(Some(
            utoipa::openapi::ComponentsBuilder::new()
                .security_scheme("api_key", SecurityScheme::ApiKey(key))
                .security_scheme("access_token", SecurityScheme::Http(bearer))
                .build(),
        ))
        .security(Some([
            SecurityRequirement::new("api_key", none),
            SecurityRequirement::new("access_token", none),
        ]))
        .build()
}
