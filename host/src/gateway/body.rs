//! Bodies in memory: each within the bound of its route, all together within the bounds of the host and of the client,
//! on their way in and on their way out.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::{HeaderMap, Response, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use crate::gateway::{Config, State};
use crate::http::Problem;
use crate::http::shares::{Share, Shares};
use crate::runtime::{self, BodyError, RequestBody};

/// A body in memory. Its share of the budget comes back when this is dropped.
pub(super) struct ReadBody {
    pub(super) bytes: Bytes,
    share: Option<Share>,
}

impl ReadBody {
    /// Puts another body in its place, if the client and the host have room for it.
    pub(super) fn replace(
        &mut self,
        state: &State,
        client: IpAddr,
        bytes: Bytes,
    ) -> Result<(), Problem> {
        if !bytes.is_empty() {
            grow(&state.bodies, client, &mut self.share, bytes.len()).ok_or_else(full)?;
        }
        self.bytes = bytes;
        Ok(())
    }
}

/// Bytes of a body that are read before the plugin runs, whichever kind of plugin it is.
const SHORT_BYTES_MAX: u64 = 64 << 10;

/// Whether a plugin that takes a body piece by piece should get it so: it is not announced as a short one.
pub(super) fn is_long(body: &Incoming, headers: &HeaderMap) -> bool {
    use hyper::body::Body as _;
    !body.is_end_stream() && announced(headers).is_none_or(|length| length > SHORT_BYTES_MAX)
}

/// The body piece by piece, as long as it is within its bound. The share comes back with its end.
pub(super) fn flow(
    body: Incoming,
    headers: &HeaderMap,
    bytes_max: usize,
    share: Share,
) -> Result<RequestBody, Problem> {
    if announced(headers).is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let counted = Counted {
        body,
        bytes_max,
        bytes: 0,
        share: Some(share),
    };
    Ok(RequestBody::Stream(counted.boxed()))
}

/// A body that breaks off where it becomes too large.
struct Counted {
    body: Incoming,
    bytes_max: usize,
    bytes: usize,
    share: Option<Share>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.body.is_end_stream() {
            self.share = None;
        }
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let Ok(frame) = frame else {
            return Poll::Ready(Some(Err(BodyError::Incomplete)));
        };
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        let bytes_max = self.bytes_max;
        Poll::Ready(Some(if self.bytes > bytes_max {
            Err(BodyError::TooLarge { bytes_max })
        } else {
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the client says that it will send, in bytes.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// The whole body, if it is within bounds and comes fast enough.
pub(super) async fn read<B>(
    state: &State,
    client: IpAddr,
    body: B,
    headers: &HeaderMap,
    bytes_max: usize,
) -> Result<ReadBody, Problem>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
{
    if body.is_end_stream() {
        return Ok(ReadBody {
            bytes: Bytes::new(),
            share: None,
        });
    }
    // A length that is declared is refused before a byte is read.
    if announced(headers).is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let mut pace = Pace::new(&state.config);
    let mut body = body;
    let mut share = None;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = pace.next(&mut body).await? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let bytes = first.len() + all.len() + data.len();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        grow(&state.bodies, client, &mut share, bytes).ok_or_else(full)?;
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
    Ok(ReadBody { bytes, share })
}

/// The body piece by piece, as long as it comes fast enough and is within its bound. Nothing of it is kept here.
pub(super) fn pieces<B>(
    config: &Config,
    body: B,
    headers: &HeaderMap,
    bytes_max: u64,
) -> Result<impl Stream<Item = Result<Bytes, Problem>> + Send + use<B>, Problem>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
{
    let too_large = move || too_large(usize::try_from(bytes_max).unwrap_or(usize::MAX));
    if announced(headers).is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let start = (Pace::new(config), body, 0_u64);
    Ok(stream::try_unfold(
        start,
        move |(mut pace, mut body, mut bytes)| async move {
            loop {
                let Some(frame) = pace.next(&mut body).await? else {
                    return Ok(None);
                };
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                bytes = bytes.saturating_add(data.len() as u64);
                if bytes > bytes_max {
                    return Err(too_large());
                }
                return Ok(Some((data, (pace, body, bytes))));
            }
        },
    ))
}

/// Makes the share of one body as large as the body is now, in steps of 1 KiB. It is counted over the whole body: small
/// pieces must not take more than one large one.
fn grow(
    shares: &Arc<Shares>,
    client: IpAddr,
    share: &mut Option<Share>,
    bytes: usize,
) -> Option<()> {
    let bytes = bytes.next_multiple_of(1 << 10);
    match share {
        Some(share) => share.grow_to(bytes).then_some(()),
        None => {
            *share = Some(shares.take(client, bytes)?);
            Some(())
        }
    }
}

/// How fast a body comes. It is measured over one window after the other, so that nobody can send much at once and then
/// wait for as long as that would have allowed.
struct Pace {
    window: Duration,
    bytes_min: usize,
    ends_at: Instant,
    bytes: usize,
}

impl Pace {
    fn new(config: &Config) -> Self {
        let window = Duration::from_millis(config.body_window_ms.max(1));
        let bytes = config.body_bytes_per_s_min as u128 * window.as_millis() / 1000;
        Self {
            window,
            bytes_min: usize::try_from(bytes).unwrap_or(usize::MAX).max(1),
            ends_at: Instant::now() + window,
            bytes: 0,
        }
    }

    /// The next piece; nothing at the end of the body.
    async fn next<B>(&mut self, body: &mut B) -> Result<Option<Frame<Bytes>>, Problem>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        loop {
            match timeout_at(self.ends_at, body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    return Ok(Some(frame));
                }
                Ok(Some(Err(_))) => {
                    return Err(explain(BodyError::Incomplete));
                }
                Err(_) if self.bytes < self.bytes_min => {
                    return Err(explain(BodyError::Timeout));
                }
                Err(_) => {
                    self.ends_at = Instant::now() + self.window;
                    self.bytes = 0;
                }
            }
        }
    }
}

fn too_large(bytes_max: usize) -> Problem {
    explain(BodyError::TooLarge { bytes_max })
}

/// What the client is told of a body that did not come to its end.
pub(super) fn explain(error: BodyError) -> Problem {
    let (status, code) = match error {
        BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "request.body_too_large"),
        BodyError::Incomplete => (StatusCode::BAD_REQUEST, "request.body_incomplete"),
        BodyError::Timeout => (StatusCode::REQUEST_TIMEOUT, "request.body_timeout"),
    };
    Problem::new(status, code, error.to_string())
}

fn full() -> Problem {
    saturated("the host holds as many bodies as it can, in all or of this client; try again")
}

fn saturated(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "host.saturated", detail).with_retry_after_s(1)
}

