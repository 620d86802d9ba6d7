//! One connection as its bounds see it: whether it has sent a request, whether it takes its answers, since when nothing
//! moved. Counted with atomics by whoever reads and writes; nobody waits for anybody.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use crate::http::refusal;

/// Longest times without progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// For the first request to come. The HTTP library counts only from the first bytes on, and not at all for HTTP/2.
    pub(super) first: Duration,
    /// Without a request.
    pub(super) idle: Duration,
    /// While the client takes nothing of what there is for it.
    pub(super) write: Duration,
    /// For the rest of a body that nobody reads any more.
    pub(super) rest: Duration,
    /// Bytes of it.
    pub(super) rest_bytes: u64,
}

/// What a connection has not done for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// It sent no request at all.
    Request,
    /// It took nothing of its answers.
    Reading,
    /// It sent no further request.
    FurtherRequest,
}

/// What a connection is doing.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    began: Instant,
    /// When something moved last, in milliseconds after `began`.
    moved_ms: AtomicU64,
    has_begun: AtomicBool,
    /// Requests that are being answered, to the end of the answer's body.
    in_progress: AtomicUsize,
    /// Bodies of which the client has not asked for more, as far as the HTTP library tells.
    untaken: AtomicUsize,
    /// Whether all of the answers so far has gone to the system.
    is_flushed: AtomicBool,
    /// Whether the system takes no more bytes, because the client does not.
    is_blocked: AtomicBool,
    /// Whether the last request has a body, of which some may still be on its way.
    has_body: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Counts {
            began: Instant::now(),
            moved_ms: AtomicU64::new(0),
            has_begun: AtomicBool::new(false),
            in_progress: AtomicUsize::new(0),
            untaken: AtomicUsize::new(0),
            is_flushed: AtomicBool::new(true),
            is_blocked: AtomicBool::new(false),
            has_body: AtomicBool::new(false),
        }))
    }

    /// A request begins, perhaps with a body behind it.
    pub(super) fn enter(&self, has_body: bool) -> InProgress {
        self.0.in_progress.fetch_add(1, Relaxed);
        self.0.has_begun.store(true, Relaxed);
        self.0.has_body.store(has_body, Relaxed);
        InProgress(self.clone())
    }

    /// Whether there is nothing that could be an answer of ours.
    fn has_no_answers(&self) -> bool {
        self.0.in_progress.load(Relaxed) == 0 && self.0.is_flushed.load(Relaxed)
    }

    fn moved(&self) {
        let ms = self.0.began.elapsed().as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        self.0.moved_ms.store(ms, Relaxed);
    }

    /// What will be overdue, and when, if nothing moves until then. `is_ending` is a connection that was already told to
    /// end for want of requests.
    pub(super) fn due(&self, bounds: &Bounds, is_ending: bool) -> Option<(Instant, Overdue)> {
        let counts = &*self.0;
        let moved_at = counts.began + Duration::from_millis(counts.moved_ms.load(Relaxed));
        let is_blocked = counts.is_blocked.load(Relaxed) || counts.untaken.load(Relaxed) > 0;
        if is_blocked {
            Some((moved_at + bounds.write, Overdue::Reading))
        } else if !counts.has_begun.load(Relaxed) {
            Some((counts.began + bounds.first, Overdue::Request))
        } else if counts.in_progress.load(Relaxed) > 0 {
            // Requests have bounds of their own.
            None
        } else if is_ending {
            // What is left of an answer in the library's buffers still goes out.
            let at = moved_at + bounds.idle + bounds.write;
            Some((at, Overdue::Reading))
        } else {
            Some((moved_at + bounds.idle, Overdue::FurtherRequest))
        }
    }
}

/// A request in progress, for as long as it lives.
#[derive(Debug)]
pub(super) struct InProgress(Activity);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.0.is_flushed.store(false, Relaxed);
        self.0.0.in_progress.fetch_sub(1, Relaxed);
        self.0.moved();
    }
}

/// Bytes of a body that the HTTP library gets at once. It asks for more when the client has taken some, which is how a
/// client that takes nothing is seen.
const PIECE_BYTES: usize = 64 << 10;

/// The body of an answer on its way to the client.
pub(super) struct Outgoing {
    body: Body,
    /// What is left of the body's last frame.
    rest: Bytes,
    /// Whether it is the client's turn; otherwise it is that of whoever makes the body.
    is_untaken: bool,
    request: InProgress,
}

