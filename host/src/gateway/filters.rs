//! One request on its way through the filters of its route, in and out again. Which filters these are was decided when the
//! table of live plugins was made.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use smallvec::SmallVec;

use crate::gateway::body::ReadBody;
use crate::gateway::dispatch::name_of_caller;
use crate::gateway::layers::Arrival;
use crate::gateway::{State, response};
use crate::http::Problem;
use crate::ids::{PluginName, RequestId};
use crate::plugins::filters::{Chain, Filter, OnFailure, Step};
use crate::plugins::registry::LivePlugin;
use crate::plugins::rollout::Choice;
use crate::plugins::routes::below;
use crate::runtime::{
    self, CallContext, Changes, Direction, Fault, Filtered, HttpCall, InvokeError, Message,
    NotGathered, RequestBody, Verdict,
};
use crate::services::{Account, Kind};

/// A request among its filters.
pub(super) struct Passage<'a> {
    state: &'a State,
    client: IpAddr,
    id: RequestId,
    /// Whose route it is.
    plugin: &'a LivePlugin,
    chain: &'a Chain,
    /// Which version of each filter the request meets, on its way in and out.
    versions: Versions<'a>,
    /// What the route leaves of a request's body, in bytes.
    body_bytes_max: usize,
    /// How many filters have let the request pass. These see the answer.
    passed: usize,
    /// The request as it came out; only kept if there is a filter that is told.
    context: Option<CallContext>,
}

type Versions<'a> = SmallVec<[Option<Choice<'a>>; 4]>;

/// What becomes of a request that has met its filters.
pub(super) enum Way {
    /// On to the plugin.
    On(Box<(CallContext, HttpCall)>),
    /// A filter has answered.
    Answered(Response<runtime::Body>),
}

/// Why a filter did not do its work.
enum Failure {
    /// It is not live.
    Missing,
    Invoke(InvokeError),
    /// It does not look at so long an answer, or the answer is not complete in time.
    Body(NotGathered),
}

/// What one filter made of a message.
enum Made {
    /// It goes on.
    Passed,
    /// This takes its place.
    Answer(Response<runtime::Body>),
    Failed(Failure),
}

impl From<InvokeError> for Made {
    fn from(error: InvokeError) -> Self {
        Self::Failed(Failure::Invoke(error))
    }
}

