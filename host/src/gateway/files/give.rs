//! Gives an object: conditions, one range, and headers that leave nothing for a browser to run.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::Timestamp;

use super::range::Part;
use super::{FILE_NAME, Visit, client, empty, error};
use crate::gateway::State;
use crate::gateway::conditional::{self, Conditions, Verdict};
use crate::gateway::layers::Arrival;
use crate::http::Problem;
use crate::ids::Digest;
use crate::plugins::manifest::{Auth, is_active};
use crate::services::blobs::{Error, Object};

/// What a browser may do with it should it show it after all: nothing.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What decides how an object is given, beside the request.
pub(super) struct Manner {
    pub(super) is_inline: bool,
    pub(super) cache_control: HeaderValue,
    /// The name of the file.
    pub(super) name: Option<String>,
    /// Whether the answer depends on `Accept`.
    pub(super) varies: bool,
    /// Whether pages of other sites may show it: whoever has the address may have the file.
    pub(super) is_for_all: bool,
}

impl Visit<'_> {
    /// Gives an object of this path, or what was made of it; then `name` is what it is called.
    pub(super) async fn give(
        &self,
        object: &Object,
        name: Option<(String, bool)>,
    ) -> Result<Response<Body>, Problem> {
        let own = object.metadata.get(FILE_NAME).cloned();
        let (name, varies) = match name {
            Some((name, varies)) => (Some(name), varies),
            None => (own, false),
        };
        let manner = Manner {
            is_inline: self.files().shows(essence(&object.content_type)),
            cache_control: self.cache_control(),
            name,
            varies,
            is_for_all: self.files().read.auth == Auth::Public,
        };
        let method = &self.head.method;
        give(
            self.state,
            self.arrival,
            method,
            &self.head.headers,
            object,
            manner,
        )
        .await
    }

    fn cache_control(&self) -> HeaderValue {
        let is_public = self.files().read.auth == Auth::Public && !self.files().is_owner_only;
        let who = if is_public { "public" } else { "private" };
        let text = match self.files().max_age {
            Some(max_age) => format!("{who}, max-age={}", max_age.as_secs()),
            None => format!("{who}, no-cache"),
        };
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("no-store"))
    }
}

/// A media type without its parameters.
pub(super) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Gives an object, or as much of it as the client does not have and asks for.
pub(super) async fn give(
    state: &State,
    arrival: Arrival,
    method: &Method,
    asked: &HeaderMap,
    object: &Object,
    manner: Manner,
) -> Result<Response<Body>, Problem> {
    let tag = format!("\"{}\"", object.etag());
    // HTTP counts in seconds.
    let modified = Timestamp::from_second(object.created_at_ms.div_euclid(1000)).ok();
    let verdict = Conditions::of(method, asked);
    let verdict = verdict.map(|conditions| conditions.judge(Some(&tag), modified));
    let head = headers(object, &tag, modified, &manner);
    match verdict {
        Some(Verdict::Failed) => return Err(conditional::failed()),
        Some(Verdict::Known) => {
            let mut answer = empty(StatusCode::NOT_MODIFIED);
            *answer.headers_mut() = head;
            for name in [
                header::CONTENT_TYPE,
                header::CONTENT_DISPOSITION,
                REPR_DIGEST,
            ] {
                answer.headers_mut().remove(name);
            }
            return Ok(answer);
        }
        Some(Verdict::Give) | None => {}
    }
    let part = Part::of(asked, object.size, &tag, modified);
    let (status, range) = match part {
        Part::Whole => (StatusCode::OK, 0..object.size),
        Part::Bytes(range) => (StatusCode::PARTIAL_CONTENT, range),
        Part::Nowhere => {
            let size = object.size;
            let problem = error::explain(&Error::RangeInvalid { size });
            let mut answer =
                crate::gateway::response::of_problem(problem.with_request_id(arrival.id));
            insert(
                answer.headers_mut(),
                header::CONTENT_RANGE,
                format!("bytes */{size}"),
            );
            return Ok(answer);
        }
    };
    let mut answer = empty(status);
    *answer.headers_mut() = head;
    let headers = answer.headers_mut();
    let length = range.end - range.start;
    headers.insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (range.start, range.end.saturating_sub(1));
        let text = format!("bytes {first}-{last}/{}", object.size);
        insert(headers, header::CONTENT_RANGE, text);
    }
    if *method == Method::HEAD || length == 0 {
        return Ok(answer);
    }
    *answer.body_mut() = body(state, arrival, object, range).await?;
    Ok(answer)
}

/// The bytes, a piece at a time: a client that reads slowly holds one of them and not the whole. The first is there before
/// the head is sent: a store that is away is told with a status, and not with an answer that breaks off.
async fn body(
    state: &State,
    arrival: Arrival,
    object: &Object,
    range: std::ops::Range<u64>,
) -> Result<Body, Problem> {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let counted = length.min(state.config.files.download_bytes);
    let share = state.answers.take(arrival.client, counted).ok_or_else(|| {
        let detail = "too many answers wait to be read, in all or by this client; try again";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "host.saturated", detail)
            .with_retry_after_s(1)
    })?;
    let is_whole = range.start == 0 && range.end == object.size;
    let range = (!is_whole).then_some(range);
    let content = state.files.blobs.open(object, range).await;
    let mut content = content.map_err(|error| error::explain(&error))?;
    let first = content.try_next().await;
    let first = first.map_err(|error| error::explain(&error))?;
    let content = stream::iter(first.map(Ok)).chain(content);
    let share = Arc::new(share);
    Ok(Body::from_stream(content.map(move |piece| {
        let _share = &share;
        piece.inspect_err(|error| {
            tracing::warn!(error.cause = %error, "A file breaks off on its way to a client");
        })
    })))
}

fn headers(object: &Object, tag: &str, modified: Option<Timestamp>, manner: &Manner) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert(&mut headers, header::ETAG, tag.to_owned());
    if let Some(modified) = modified {
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        if let Ok(text) = printer.timestamp_to_rfc9110_string(&modified) {
            insert(&mut headers, header::LAST_MODIFIED, text);
        }
    }
    let kind = essence(&object.content_type);
    let content_type = match is_active(kind) {
        // Nobody needs its type to save it, and no reader shall find it a page.
        true => "application/octet-stream".to_owned(),
        false => object.content_type.clone(),
    };
    insert(&mut headers, header::CONTENT_TYPE, content_type);
    let disposition = client::disposition(manner.is_inline, manner.name.as_deref());
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // The viewers of browsers for PDF do not work in a sandbox; they run nothing of ours.
    if !(manner.is_inline && kind == "application/pdf") {
        headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    }
    let site = match manner.is_for_all {
        true => "cross-origin",
        false => "same-site",
    };
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static(site));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, manner.cache_control.clone());
    if manner.varies {
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    }
    insert(&mut headers, REPR_DIGEST, repr_digest(&object.sha256));
    headers
}

/// RFC 9530: of the whole, also where only a part is given.
fn repr_digest(digest: &Digest) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest.as_bytes()))
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
