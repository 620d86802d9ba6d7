//! What a host must do now and then, beside answering.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::auth::Auth;
use crate::idempotency::Idempotency;
use crate::plugins::Plugins;
use crate::services::{kv::Kv, sql::Sql};

/// Each minute and each hour, until `stop` is cancelled.
pub(super) async fn do_chores(
    kv: Kv,
    sql: Sql,
    auth: Auth,
    once: Idempotency,
    plugins: Arc<Plugins>,
    audit: Option<Audit>,
    stop: CancellationToken,
) {
    /// Entries removed in one go, so that other writers get their turn.
    const SWEEP_MAX: u32 = 1000;
    const HOUR: Duration = Duration::from_secs(3600);
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    let mut hour = tokio::time::interval_at(tokio::time::Instant::now() + HOUR, HOUR);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = minute.tick() => {}
            _ = hour.tick() => {
                // What fell out of the history since.
                if let Err(error) = plugins.clean_up(HOUR).await {
                    tracing::warn!(error.cause = %error, "Artifacts that nobody needs cannot be removed");
                }
                if let Some(audit) = &audit
                    && let Err(error) = audit.trim().await
                {
                    tracing::warn!(error.cause = %error, "Old events of the audit trail cannot be removed");
                }
                if let Err(error) = auth.sweep().await {
                    tracing::warn!(error.cause = %error, "Sessions and codes that have ended cannot be removed");
                }
                continue;
            }
        }
        sql.close_idle();
        if let Err(error) = once.sweep().await {
            tracing::warn!(error.cause = %error, "Outcomes of requests that are done once cannot be removed");
        }
        auth.tend_api_keys();
        if let Err(error) = auth.tend_token_keys().await {
            tracing::error!(error.cause = %error, "The keys for access tokens cannot be looked after");
        }
        while let Ok(swept) = kv.sweep(SWEEP_MAX).await {
            if swept < u64::from(SWEEP_MAX) || stop.is_cancelled() {
                break;
            }
        }
    }
}
