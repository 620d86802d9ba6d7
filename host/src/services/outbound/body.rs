//! The body of an answer: counted as it comes, and cut off at its limits.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use super::{lane::Lane, mask::Mask};
use crate::services::{Allowance, Error, Held, Kind, Service};

/// What bounds a body.
pub(super) struct Limits {
    pub(super) until: Instant,
    /// Between two pieces.
    pub(super) pause: Duration,
    pub(super) bytes_max: u64,
    /// What the call may still receive.
    pub(super) budget: Arc<AtomicU64>,
}

/// What a body keeps from others until it is dropped.
pub(super) struct Kept {
    pub(super) lane: Arc<Lane>,
    #[expect(dead_code, reason = "gives the place back when it is dropped")]
    pub(super) place: OwnedSemaphorePermit,
    #[expect(dead_code, reason = "gives the memory back when it is dropped")]
    pub(super) held: Held,
    /// The call that reads it.
    pub(super) allowance: Allowance,
}

/// A body that is read while it comes. It holds the plugin's place among the requests in flight until it is dropped.
pub struct Body {
    inner: reqwest::Body,
    limits: Limits,
    mask: Mask,
    kept: Kept,
    timer: Pin<Box<Sleep>>,
    /// Since when its reader waits for the next piece, if it does.
    waits_since: Option<Instant>,
    is_done: bool,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("bytes_left", &self.limits.bytes_max)
            .finish_non_exhaustive()
    }
}

impl Body {
    pub(super) fn new(inner: reqwest::Body, limits: Limits, mask: Mask, kept: Kept) -> Self {
        let timer = Box::pin(sleep_until(limits.next_until()));
        Self {
            inner,
            limits,
            mask,
            kept,
            timer,
            waits_since: None,
            is_done: false,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        let bytes = bytes as u64;
        self.kept.allowance.count_bytes(0, bytes);
        let left = self.limits.bytes_max.checked_sub(bytes);
        self.limits.bytes_max = left.ok_or_else(too_large)?;
        let take = |left: u64| left.checked_sub(bytes);
        let order = Ordering::Relaxed;
        let taken = self.limits.budget.fetch_update(order, order, take);
        taken.map_err(|_| super::exhausted())?;
        self.kept.lane.count_bytes(bytes)
    }
}

impl Limits {
    /// When the next piece must be there.
    fn next_until(&self) -> Instant {
        self.until.min(Instant::now() + self.pause)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if self.is_done {
                return Poll::Ready(self.mask.rest().map(|rest| Ok(Frame::data(rest))));
            }
            let result = match Pin::new(&mut self.inner).poll_frame(context) {
                // Trailers do not pass.
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => self.count(piece.len()).map(|()| piece),
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(error))) => Err(super::explain(&error)),
                Poll::Ready(None) => {
                    self.is_done = true;
                    continue;
                }
                Poll::Pending => match self.timer.as_mut().poll(context) {
                    Poll::Ready(()) => Err(timeout()),
                    Poll::Pending => {
                        self.waits_since.get_or_insert_with(Instant::now);
                        return Poll::Pending;
                    }
                },
            };
            if let Some(since) = self.waits_since.take() {
                let allowance = &self.kept.allowance;
                allowance.add_time(Service::Outbound, since.elapsed());
            }
            match result {
                Ok(piece) => {
                    let until = self.limits.next_until();
                    self.timer.as_mut().reset(until);
                    let piece = self.mask.next(piece);
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    }
                }
                Err(error) => {
                    self.is_done = true;
                    // Closes the connection, so that nothing more of it comes.
                    self.inner = reqwest::Body::default();
                    self.mask = Mask::default();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        (self.is_done || self.inner.is_end_stream()) && self.mask.kept_bytes() == 0
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, kept) = (self.inner.size_hint(), self.mask.kept_bytes());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + kept);
        }
        hint.set_lower(hint.lower() + kept);
        hint
    }
}

pub(super) fn too_large() -> Error {
    Error::limit(
        "outbound.response_too_large",
        "the answer is larger than allowed",
    )
}

pub(super) fn timeout() -> Error {
    Error::new(
        Kind::Timeout,
        "outbound.timeout",
        "the other side took longer than it may",
    )
}