impl Outgoing {
    pub(super) fn new(body: Body, request: InProgress) -> Self {
        let mut outgoing = Self {
            body,
            rest: Bytes::new(),
            is_untaken: false,
            request,
        };
        outgoing.set_untaken(true);
        outgoing
    }

    fn set_untaken(&mut self, is_untaken: bool) {
        let activity = &self.request.0;
        if is_untaken {
            activity.moved();
        }
        if self.is_untaken != is_untaken {
            self.is_untaken = is_untaken;
            if is_untaken {
                activity.0.untaken.fetch_add(1, Relaxed);
            } else {
                activity.0.untaken.fetch_sub(1, Relaxed);
            }
        }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        self.set_untaken(true);
        if self.rest.len() <= PIECE_BYTES {
            Frame::data(std::mem::take(&mut self.rest))
        } else {
            Frame::data(self.rest.split_to(PIECE_BYTES))
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let outgoing = &mut *self;
        if !outgoing.rest.is_empty() {
            return Poll::Ready(Some(Ok(outgoing.piece())));
        }
        let polled = Pin::new(&mut outgoing.body).poll_frame(cx);
        if polled.is_pending() {
            outgoing.set_untaken(false);
        }
        let Some(frame) = ready!(polled) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(frame.map(|frame| match frame.into_data() {
            Ok(data) => {
                outgoing.rest = data;
                outgoing.piece()
            }
            Err(trailers) => trailers,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if rest > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + rest);
            }
            hint.set_lower(hint.lower() + rest);
        }
        hint
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.set_untaken(false);
    }
}

/// Writes below this are not progress by themselves: a client can have them made without taking any answer.
const SMALL_BYTES: usize = 1 << 10;

/// A connection to a client, which tells whether the client takes what is sent.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    activity: Activity,
    /// What is left of a refusal that goes out in place of the HTTP library's own.
    refusal: Bytes,
    end: End,
}

/// How far a connection is on its way to being closed.
#[derive(Debug)]
enum End {
    /// It is not. Then how long, and for how many bytes, what still comes will be taken.
    No(Duration, u64),
    /// The client has all that it will get; until then, and for so many bytes, what it sends is taken.
    Rest(Pin<Box<Sleep>>, u64),
    Done,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, activity: Activity, bounds: &Bounds) -> Self {
        Self {
            stream,
            activity,
            refusal: Bytes::new(),
            end: End::No(bounds.rest, bounds.rest_bytes),
        }
    }

    /// Takes what a client still sends after its answer, to its end or a bound. Closing a connection while bytes of the
    /// client wait resets it, and the client loses an answer that it has not read yet (RFC 9112, section 9.6).
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let End::Rest(until, left) = &mut self.end else {
            return Poll::Ready(());
        };
        let mut bytes = [0; 8 << 10];
        while *left > 0 && until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len() as u64);
                }
                Ok(()) | Err(_) => break,
            }
        }
        self.end = End::Done;
        Poll::Ready(())
    }

    /// Takes what the HTTP library writes while nothing was asked: the refusal of what it could not read.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(refusal::BEGIN) || !self.activity.has_no_answers() {
            return false;
        }
        match refusal::of_head(bytes) {
            Some(refusal) => {
                self.refusal = refusal;
                true
            }
            None => false,
        }
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.refusal.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.refusal);
            match ready!(self.watch(written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.refusal.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn watch(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let is_blocked = &self.activity.0.is_blocked;
        match &written {
            Poll::Pending => {
                if !is_blocked.swap(true, Relaxed) {
                    self.activity.moved();
                }
            }
            Poll::Ready(Ok(bytes)) => {
                if is_blocked.load(Relaxed) {
                    is_blocked.store(false, Relaxed);
                    self.activity.moved();
                } else if *bytes >= SMALL_BYTES {
                    self.activity.moved();
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A refusal is a head and nothing else.
        if let [head] = slices
            && self.replaces(head)
        {
            return Poll::Ready(Ok(head.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        // The library flushes when all that it had is written.
        self.activity.0.is_flushed.store(true, Relaxed);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        if let End::No(time, bytes) = self.end {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.end = match self.activity.0.has_body.load(Relaxed) {
                true => End::Rest(Box::pin(sleep_until(Instant::now() + time)), bytes),
                false => End::Done,
            };
        }
        self.poll_rest(cx).map(Ok)
    }
}
