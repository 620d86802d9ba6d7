//! What probes and collectors ask: `/livez`, `/readyz` and `/metrics`. Names of plugins and routes are for operators.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Extension, State as AxumState},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, TextEncoder};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::auth::{Auth, Forbidden, PlatformPermission};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::db::Db;
use crate::gateway::credentials;
use crate::gateway::layers::Arrival;
use crate::http::Problem;
use crate::http::problem::ProblemItem;
use crate::ledger::acting_as;
use crate::plugins::registry::{LiveTable, Registry};

/// How metrics are given out.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who may read `/metrics`, which names plugins and their routes: `admin` asks for a credential with
    /// `platform.read`, `open` for nothing. The admin listener, if there is one, never asks. Default: `admin`.
    pub access: Access,
}

/// Who may read metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    #[default]
    Admin,
    Open,
}

/// What health needs of the rest.
#[derive(Clone)]
pub struct State {
    pub auth: Auth,
    pub db: Db,
    /// The server shared with other hosts, if there is one.
    pub cluster: Option<Cluster>,
    pub registry: Arc<Registry>,
    pub metrics: prometheus::Registry,
    pub config: Config,
    /// Whether only operators can reach this listener.
    pub is_for_operators: bool,
    /// Whether metrics are given out here: a listener for operators, if there is one, has them alone.
    pub has_metrics: bool,
    /// Cancelled when the host is about to stop: from then on it is not ready.
    pub clock: Clock,
    pub stop: CancellationToken,
}

impl State {
    /// Goes on only if the caller may see names of plugins.
    fn require_operator(&self, headers: &HeaderMap, client: IpAddr) -> Result<(), Problem> {
        if self.is_for_operators {
            return Ok(());
        }
        let principal = credentials::authenticate(&self.auth, headers, client)?;
        let principal = principal.ok_or_else(credentials::login_required)?;
        acting_as(principal.kind.as_str(), &principal.id);
        principal
            .require_platform(PlatformPermission::Read)
            .map_err(|error| {
                Problem::new(StatusCode::FORBIDDEN, Forbidden::CODE, error.to_string())
            })
    }
}

/// The routes of health and metrics.
pub fn router(state: State) -> Router {
    let mut router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready));
    if state.has_metrics {
        router = router.route("/metrics", get(metrics));
    }
    router.with_state(state)
}

/// Whether requests should come here: the rows can be reached, what is wanted is live, and the host is not stopping.
/// Everybody learns which of these fails, operators which plugin it is.
async fn ready(
    AxumState(state): AxumState<State>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
) -> Response {
    let is_database_ok = match state.db.check().await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(error.cause = %error, "The database cannot be reached");
            false
        }
    };
    let live = state.registry.live();
    let mut reasons = Vec::new();
    if !is_database_ok {
        reasons.push("the database cannot be reached".to_owned());
    }
    if state.stop.is_cancelled() {
        reasons.push("the host is stopping".to_owned());
    }
    if !live.failures().is_empty() {
        if state.require_operator(&headers, arrival.client).is_ok() {
            reasons.extend(live.failures().keys().map(|name| {
                format!(
                    "the plugin `{name}` cannot be made live; `gantry plugin inspect {name}` tells why"
                )
            }));
        } else {
            reasons.push(
                "a plugin cannot be made live; a credential with `platform.read` sees which"
                    .to_owned(),
            );
        }
    }
    if reasons.is_empty() {
        let mut body = json!({ "status": "ready", "database": "ok" });
        // Without it the host goes on, in ways that the settings of each use say; all hosts lose it at once.
        if let Some(cluster) = &state.cluster {
            let is_reachable = cluster.is_reachable();
            body["cluster"] = if is_reachable { "ok" } else { "unreachable" }.into();
        }
        // A plugin that crashes is no reason to send its requests, and those of all others, to another node.
        let held = held_routes(&live, state.clock.monotonic_ns());
        if !held.is_empty() && state.require_operator(&headers, arrival.client).is_ok() {
            body["held_routes"] = held.into();
        }
        return Json(body).into_response();
    }
    let item = |detail| ProblemItem {
        at: None,
        detail,
        help: None,
    };
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "host.not_ready",
        "the host is not ready for requests",
    )
    .with_errors(reasons.into_iter().map(item).collect())
    .with_retry_after_s(1)
    .into_response()
}

/// Routes from which calls of everybody are kept away, as `PLUGIN METHODS PATTERN`.
fn held_routes(live: &LiveTable, now_ns: u64) -> Vec<String> {
    let routes = live
        .iter()
        .flat_map(|plugin| plugin.routes.iter().map(move |route| (plugin, route)));
    routes
        .filter(|(_, route)| route.breaker.standing(now_ns).everybody.is_some())
        .map(|(plugin, route)| {
            let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
            format!("{} {} {}", plugin.name(), methods.join(","), route.pattern)
        })
        .collect()
}

async fn metrics(
    AxumState(state): AxumState<State>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if state.config.access == Access::Admin {
        state.require_operator(&headers, arrival.client)?;
    }
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder
        .encode(&state.metrics.gather(), &mut text)
        .map_err(|error| Problem::internal(&error))?;
    Ok((
        [(header::CONTENT_TYPE, encoder.format_type().to_owned())],
        text,
    )
        .into_response())
}