/// This body may not flow, and cannot be read first: its route is one for which that would be too late.
pub(super) fn too_many_flow() -> Problem {
    saturated("too many bodies flow into plugins, in all or of this client; try again")
}

/// The answer of a plugin as the listener takes it. Of one that flows, what has come already is counted like one that is
/// whole; of the rest there are no more than its pieces on the way.
pub(super) fn answer(
    shares: &Arc<Shares>,
    client: IpAddr,
    version: Version,
    answer: Response<runtime::Body>,
) -> Result<Response<Body>, Problem> {
    let (head, body) = answer.into_parts();
    match body {
        runtime::Body::Whole(bytes) => {
            hold(shares, client, version, Response::from_parts(head, bytes))
        }
        runtime::Body::Stream(mut stream) => {
            let length = stream.waiting().map(|piece| piece.len()).sum();
            if !is_short(length, version) {
                let share = take(shares, client, length)?;
                let share = Arc::new(share);
                for piece in stream.waiting() {
                    *piece = held(std::mem::take(piece), &share);
                }
            }
            Ok(Response::from_parts(head, Body::new(stream)))
        }
    }
}

/// Answers up to this are not counted over HTTP/1.1, where a connection has one at a time.
const SMALL_BYTES: usize = 16 << 10;

/// An answer that is counted until the client has taken it.
struct Held {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer as the listener takes it, if its client and the host have room for it while it waits to be sent.
fn hold(
    shares: &Arc<Shares>,
    client: IpAddr,
    version: Version,
    answer: Response<Bytes>,
) -> Result<Response<Body>, Problem> {
    let length = answer.body().len();
    if is_short(length, version) {
        return Ok(answer.map(Body::from));
    }
    let share = Arc::new(take(shares, client, length)?);
    Ok(answer.map(|bytes| Body::from(held(bytes, &share))))
}

fn is_short(length: usize, version: Version) -> bool {
    length == 0 || (length <= SMALL_BYTES && version != Version::HTTP_2)
}

fn take(shares: &Arc<Shares>, client: IpAddr, length: usize) -> Result<Share, Problem> {
    shares.take(client, length).ok_or_else(|| {
        saturated(
            "too many answers wait to be read, in all or by this client; what was asked for is \
             done, but its answer is lost",
        )
    })
}

/// These bytes, whose part of the share is theirs until they are gone.
fn held(bytes: Bytes, share: &Arc<Share>) -> Bytes {
    Bytes::from_owner(Held {
        bytes,
        _share: Arc::clone(share),
    })
}

/// The same for an answer of our own, unless it is a stream, which has bounds of its own.
pub(super) async fn hold_whole(
    shares: &Arc<Shares>,
    client: IpAddr,
    version: Version,
    answer: Response<Body>,
) -> Result<Response<Body>, Problem> {
    use hyper::body::Body as _;
    if answer.body().size_hint().exact().is_none() {
        return Ok(answer);
    }
    let (head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|error| Problem::internal(&error))?;
    hold(shares, client, version, Response::from_parts(head, bytes))
}
