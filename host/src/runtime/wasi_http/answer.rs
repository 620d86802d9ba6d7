//! One call of a `wasi:http` guest from its start to the end of its answer: the guest runs, its answer is collected for as
//! long as it comes without a pause and handed to the client piece by piece from then on, and a watch ends both when time
//! is over or the client is gone.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::{Body as _, Frame};
use tokio::{sync::oneshot, time::sleep_until};
use wasmtime_wasi_http::WasiBody;

use super::{Head, request, v02, v03, whole};
use crate::runtime::call::{Failure, Prepared, SHORT, Times};
use crate::runtime::cpu::Stop;
use crate::runtime::invoke::Ended;
use crate::runtime::limit::OwnPlace;
use crate::runtime::plugin::Entry;
use crate::runtime::stream::{BodyError, BodyStream, End, Link, RequestBody, State};
use crate::runtime::{Config, Fault, HttpCall, InvokeError, LoadedPlugin, Usage, response};

/// How fast a call must come to its end.
pub(in crate::runtime) struct Pace {
    pub(in crate::runtime) times: Times,
    /// Longest time from the last piece of the request to the head of the answer, if it is bounded by itself.
    pub(in crate::runtime) head: Option<Duration>,
    /// Longest time in which a client neither sends nor takes what the guest waits for.
    pub(in crate::runtime) client_idle: Duration,
}

/// What a call has come to.
pub(in crate::runtime) struct Finished {
    /// Nothing if the answer was handed over while the guest ran.
    pub(in crate::runtime) answer: Option<Result<http::Response<Bytes>, InvokeError>>,
    pub(in crate::runtime) ended: Ended,
}

/// Runs the guest. An answer that is not complete at the first pause comes out of `began`; then this must be driven on in
/// a task of its own until it ends.
pub(in crate::runtime) async fn drive(
    plugin: Arc<LoadedPlugin>,
    prepared: Prepared,
    pace: Pace,
    places: (OwnPlace, OwnPlace),
    mut call: HttpCall,
    began: oneshot::Sender<http::Response<BodyStream>>,
) -> Finished {
    let Prepared {
        ready,
        clock,
        allowance,
        times,
    } = prepared;
    let (mut store, config) = (ready.store, &plugin.config);
    let link = Arc::new(Link::new(times.began));
    let mut guard = Guard(Some(Arc::clone(&link)));
    let flows = matches!(call.body, RequestBody::Stream(_));
    let body = match std::mem::replace(&mut call.body, RequestBody::Whole(Bytes::new())) {
        RequestBody::Whole(bytes) => whole(bytes),
        RequestBody::Stream(body) => link.watch(body),
    };
    let (sender, receiver) = oneshot::channel();
    let mut answer = Answer {
        part: Part::Waiting(receiver),
        began: Some(began),
        link: Arc::clone(&link),
        config: Arc::clone(config),
    };
    let headers = store.data().call.headers.clone();
    let result = {
        let guest = async {
            let request = request(&call, body, headers)?;
            match &plugin.entry {
                Entry::WasiHttp02 { pre } => v02::run(pre, &mut store, request, sender).await,
                Entry::WasiHttp03 { pre } => {
                    v03::run(pre, &mut store, request, sender, config.handles_max).await
                }
                Entry::Handler { .. }
                | Entry::Transform { .. }
                | Entry::Extism { .. }
                | Entry::Filter { .. } => Err(Failure::Wasmtime(wasmtime::format_err!(
                    "this plugin has no export of wasi:http"
                ))),
            }
        };
        let mut guest = pin!(guest);
        let both = pin!(poll_fn(
            |context| answer.poll_beside(guest.as_mut(), context)
        ));
        let result = tokio::select! {
            biased;
            result = clock.timed(both) => result,
            result = watch(&link, &pace, flows, false) => result,
            failure = replaced(&plugin, &times) => Err(failure),
        };
        if result.is_err() {
            link.fail();
        }
        result
    };
    let memory_bytes = store.data().memory.peak_bytes();
    let has_refused = store.data().memory.has_refused();
    let log = store.data().log.clone();
    // What the guest left open nobody can finish any more; what it has written stays readable.
    clock.work(|| drop(store));
    drop(places);
    allowance.note_memory(memory_bytes);
    let usage = Usage {
        cpu: allowance.cpu_used(),
        memory_bytes,
    };
    let result = match result {
        Ok(()) => tokio::select! {
            biased;
            result = answer.finish(&pace) => result,
            failure = replaced(&plugin, &times) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    let result = result.map_err(|failure| {
        link.fail();
        let wall = match (pace.head, link.lock().has_head) {
            (Some(head), false) => head.min(times.wall()),
            _ => times.wall(),
        };
        failure.explain(&plugin.spec, has_refused, times.cpu, wall)
    });
    guard.0 = None;
    if let Err(error) = &result
        && error.fault() == Fault::Plugin
    {
        // The client learns only that it failed; the author finds here why.
        log.write_verdict(&error.to_string());
    }
    let is_streamed = answer.began.is_none();
    let (answer, result) = match result {
        Ok(whole) => (whole.map(Ok), Ok(())),
        Err(error) if is_streamed => (None, Err(error)),
        Err(error) => (Some(Err(error)), Ok(())),
    };
    let bytes = link.lock().bytes;
    Finished {
        answer,
        ended: Ended {
            result,
            usage,
            bytes,
        },
    }
}

/// Tells the body of the answer that the call has failed, however it is dropped: what is left of the body looks as if it
/// had ended.
struct Guard(Option<Arc<Link>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.fail();
        }
    }
}

