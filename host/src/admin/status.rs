//! What the host is doing.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, may};
use crate::admin::{ApiError, Shared};

/// The host at one moment.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusBody {
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Plugins that answer.
    pub plugins_live: usize,
    /// Plugins whose wanted deployment could not be made live; an earlier one may still answer.
    pub plugins_failed: usize,
    pub invocations_in_progress: u32,
    /// Whether answers of plugins are held against the `response_schema` of their routes (`gateway.answers_are_checked`).
    #[serde(default)]
    pub answers_are_checked: bool,
    /// Settings that change nothing, because the plugin, route or limit that they name is not live, or that give roles which do
    /// not exist. Each is a sentence.
    #[serde(default)]
    pub idle_settings: Vec<String>,
}

/// Show what the host is doing
#[utoipa::path(get, path = "/status", tag = "host", responses((status = 200, body = StatusBody)))]
pub(super) async fn show_status(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
) -> Result<axum::Json<StatusBody>, ApiError> {
    let live = shared.registry.live();
    let mut idle_settings = shared.registry.idle_settings();
    idle_settings.extend(shared.auth.missing_roles());
    Ok(axum::Json(StatusBody {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: shared.began.elapsed().as_secs(),
        plugins_live: live.iter().count(),
        plugins_failed: live.failures().len(),
        invocations_in_progress: shared.runtime.calls_in_progress(),
        answers_are_checked: shared.settings["gateway"]["answers_are_checked"] == true,
        idle_settings,
    }))
}
