//! What probes and collectors ask: `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State as AxumState,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{Encoder, TextEncoder};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::db::Db;
use crate::http::Problem;
use crate::plugins::registry::Registry;

/// What health needs of the rest.
#[derive(Clone)]
pub struct State {
    pub db: Db,
    pub registry: Arc<Registry>,
    pub metrics: prometheus::Registry,
    /// Cancelled when the host is about to stop: from then on it is not ready.
    pub stop: CancellationToken,
}

/// The routes of health and metrics.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Whether requests should come here: the rows can be reached, what is wanted is live, and the host is not stopping.
async fn ready(AxumState(state): AxumState<State>) -> Response {
    let database = match state.db.check().await {
        Ok(()) => "ok",
        Err(error) => {
            tracing::error!(error.cause = %error, "The database cannot be reached");
            "unreachable"
        }
    };
    let failures = state.registry.live().failures().clone();
    let is_stopping = state.stop.is_cancelled();
    let is_ready = database == "ok" && failures.is_empty() && !is_stopping;
    let status = if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    if is_ready {
        return (
            status,
            Json(json!({ "status": "ready", "database": database })),
        )
            .into_response();
    }
    let mut problem = Problem::new(
        status,
        "host.not_ready",
        "the host is not ready for requests",
    );
    let mut item = |detail: String| {
        problem.errors.push(crate::http::problem::ProblemItem {
            at: None,
            detail,
            help: None,
        })
    };
    if database != "ok" {
        item("the database cannot be reached".to_owned());
    }
    if is_stopping {
        item("the host is stopping".to_owned());
    }
    for name in failures.keys() {
        item(format!(
            "the plugin `{name}` cannot be made live; `gantry plugin inspect {name}` tells why"
        ));
    }
    problem.with_retry_after_s(1).into_response()
}

async fn metrics(AxumState(state): AxumState<State>) -> Result<Response, Problem> {
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