/// The answer on its way from the guest.
struct Answer {
    part: Part,
    /// Where a head goes whose body flows; nothing once it went.
    began: Option<oneshot::Sender<http::Response<BodyStream>>>,
    link: Arc<Link>,
    config: Arc<Config>,
}

enum Part {
    Waiting(oneshot::Receiver<Head>),
    Collecting(Collected),
    /// Nothing to do any more: the client has the body.
    HandedOver,
}

struct Collected {
    head: http::Response<()>,
    /// What the guest declared.
    length: Option<u64>,
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    body: WasiBody,
    is_complete: bool,
}

impl Answer {
    /// Lets guest and answer go on in turn until the guest has ended. At its first pause, what there is of the answer is
    /// handed over.
    fn poll_beside(
        &mut self,
        mut guest: Pin<&mut impl Future<Output = Result<(), Failure>>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            // First, because a guest that traps leaves no answer behind, or half of one; the trap is the reason to report.
            if let Poll::Ready(result) = guest.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            if !self.advance(context)? {
                self.hand_over();
                return Poll::Pending;
            }
        }
    }

    /// What is left when the guest has ended: the rest of what it has written, or of what the answer passes on without it.
    async fn finish(&mut self, pace: &Pace) -> Result<Option<http::Response<Bytes>>, Failure> {
        poll_fn(|context| {
            while self.advance(context)? {}
            Poll::Ready(Ok::<_, Failure>(()))
        })
        .await?;
        match std::mem::replace(&mut self.part, Part::HandedOver) {
            Part::Waiting(_) => {
                return Err(Failure::InvalidResponse(
                    "it never set a response".to_owned(),
                ));
            }
            Part::Collecting(collected) if collected.is_plain() => {
                return collected.into_whole(&self.config).map(Some);
            }
            part => self.part = part,
        }
        self.hand_over();
        watch(&self.link, pace, true, true).await.map(|()| None)
    }

    /// Takes what has come. Whether there was something.
    fn advance(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        if self.began.is_some()
            && let Some(error) = self.link.lock().request_error
        {
            // The guest may take it for the end of the body, and answer.
            return Err(Failure::RequestBody(error));
        }
        let error = |reason: String| Failure::InvalidResponse(reason);
        match &mut self.part {
            Part::Waiting(receiver) => {
                let Poll::Ready(Ok(head)) = Pin::new(receiver).poll(context) else {
                    return Ok(false);
                };
                let head = head.map_err(|code| error(format!("it set the error {code}")))?;
                let (head, body) = head.into_parts();
                let length = content_length(&head.headers);
                let head = response::check_head(head.status.as_u16(), head.headers, &self.config);
                self.part = Part::Collecting(Collected {
                    head: head.map_err(error)?,
                    length,
                    frames: VecDeque::new(),
                    bytes: 0,
                    body,
                    is_complete: false,
                });
                Ok(true)
            }
            Part::Collecting(collected)
                if collected.is_complete || collected.bytes > self.config.stream_above_bytes =>
            {
                Ok(false)
            }
            Part::Collecting(collected) => {
                let Poll::Ready(frame) = Pin::new(&mut collected.body).poll_frame(context) else {
                    return Ok(false);
                };
                match frame.transpose() {
                    Ok(Some(frame)) => {
                        collected.bytes += frame.data_ref().map_or(0, Bytes::len);
                        collected.frames.push_back(frame);
                    }
                    Ok(None) => collected.is_complete = true,
                    Err(cause) => {
                        return Err(error(format!("its body could not be read: {cause}")));
                    }
                }
                Ok(true)
            }
            Part::HandedOver => Ok(false),
        }
    }

    /// Gives the client what there is, if the guest has begun to answer. From here on the client asks for the rest.
    fn hand_over(&mut self) {
        if !matches!(self.part, Part::Collecting(_)) {
            return;
        }
        let part = std::mem::replace(&mut self.part, Part::HandedOver);
        let (Part::Collecting(collected), Some(began)) = (part, self.began.take()) else {
            return;
        };
        self.link.lock().has_head = true;
        let length = match collected.is_complete {
            true => Some(collected.bytes as u64),
            false => collected.length,
        };
        let body = BodyStream::new(
            collected.frames,
            collected.body,
            length,
            Arc::clone(&self.link),
            self.config.stream_bytes_max,
        );
        // Who dropped the receiver dropped this, too.
        let _ = began.send(collected.head.map(|()| body));
    }
}

