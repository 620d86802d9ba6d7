//! Bodies that flow while the plugin runs: what the client and the call that serves it know of each other.
//!
//! The body of an answer belongs to the connection, the guest to a task. They share a [`Link`]: the task learns from it
//! that the client has gone, takes nothing or sends nothing, and the body learns whether its end was meant as one.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use wasmtime_wasi_http::{Error as WasiError, WasiBody};

use crate::runtime::response;

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    Whole(Bytes),
    /// Pieces that are still to come. Only plugins of `wasi:http` take them.
    Stream(BoxBody<Bytes, BodyError>),
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

/// Why the body of a request did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body of this request has at most {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the body ended before its end")]
    Incomplete,
    #[error("the body did not arrive in time")]
    Timeout,
}

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    Whole(Bytes),
    /// The plugin is still at it.
    Stream(BodyStream),
}

impl Body {
    /// Waits for all of it, where it is still being made, and gives a copy; it stays as it was. No more than `bytes_max`
    /// bytes are waited for, and no longer than until `deadline`.
    pub async fn gather(
        &mut self,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Bytes, NotGathered> {
        match self {
            Self::Whole(bytes) if bytes.len() > bytes_max => Err(NotGathered::TooLong),
            Self::Whole(bytes) => Ok(bytes.clone()),
            Self::Stream(stream) => {
                let gather = stream.gather(bytes_max);
                let gathered = tokio::time::timeout_at(deadline.into(), gather).await;
                gathered.unwrap_or(Err(NotGathered::TooSlow))
            }
        }
    }

    /// Puts another body in its place. A plugin that is still at it may finish if all it wrote was gathered.
    pub fn replace(&mut self, bytes: Bytes) {
        if let Self::Stream(stream) = self
            && stream.is_gathered
        {
            let _ = stream.end(End::Complete);
        }
        *self = Self::Whole(bytes);
    }
}

/// Why the body of an answer could not be looked at as a whole. Unless it is broken, it can still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotGathered {
    /// It has more bytes than somebody wants to look at.
    TooLong,
    /// It is not complete yet.
    TooSlow,
    /// It was cut off.
    Broken,
}

/// The body of an answer was cut off; why is in the plugin's log.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut off")]
pub struct CutOff;

/// The body of an answer, piece by piece as the plugin makes it. Dropping it ends the call.
pub struct BodyStream {
    first: VecDeque<Frame<Bytes>>,
    rest: Option<WasiBody>,
    link: Arc<Link>,
    /// What is still to come, where it is known.
    length: Option<u64>,
    bytes_left: u64,
    /// Whether nothing more will come than what is in `first`.
    is_gathered: bool,
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyStream").finish_non_exhaustive()
    }
}

impl BodyStream {
    /// What has come already, and the rest. `length` is the sum, if it is known.
    pub(super) fn new(
        first: VecDeque<Frame<Bytes>>,
        rest: WasiBody,
        length: Option<u64>,
        link: Arc<Link>,
        bytes_max: u64,
    ) -> Self {
        Self {
            first,
            rest: Some(rest),
            link,
            length,
            bytes_left: bytes_max,
            is_gathered: false,
        }
    }

    /// The pieces that have come and wait to be sent.
    pub fn waiting(&mut self) -> impl Iterator<Item = &mut Bytes> {
        self.first.iter_mut().filter_map(Frame::data_mut)
    }

    /// Takes pieces out of the rest and keeps them for later, until there are no more.
    async fn gather(&mut self, bytes_max: usize) -> Result<Bytes, NotGathered> {
        let length = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
        let mut bytes: usize = self.first.iter().map(length).sum();
        loop {
            if bytes > bytes_max {
                return Err(NotGathered::TooLong);
            }
            let Some(rest) = self.rest.as_mut().filter(|_| !self.is_gathered) else {
                break;
            };
            let link = &self.link;
            let next = poll_fn(|context| {
                let poll = http_body::Body::poll_frame(Pin::new(&mut *rest), context);
                if poll.is_pending() {
                    link.lock().taken_at = None;
                }
                poll
            });
            match next.await {
                Some(Ok(frame)) => {
                    bytes += length(&frame);
                    self.first.push_back(frame);
                }
                Some(Err(error)) => {
                    let _ = self.end(End::Broken(error.to_string()));
                    return Err(NotGathered::Broken);
                }
                None if self.link.lock().is_failed => {
                    let _ = self.end(End::Failed);
                    return Err(NotGathered::Broken);
                }
                // Still there, so that the end is told when the client has taken what was kept.
                None => {
                    self.rest = Some(Empty::new().map_err(|never| match never {}).boxed_unsync());
                    self.is_gathered = true;
                }
            }
        }
        let mut all = BytesMut::with_capacity(bytes);
        for data in self.first.iter().filter_map(Frame::data_ref) {
            all.extend_from_slice(data);
        }
        Ok(all.freeze())
    }

