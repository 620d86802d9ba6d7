//! What plugins have used.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use crate::admin::extract::{Caller, Path, may};
use crate::admin::{ApiError, Shared};
use crate::ids::PluginName;
use crate::services::Totals;

/// What the calls of a plugin have used since the host was started.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct UsageBody {
    /// When counting began.
    #[schema(format = DateTime)]
    pub since: String,
    pub total: TotalsBody,
    pub routes: Vec<RouteUsageBody>,
}

/// What the calls of one route have used.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RouteUsageBody {
    /// Below the mount, as the manifest has it.
    pub route: String,
    #[serde(flatten)]
    pub totals: TotalsBody,
}

/// Sums over calls that are over.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TotalsBody {
    pub calls: u64,
    /// Microseconds of processor time: guest code and the host's work for it, SQL and key-value statements included, without waiting.
    pub cpu_us: u64,
    /// Most memory that one call has held.
    pub memory_peak_bytes: u64,
    /// Rows that SQL statements have returned.
    pub rows_read: u64,
    /// Rows that SQL statements have changed.
    pub rows_written: u64,
    /// To other servers, headers included.
    pub egress_bytes_sent: u64,
    /// From other servers, headers included.
    pub egress_bytes_received: u64,
    /// Services that were called.
    pub host_calls: Vec<HostCallsBody>,
}

/// What was asked of one service.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HostCallsBody {
    /// `kv`, `keyvalue`, `cache`, `blobs`, `sql`, `secrets`, `tokens`, `config`, `log` or `outbound`.
    pub service: String,
    pub calls: u64,
    /// Microseconds until the answers were there, waiting included.
    pub time_us: u64,
}

impl From<&Totals> for TotalsBody {
    fn from(totals: &Totals) -> Self {
        let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let host_calls = totals.services.iter().map(|sums| HostCallsBody {
            service: sums.service.as_str().to_owned(),
            calls: sums.calls,
            time_us: us(sums.time),
        });
        Self {
            calls: totals.calls,
            cpu_us: us(totals.cpu),
            memory_peak_bytes: totals.memory_peak_bytes,
            rows_read: totals.rows_read,
            rows_written: totals.rows_written,
            egress_bytes_sent: totals.bytes_sent,
            egress_bytes_received: totals.bytes_received,
            host_calls: host_calls.collect(),
        }
    }
}

/// Show what a plugin has used
///
/// Since the host was started, over all its deployments. A call counts when it is over.
#[utoipa::path(get, path = "/plugins/{name}/usage", tag = "plugins", params(("name" = String, Path)), responses((status = 200, body = UsageBody)))]
pub(super) async fn show_usage(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(name): Path<PluginName>,
) -> Result<axum::Json<UsageBody>, ApiError> {
    shared.plugins.get(&name).await?;
    let accounts = shared.registry.accounts();
    let routes = accounts.of_plugin(&name);
    let nothing = Totals::default();
    let total = routes
        .iter()
        .fold(nothing, |sum, (_, totals)| sum.plus(totals));
    let routes = routes.iter().map(|(route, totals)| RouteUsageBody {
        route: route.to_string(),
        totals: TotalsBody::from(totals),
    });
    Ok(axum::Json(UsageBody {
        since: accounts.since().to_string(),
        total: TotalsBody::from(&total),
        routes: routes.collect(),
    }))
}
