//! Reading bodies: each within the bound of its route, all together within the bound of the host.

use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::http::Problem;

/// Memory for the bodies of all requests in progress, counted in KiB.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Semaphore>);

impl BodyBudget {
    /// A budget of this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes_max >> 10).max(1))))
    }

    /// Makes the share of one body as large as the body is now. It is counted over the whole body: small pieces must
    /// not take more than one large one.
    fn grow(&self, share: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Option<()> {
        let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(1 << 10).saturating_sub(held);
        if more == 0 {
            return Some(());
        }
        let more = u32::try_from(more).ok()?;
        let more = Arc::clone(&self.0).try_acquire_many_owned(more).ok()?;
        match share {
            Some(share) => share.merge(more),
            None => *share = Some(more),
        }
        Some(())
    }
}

/// A body in memory. Its share of the budget comes back when this is dropped.
pub(super) struct ReadBody {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// The whole body, if it is within bounds and comes in time.
pub(super) async fn read(
    body: Incoming,
    headers: &HeaderMap,
    bytes_max: usize,
    budget: &BodyBudget,
    deadline: Instant,
) -> Result<ReadBody, Problem> {
    use hyper::body::Body as _;
    if body.is_end_stream() {
        return Ok(ReadBody {
            bytes: Bytes::new(),
            _share: None,
        });
    }
    // A length that is declared is refused before a byte is read.
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    match tokio::time::timeout_at(deadline, collect(body, bytes_max, budget)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request.body_timeout",
            "the body did not arrive in time",
        )),
    }
}

async fn collect(
    mut body: Incoming,
    bytes_max: usize,
    budget: &BodyBudget,
) -> Result<ReadBody, Problem> {
    let mut share: Option<OwnedSemaphorePermit> = None;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "request.body_incomplete",
                "the body ended before its end",
            ));
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let bytes = first.len() + all.len() + data.len();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        budget.grow(&mut share, bytes).ok_or_else(|| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "host.saturated",
                "the host holds as many bodies as it can; try again",
            )
            .with_retry_after_s(1)
        })?;
        // Most bodies come in one piece, which then needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(ReadBody {
        bytes,
        _share: share,
    })
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request.body_too_large",
        format!("the body of this request has at most {bytes_max} bytes"),
    )
}

/// The body of an answer, as the listener takes it.
pub(super) fn answer(response: http::Response<Bytes>) -> http::Response<Body> {
    response.map(Body::from)
}