    fn end(&mut self, end: End) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        self.rest = None;
        self.first.clear();
        let is_whole = end == End::Complete;
        self.link.end(end);
        Poll::Ready(if is_whole { None } else { Some(Err(CutOff)) })
    }

    fn hand_out(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let mut trailers = frame.into_trailers().unwrap_or_default();
                response::remove_what_is_the_hosts(&mut trailers);
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        };
        let bytes = data.len() as u64;
        let Some(left) = self.bytes_left.checked_sub(bytes) else {
            return self.end(End::TooLong);
        };
        self.bytes_left = left;
        self.length = self.length.map(|length| length.saturating_sub(bytes));
        self.link.lock().taken(bytes);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl http_body::Body for BodyStream {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        if let Some(frame) = self.first.pop_front() {
            return self.hand_out(frame);
        }
        let Some(rest) = self.rest.as_mut() else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(rest).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                self.link.lock().taken_at = None;
                return Poll::Pending;
            }
        };
        match frame {
            Some(Ok(frame)) => self.hand_out(frame),
            Some(Err(error)) => self.end(End::Broken(error.to_string())),
            // A guest that was stopped leaves a body that looks as if it had ended.
            None if self.link.lock().is_failed => self.end(End::Failed),
            None => self.end(End::Complete),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.first.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

impl Drop for BodyStream {
    fn drop(&mut self) {
        if self.rest.take().is_some() {
            self.link.end(End::Gone);
        }
    }
}

/// How the body of an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    /// The client went away.
    Gone,
    /// More bytes than a stream may have.
    TooLong,
    /// The guest took it back, or wrote another length than it declared.
    Broken(String),
    /// The call failed first.
    Failed,
}

/// What one call and its two bodies know of each other.
#[derive(Debug)]
pub(super) struct Link(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    /// How the body of the answer ended, once it has.
    pub(super) end: Option<End>,
    /// Why the body of the request broke off, if it did.
    pub(super) request_error: Option<BodyError>,
    /// When the client took a piece of the answer, unless it has asked for the next one since.
    pub(super) taken_at: Option<Instant>,
    /// Since when the guest waits for a piece of the request, if it does.
    pub(super) asked_at: Option<Instant>,
    /// When the last piece of the request came.
    pub(super) came_at: Instant,
    /// Bytes of the answer that were taken.
    pub(super) bytes: u64,
    /// Whether the client was given the head of the answer.
    pub(super) has_head: bool,
    is_failed: bool,
    waker: Option<Waker>,
}

impl State {
    fn taken(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.taken_at = Some(Instant::now());
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Wakes this task when something ends.
    pub(super) fn listen(&mut self, context: &Context<'_>) {
        self.waker = Some(context.waker().clone());
    }
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            end: None,
            request_error: None,
            taken_at: None,
            asked_at: None,
            came_at: now,
            bytes: 0,
            has_head: false,
            is_failed: false,
            waker: None,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        state.end.get_or_insert(end);
        state.taken_at = None;
        state.wake();
    }

    /// The call has failed. Must come before what the guest holds is dropped.
    pub(super) fn fail(&self) {
        self.lock().is_failed = true;
    }

    /// The body of a request as the guest takes it. What goes wrong with it is told to the call, too.
    pub(super) fn watch(self: &Arc<Self>, body: BoxBody<Bytes, BodyError>) -> WasiBody {
        Watched {
            body,
            link: Arc::clone(self),
        }
        .boxed_unsync()
    }
}

/// The body of a request on its way to the guest.
struct Watched {
    body: BoxBody<Bytes, BodyError>,
    link: Arc<Link>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = WasiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WasiError>>> {
        let poll = Pin::new(&mut self.body).poll_frame(context);
        let now = Instant::now();
        let mut state = self.link.lock();
        if poll.is_pending() {
            state.asked_at.get_or_insert(now);
        } else {
            state.asked_at = None;
            state.came_at = now;
        }
        let frame = ready!(poll);
        if let Some(Err(error)) = &frame {
            state.request_error = Some(*error);
        }
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|error| match error {
                BodyError::TooLarge { bytes_max } => {
                    WasiError::HttpRequestBodySize(Some(bytes_max as u64))
                }
                BodyError::Incomplete => WasiError::ConnectionTerminated,
                BodyError::Timeout => WasiError::ConnectionReadTimeout,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.link.lock().asked_at = None;
    }
}
