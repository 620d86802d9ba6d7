//! What plugins logged, page by page or as it comes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use crate::admin::extract::{Caller, Credentials, Path, Query, may};
use crate::admin::page::{PageBody, check_limit};
use crate::admin::{ApiError, FOLLOWERS_MAX, Shared};
use crate::auth::PlatformPermission;
use crate::clock::rfc3339;
use crate::ids::{PluginName, RequestId};
use crate::services::log::{Entry, Filter, Followed, Level, Subscription};

/// How often a silent stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often it is looked whether a stream's credential is still good.
const CHECK: Duration = Duration::from_secs(1);

/// Something that a plugin logged.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LogEntryBody {
    #[schema(format = DateTime)]
    pub at: String,
    /// `trace`, `debug`, `info`, `warn`, `error` or `critical`.
    pub level: String,
    /// What the plugin says it belongs to; often empty.
    pub context: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// This level and graver ones.
    #[param(value_type = Option<String>)]
    pub level: Option<Level>,
    /// Only what was logged during this request.
    #[param(value_type = Option<String>)]
    pub request_id: Option<RequestId>,
    /// Not older than this.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Most entries, 1 to 200. Default: 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which entries are wanted as they come.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FollowQuery {
    /// This level and graver ones.
    #[param(value_type = Option<String>)]
    pub level: Option<Level>,
}

impl From<&Entry> for LogEntryBody {
    fn from(entry: &Entry) -> Self {
        Self {
            at: rfc3339(entry.at_ms),
            level: entry.level.as_str().to_owned(),
            context: entry.context.clone(),
            message: entry.message.clone(),
            deployment: entry.deployment.map(|id| id.to_string()),
            request_id: entry.request_id.map(|id| id.to_string()),
        }
    }
}

/// List what a plugin logged
///
/// Newest first.
#[utoipa::path(get, path = "/plugins/{name}/logs", tag = "plugins", params(("name" = String, Path), LogQuery), responses((status = 200, body = PageBody<LogEntryBody>)))]
pub(super) async fn list_logs(
    State(shared): State<Shared>,
    _: Caller<may::Read>,
    Path(plugin): Path<PluginName>,
    Query(query): Query<LogQuery>,
) -> Result<axum::Json<PageBody<LogEntryBody>>, ApiError> {
    let filter = Filter {
        level_min: query.level,
        request_id: query.request_id,
        since_ms: query.since.map(Timestamp::as_millisecond),
        cursor: query.cursor,
        limit: Some(check_limit(query.limit)?),
    };
    let page = shared.logs.query(&plugin, &filter).await?;
    Ok(axum::Json(PageBody {
        items: page.entries.iter().map(Into::into).collect(),
        next_cursor: page.cursor,
    }))
}

/// Follow what a plugin logs
///
/// Server-sent events: `log` with an entry, `missed` with the number of entries that came too fast. The stream ends when
/// the credential it was opened with does, or may no longer read logs.
#[utoipa::path(get, path = "/plugins/{name}/logs/follow", tag = "plugins", params(("name" = String, Path), FollowQuery), responses((status = 200, body = LogEntryBody, content_type = "text/event-stream")))]
pub(super) async fn follow_logs(
    State(shared): State<Shared>,
    caller: Caller<may::Read>,
    Path(plugin): Path<PluginName>,
    Query(query): Query<FollowQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let place = Arc::clone(&shared.followers)
        .try_acquire_owned()
        .map_err(|_| {
            let detail = format!("{FOLLOWERS_MAX} streams of logs are open already; close one");
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "logs.too_many_followers",
                detail,
            )
            .with_retry_after_s(Some(10))
        })?;
    let follower = Follower {
        logs: shared.logs.subscribe(&plugin),
        shared,
        level: query.level,
        credentials: caller.into_credentials(),
        check: tokio::time::interval(CHECK),
        _place: place,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Somebody who watches, and the place that they take.
struct Follower {
    logs: Subscription,
    shared: Shared,
    level: Option<Level>,
    credentials: Credentials,
    check: tokio::time::Interval,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; nothing when the host stops or the credential is good no longer.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let followed = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return None,
                // First, so that a flood of entries does not put it off.
                _ = self.check.tick() => {
                    let principal = self.credentials.check(&self.shared.auth, PlatformPermission::Read);
                    principal.ok()?;
                    continue;
                }
                followed = self.logs.next() => followed?,
            };
            match followed {
                Followed::Entry(entry) if self.level.is_none_or(|level| entry.level >= level) => {
                    let body = LogEntryBody::from(&*entry);
                    return Event::default().event("log").json_data(body).ok();
                }
                Followed::Entry(_) => {}
                Followed::Missed(count) => {
                    return Some(Event::default().event("missed").data(count.to_string()));
                }
            }
        }
    }
}