impl<'a> Passage<'a> {
    pub(super) fn new(
        state: &'a State,
        arrival: Arrival,
        plugin: &'a LivePlugin,
        chain: &'a Chain,
        context: &CallContext,
        body_bytes_max: usize,
    ) -> Self {
        let (headers, rollout) = (&context.headers, state.registry.rollout());
        let caller = || name_of_caller(context.principal.as_deref(), arrival.client);
        let choose = |step: &'a Arc<Step>| match &step.filter {
            Filter::Plugin {
                slot: Some(slot), ..
            } => Some(slot.choose(headers, rollout, caller)),
            _ => None,
        };
        Self {
            state,
            client: arrival.client,
            id: arrival.id,
            plugin,
            versions: chain.steps.iter().map(choose).collect(),
            chain,
            body_bytes_max,
            passed: 0,
            context: None,
        }
    }

    /// Shows the request to the filters, outermost first, until one answers. `held` is the body that was read.
    pub(super) async fn before(
        &mut self,
        mut context: CallContext,
        mut call: HttpCall,
        mut held: Option<&mut ReadBody>,
    ) -> Way {
        let mut answer = None;
        for index in 0..self.chain.steps.len() {
            let step = &*self.chain.steps[index];
            let made;
            (context, made) = self.show(index, context, &mut call, &mut held).await;
            answer = match made {
                Made::Passed => None,
                Made::Answer(answer) => Some(answer),
                Made::Failed(failure) => self.fail(step, Direction::Request, &failure),
            };
            if answer.is_some() {
                break;
            }
            self.passed += 1;
        }
        match answer {
            Some(answer) => {
                self.context = Some(context);
                Way::Answered(answer)
            }
            None => {
                self.context = self.chain.shows_answers.then(|| context.clone());
                Way::On(Box::new((context, call)))
            }
        }
    }

    /// Shows an answer to the filters that the request has passed, innermost first.
    pub(super) async fn after(
        mut self,
        mut answer: Response<runtime::Body>,
    ) -> Response<runtime::Body> {
        for index in (0..self.passed).rev() {
            let step = &*self.chain.steps[index];
            let made;
            (answer, made) = self.show_answer(index, answer).await;
            let other = match made {
                Made::Passed => None,
                Made::Answer(other) => Some(other),
                Made::Failed(failure) => self.fail(step, Direction::Response, &failure),
            };
            answer = other.unwrap_or(answer);
        }
        answer
    }

    async fn show(
        &self,
        index: usize,
        mut context: CallContext,
        call: &mut HttpCall,
        held: &mut Option<&mut ReadBody>,
    ) -> (CallContext, Made) {
        const IN: Direction = Direction::Request;
        let step = &*self.chain.steps[index];
        let (choice, account) = match &step.filter {
            Filter::Native(native) => {
                if native.filters(IN) {
                    let began = Instant::now();
                    native.before(&mut context.headers);
                    step.metrics.count_call(IN, began.elapsed());
                }
                return (context, Made::Passed);
            }
            Filter::Plugin {
                accounts: [account, _],
                ..
            } => match &self.versions[index] {
                Some(choice) => (choice, account),
                None => return (context, Made::Failed(Failure::Missing)),
            },
        };
        let live = choice.plugin;
        if !live.loaded.filters(IN) {
            return (context, Made::Passed);
        }
        let is_shown = live.filtered_bytes_max(IN).is_some();
        let body = match &call.body {
            RequestBody::Whole(bytes) if is_shown => bytes.clone(),
            _ => Bytes::new(),
        };
        // As the route was chosen, so that a letter that is encoded without need does not lead past a filter.
        let path = below(call.uri.path(), call.mount_length);
        let message = Message::Request {
            method: call.method.clone(),
            path: path.into_owned(),
            query: call.uri.query().unwrap_or_default().to_owned(),
            body,
        };
        let filtered = self.call(step, choice, account, context, message).await;
        let mut context = filtered.context;
        let made = match filtered.result {
            Err(error) => error.into(),
            Ok(Verdict::Respond(answer)) => Made::Answer(answer.map(runtime::Body::Whole)),
            Ok(Verdict::Next(changes)) => self.change(changes, is_shown, &mut context, call, held),
        };
        (context, made)
    }

    async fn call(
        &self,
        step: &Step,
        choice: &Choice<'_>,
        account: &Arc<Account>,
        context: CallContext,
        message: Message,
    ) -> Filtered {
        let (state, direction) = (self.state, message.direction());
        let began_ns = state.clock.monotonic_ns();
        let filter = state
            .runtime
            .filter(&choice.plugin.loaded, context, message, account);
        let filtered = filter.await;
        let now_ns = state.clock.monotonic_ns();
        let took = Duration::from_nanos(now_ns.saturating_sub(began_ns));
        step.metrics.count_call(direction, took);
        if choice.is_counted {
            let is_error = match &filtered.result {
                Ok(_) => false,
                Err(error) => error.fault() != Fault::Platform,
            };
            let client = self.client;
            choice.plugin.figures.count(now_ns, client, took, is_error);
        }
        filtered
    }

    /// Makes the changes that a filter wants of a request.
    fn change(
        &self,
        changes: Changes,
        is_shown: bool,
        context: &mut CallContext,
        call: &mut HttpCall,
        held: &mut Option<&mut ReadBody>,
    ) -> Made {
        if let Some(body) = &changes.body {
            if !is_shown {
                return not_shown();
            }
            if body.len() > self.body_bytes_max {
                let reason = format!(
                    "it makes a body of more than {} bytes, which is what the route takes",
                    self.body_bytes_max
                );
                return InvokeError::InvalidResponse { reason }.into();
            }
        }
        let runtime = &self.state.runtime;
        if let Err(error) = runtime.change_headers(changes.headers, &mut context.headers) {
            return error.into();
        }
        let Some(body) = changes.body else {
            return Made::Passed;
        };
        if let Some(held) = held
            && let Err(problem) = held.replace(self.state, self.client, body.clone())
        {
            return Made::Answer(response::of_plugin(problem.with_request_id(self.id)));
        }
        // The client's length is that of another body.
        let headers = &mut context.headers;
        if headers.contains_key(header::CONTENT_LENGTH) {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        call.body = RequestBody::Whole(body);
        Made::Passed
    }

    async fn show_answer(
        &mut self,
        index: usize,
        mut answer: Response<runtime::Body>,
    ) -> (Response<runtime::Body>, Made) {
        const OUT: Direction = Direction::Response;
        let step = &*self.chain.steps[index];
        let (choice, account) = match &step.filter {
            Filter::Native(native) => {
                if native.filters(OUT) {
                    let began = Instant::now();
                    native.after(answer.headers_mut());
                    step.metrics.count_call(OUT, began.elapsed());
                }
                return (answer, Made::Passed);
            }
            Filter::Plugin {
                accounts: [_, account],
                ..
            } => (self.versions[index].as_ref(), account),
        };
        // One that is not there at all has let the request pass because it may.
        let Some(choice) = choice.filter(|choice| choice.plugin.loaded.filters(OUT)) else {
            return (answer, Made::Passed);
        };
        let Some(context) = self.context.take() else {
            return (answer, Made::Passed);
        };
        let bytes_max = choice.plugin.filtered_bytes_max(OUT);
        let mut body = Bytes::new();
        if let Some(bytes_max) = bytes_max {
            let gathered = answer.body_mut().gather(bytes_max, context.deadline).await;
            match gathered {
                Ok(bytes) => body = bytes,
                Err(reason) => {
                    self.context = Some(context);
                    return (answer, self.not_gathered(reason));
                }
            }
        }
        let message = Message::Response {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body,
        };
        let filtered = self.call(step, choice, account, context, message).await;
        self.context = Some(filtered.context);
        let made = match filtered.result {
            Err(error) => error.into(),
            Ok(Verdict::Respond(mut other)) => {
                if bytes_max.is_some() {
                    // All of it was seen, so nobody is cut off.
                    answer.body_mut().replace(Bytes::new());
                }
                let body = std::mem::take(other.body_mut());
                Made::Answer(other.map(|_| runtime::Body::Whole(body)))
            }
            Ok(Verdict::Next(changes)) => {
                self.change_answer(changes, bytes_max.is_some(), &mut answer)
            }
        };
        (answer, made)
    }

    /// Makes the changes that a filter wants of an answer.
    fn change_answer(
        &self,
        changes: Changes,
        is_shown: bool,
        answer: &mut Response<runtime::Body>,
    ) -> Made {
        if changes.body.is_some() && !is_shown {
            return not_shown();
        }
        let runtime = &self.state.runtime;
        if let Err(error) = runtime.change_headers(changes.headers, answer.headers_mut()) {
            return error.into();
        }
        if let Some(body) = changes.body {
            answer.body_mut().replace(body);
        }
        Made::Passed
    }

    fn not_gathered(&self, reason: NotGathered) -> Made {
        if reason != NotGathered::Broken {
            return Made::Failed(Failure::Body(reason));
        }
        // Nothing of it was sent yet, so the client can be told.
        let detail = "the plugin's answer broke off; its log has the reason under this request id";
        let problem = Problem::new(StatusCode::BAD_GATEWAY, "plugin.failed", detail);
        Made::Answer(response::of_plugin(problem.with_request_id(self.id)))
    }

    /// What the client gets because a filter has failed; nothing if it goes on without.
    fn fail(
        &self,
        step: &Step,
        direction: Direction,
        failure: &Failure,
    ) -> Option<Response<runtime::Body>> {
        let Filter::Plugin {
            name, on_failure, ..
        } = &step.filter
        else {
            return None;
        };
        step.metrics.count_failure(direction);
        let user = self.plugin.name();
        let cause = match failure {
            Failure::Missing => "it is not live".to_owned(),
            Failure::Invoke(error) => response::one_line(&error.to_string()),
            Failure::Body(NotGathered::TooLong) => "the answer has more bytes than it takes".into(),
            Failure::Body(_) => "the answer was not complete in time".to_owned(),
        };
        let what_then = match on_failure {
            OnFailure::Open => "the request goes on without it",
            OnFailure::Closed => "the request is refused",
        };
        let direction = direction.as_str();
        tracing::warn!(
            request.id = %self.id,
            filter.name = %name,
            filter.direction = direction,
            plugin.name = %user,
            error.cause = %cause,
            "The filter `{name}` of `{user}` failed: {what_then}"
        );
        (*on_failure == OnFailure::Closed).then(|| {
            let problem = explain(name, failure).with_request_id(self.id);
            response::of_plugin(problem)
        })
    }
}