impl Collected {
    /// Whether nothing is missing that a whole body could not carry.
    fn is_plain(&self) -> bool {
        self.is_complete && self.frames.iter().all(Frame::is_data)
    }

    fn into_whole(self, config: &Config) -> Result<http::Response<Bytes>, Failure> {
        response::check_length(self.bytes, config).map_err(Failure::InvalidResponse)?;
        let mut pieces = self
            .frames
            .into_iter()
            .filter_map(|frame| frame.into_data().ok());
        let first = pieces.next().unwrap_or_default();
        // Most bodies come in one piece, which then needs no copy.
        let body = if first.len() == self.bytes {
            first
        } else {
            let mut all = BytesMut::with_capacity(self.bytes);
            all.extend_from_slice(&first);
            pieces.for_each(|piece| all.extend_from_slice(&piece));
            all.freeze()
        };
        Ok(self.head.map(|()| body))
    }
}

/// The length that the guest declares, if it does so in one way.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = values.next()?.to_str().ok()?.parse().ok()?;
    values.next().is_none().then_some(length)
}

/// Ends with the reason when the call must not go on; with nothing when the answer is complete and the guest has ended.
async fn watch(
    link: &Link,
    pace: &Pace,
    flows: bool,
    guest_has_ended: bool,
) -> Result<(), Failure> {
    let mut timer = pin!(sleep_until(pace.times.deadline.into()));
    poll_fn(|context| {
        loop {
            let now = Instant::now();
            let next = {
                let mut state = link.lock();
                state.listen(context);
                if guest_has_ended && state.end == Some(End::Complete) {
                    return Poll::Ready(Ok(()));
                }
                pace.check(&state, flows, now)
            };
            match next {
                Ok(next) if next != timer.deadline().into_std() => {
                    timer.as_mut().reset(next.into());
                }
                Ok(_) => {}
                Err(failure) => return Poll::Ready(Err(failure)),
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Waits until another version has taken the plugin's place for long enough. The first moments do without it.
async fn replaced(plugin: &LoadedPlugin, times: &Times) -> Failure {
    sleep_until((times.began + SHORT).into()).await;
    plugin.retired.cancelled().await;
    Failure::Stopped(Stop::Retired)
}

impl Pace {
    /// When to look again, or why the call must not go on.
    fn check(&self, state: &State, flows: bool, now: Instant) -> Result<Instant, Failure> {
        match &state.end {
            Some(End::Gone) => return Err(Failure::ClientGone),
            Some(End::TooLong) => {
                let reason = "its body has more bytes than a stream may have";
                return Err(Failure::InvalidResponse(reason.to_owned()));
            }
            Some(End::Broken(reason)) => {
                let reason = format!("its body broke off: {reason}");
                return Err(Failure::InvalidResponse(reason));
            }
            Some(End::Complete | End::Failed) | None => {}
        }
        if now >= self.times.deadline {
            // Who waits for the client when time is up, for a piece of the request or for a piece of the answer to be
            // taken, is not late by its own doing.
            return Err(match state.asked_at.or(state.taken_at) {
                Some(_) => late_client(state),
                None => Failure::Stopped(Stop::Deadline),
            });
        }
        let mut next = self.times.deadline;
        if let Some(head) = self.head
            && !state.has_head
            && state.asked_at.is_none()
        {
            let head = state.came_at + head;
            if now >= head {
                return Err(Failure::Stopped(Stop::Deadline));
            }
            next = next.min(head);
        }
        if !flows && !state.has_head {
            return Ok(next);
        }
        let mut since = [state.taken_at, state.asked_at].into_iter().flatten();
        if since.any(|since| now >= since + self.client_idle) {
            return Err(late_client(state));
        }
        let waiting = [state.taken_at, state.asked_at].into_iter().flatten().min();
        Ok(next.min(waiting.unwrap_or(now) + self.client_idle))
    }
}

/// The client took too long, and not the guest.
fn late_client(state: &State) -> Failure {
    match state.has_head {
        true => Failure::ClientGone,
        false => Failure::RequestBody(BodyError::Timeout),
    }
}
