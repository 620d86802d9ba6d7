//! The audit trail: what happened, who did it and from where, for those who look after the host or check on those who do.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use http::header;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::extract::{Caller, Query, may};
use crate::admin::page::{PageBody, PageQuery, check_limit};
use crate::admin::{ApiError, Shared};
use crate::clock::rfc3339;
use crate::ledger::{Copy, Entry, Event, Filter};

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventBody {
    /// Its place in the trail.
    pub seq: i64,
    #[schema(format = DateTime)]
    pub at: String,
    /// `user`, `api-key`, `service-account`, `plugin`, `anonymous` or `host`.
    pub actor_kind: String,
    /// The id of the user or key; empty for `anonymous` and `host`.
    pub actor: String,
    /// Where the request came from; empty if there was none.
    pub address: String,
    /// Dotted, the thing first: `role.created`.
    pub action: String,
    /// What it was done to.
    pub target: String,
    /// `done`, `refused`, `failed` or `noticed`.
    pub outcome: String,
    /// Empty if there was no request.
    pub request_id: String,
    /// What was before and after, and what else there is to say.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// The hash of the event before.
    pub prev: String,
    /// SHA-256 of a zero byte and the event without this member, as canonical JSON (RFC 8785).
    pub hash: String,
}

/// Where the trail is, signed by the host.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckpointBody {
    /// The number of the last event.
    pub seq: i64,
    #[schema(format = DateTime)]
    pub at: String,
    /// The hash of the last event.
    pub hash: String,
    /// The key that has signed: `ed25519:` and hexadecimal digits.
    pub key: String,
    pub signature: String,
}

/// Which events are wanted. What is left out does not matter.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// Only what this user or key did.
    pub actor: Option<String>,
    /// Only this action; with `*` at its end, all actions that begin so: `role.*`.
    pub action: Option<String>,
    /// Only what was done to this.
    pub target: Option<String>,
    /// Only `done`, `refused`, `failed` or `noticed`.
    pub outcome: Option<String>,
    /// Only what was done during this request.
    pub request_id: Option<String>,
    /// Not older than this.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Older than this.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Most events, 1 to 200. Default: 50.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Which part of the trail is wanted.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// Only events behind this one. Default: all.
    #[param(minimum = 0)]
    pub after: Option<i64>,
}

impl From<Entry> for EventBody {
    fn from(entry: Entry) -> Self {
        Self {
            seq: entry.seq,
            at: rfc3339(entry.at_ms),
            actor_kind: entry.actor_kind,
            actor: entry.actor,
            address: entry.address,
            action: entry.action,
            target: entry.target,
            outcome: entry.outcome,
            request_id: entry.request_id,
            detail: Value::Object(entry.detail),
            prev: entry.prev,
            hash: entry.hash,
        }
    }
}

/// List events of the audit trail
///
/// Newest first.
#[utoipa::path(get, path = "/audit", tag = "audit", params(EventQuery), responses((status = 200, body = PageBody<EventBody>)))]
pub(super) async fn list_events(
    State(shared): State<Shared>,
    _: Caller<may::Audit>,
    Query(query): Query<EventQuery>,
) -> Result<axum::Json<PageBody<EventBody>>, ApiError> {
    let limit = check_limit(query.limit)?;
    let page = PageQuery {
        limit: query.limit,
        cursor: query.cursor,
    };
    let filter = Filter {
        actor: query.actor,
        action: query.action,
        target: query.target,
        outcome: query.outcome,
        request_id: query.request_id,
        since_ms: query.since.map(Timestamp::as_millisecond),
        until_ms: query.until.map(Timestamp::as_millisecond),
        before_seq: page.cursor_as()?,
        limit: i64::from(limit) + 1,
    };
    let found = shared.audit.find(&filter).await;
    let mut entries = found.map_err(|error| ApiError::internal(&error))?;
    let has_more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let last = entries.last().filter(|_| has_more);
    Ok(axum::Json(PageBody {
        next_cursor: last.map(|entry| entry.seq.to_string()),
        items: entries.into_iter().map(Into::into).collect(),
    }))
}

/// Export the audit trail
///
/// One JSON object in each line: first where it begins, then the events, oldest first, and at the end a checkpoint. `gantry
/// audit verify --file` looks whether such a file is whole.
#[utoipa::path(get, path = "/audit/export", tag = "audit", params(ExportQuery), responses((status = 200, body = String, content_type = "application/x-ndjson")))]
pub(super) async fn export_events(
    State(shared): State<Shared>,
    _: Caller<may::Audit>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let copy = shared.audit.copy(query.after.unwrap_or(0)).await;
    let copy = copy.map_err(|error| ApiError::internal(&error))?;
    let event = Event::new("audit.exported", "events").with("through", copy.checkpoint.seq);
    shared.audit.note(event);
    let begin = json!({ "export": { "after": copy.after(), "prev": copy.prev, "key": copy.checkpoint.key } });
    let parts = stream::unfold(Part::Begin(line(&begin), copy), |part| async move {
        match part {
            Part::Begin(line, copy) => Some((Ok::<_, sqlx::Error>(line), Part::Events(copy))),
            Part::Events(mut copy) => match copy.next().await {
                Ok(entries) if entries.is_empty() => {
                    let end = json!({ "checkpoint": copy.checkpoint });
                    Some((Ok(line(&end)), Part::End))
                }
                Ok(entries) => {
                    let lines = entries.iter().map(|entry| line(&entry.to_json()));
                    Some((Ok(lines.collect()), Part::Events(copy)))
                }
                Err(error) => {
                    // Cut off: the checkpoint at the end is missing, and whoever verifies it sees that.
                    tracing::error!(error.cause = %error, "An export of the audit trail was cut off");
                    Some((Err(error), Part::End))
                }
            },
            Part::End => None,
        }
    });
    let mut response = Response::new(Body::from_stream(parts));
    let ndjson = http::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, ndjson);
    Ok(response)
}

/// Sign where the audit trail is
///
/// Keep it where those who can change the rows cannot change it, too: `gantry audit verify --checkpoint` holds it against the
/// trail.
#[utoipa::path(get, path = "/audit/checkpoint", tag = "audit", responses((status = 200, body = CheckpointBody)))]
pub(super) async fn show_checkpoint(
    State(shared): State<Shared>,
    _: Caller<may::Audit>,
) -> Result<axum::Json<CheckpointBody>, ApiError> {
    let checkpoint = shared.audit.checkpoint().await;
    let checkpoint = checkpoint.map_err(|error| ApiError::internal(&error))?;
    Ok(axum::Json(CheckpointBody {
        seq: checkpoint.seq,
        at: checkpoint.at,
        hash: checkpoint.hash,
        key: checkpoint.key,
        signature: checkpoint.signature,
    }))
}

/// What comes next in an export.
enum Part {
    Begin(String, Copy),
    Events(Copy),
    End,
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}