fn not_shown() -> Made {
    let reason = "it changes a body that its manifest does not ask for".to_owned();
    InvokeError::InvalidResponse { reason }.into()
}

/// What a client is told of a filter that failed. Like that of a plugin: 502 and 504 mean the filter, 500 and 503 the host.
fn explain(name: &PluginName, failure: &Failure) -> Problem {
    let unavailable = || {
        let detail = format!("the filter `{name}` is not available; try again");
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "filter.unavailable",
            detail,
        )
        .with_retry_after_s(1)
    };
    let late = || {
        let detail = format!("the filter `{name}` did not decide in time");
        Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "filter.deadline_exceeded",
            detail,
        )
    };
    let error = match failure {
        Failure::Missing => return unavailable(),
        Failure::Body(_) => {
            let detail = format!(
                "the answer is longer, or takes longer, than the filter `{name}` waits for"
            );
            return Problem::new(StatusCode::BAD_GATEWAY, "filter.body_too_large", detail);
        }
        Failure::Invoke(error) => error,
    };
    match error {
        InvokeError::DeadlineExceeded { .. } | InvokeError::CpuExceeded { .. } => late(),
        InvokeError::Returned(error) if error.kind == Kind::Timeout => late(),
        InvokeError::Returned(error) if error.kind == Kind::Unavailable => unavailable(),
        InvokeError::Saturated { .. } | InvokeError::Retired => unavailable(),
        InvokeError::Host(error) => Problem::internal(&format!("{error:#}")),
        _ => {
            let detail = format!("the filter `{name}` failed");
            Problem::new(StatusCode::BAD_GATEWAY, "filter.failed", detail)
        }
    }
}
