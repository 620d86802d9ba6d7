//! The body of an answer: counted as it comes, and cut off at its limits.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use crate::services::{Error, Held, Kind};

/// A body that is read while it comes. It holds the plugin's place among the requests in flight until it is dropped.
pub struct Body {
    inner: reqwest::Body,
    timer: Pin<Box<Sleep>>,
    bytes_left: u64,
    budget: Arc<AtomicU64>,
    is_done: bool,
    _place: (OwnedSemaphorePermit, Held),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("bytes_left", &self.bytes_left)
            .finish_non_exhaustive()
    }
}

impl Body {
    pub(super) fn new(
        inner: reqwest::Body,
        until: Instant,
        bytes_max: u64,
        budget: Arc<AtomicU64>,
        place: (OwnedSemaphorePermit, Held),
    ) -> Self {
        let timer = Box::pin(sleep_until(until));
        Self {
            inner,
            timer,
            bytes_left: bytes_max,
            budget,
            is_done: false,
            _place: place,
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        let bytes = bytes as u64;
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(too_large)?;
        let take = |left: u64| left.checked_sub(bytes);
        let order = Ordering::Relaxed;
        self.budget
            .fetch_update(order, order, take)
            .map(drop)
            .map_err(|_| super::exhausted())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let result = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.count(bytes).map(|()| frame)
            }
            Poll::Ready(Some(Err(error))) => Err(super::explain(&error)),
            Poll::Ready(None) => {
                self.is_done = true;
                return Poll::Ready(None);
            }
            Poll::Pending => match self.timer.as_mut().poll(context) {
                Poll::Ready(()) => Err(timeout()),
                Poll::Pending => return Poll::Pending,
            },
        };
        if result.is_err() {
            self.is_done = true;
            // Closes the connection, so that nothing more of it comes.
            self.inner = reqwest::Body::default();
        }
        Poll::Ready(Some(result))
    }

    fn is_end_stream(&self) -> bool {
        self.is_done || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
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
