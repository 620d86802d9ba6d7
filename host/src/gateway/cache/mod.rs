//! Answers that are given out again without a call (RFC 9111): whether one is there, who has it made if not, and what is
//! told of it (`Cache-Status`, RFC 9211). It stands behind the filters of a route: they see every request and every
//! answer, wherever that comes from.

mod asked;
mod given;
mod storable;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use crate::auth::Principal;
use crate::cache::{Entry, Kept, Key, Lives, Marks, NewEntry, Outcome, Purge, Stamp, Turn};
use crate::gateway::dispatch::ask;
use crate::gateway::layers::Arrival;
use crate::gateway::{State, mock, once, response};
use crate::http::Problem;
use crate::plugins::cached::Cached;
use crate::plugins::rollout::Choice;
use crate::plugins::routes::Route;
use crate::runtime::{self, CallContext, HttpCall, NotGathered, Usage};

use asked::Conditions;
use given::Way;

/// Requests and answers on their way through a route.
pub(super) struct Passing<'a> {
    pub(super) state: &'a State,
    pub(super) arrival: Arrival,
    pub(super) choice: &'a Choice<'a>,
    pub(super) route: &'a Arc<Route>,
    /// The headers as they came, if a filter may have changed them.
    pub(super) before: Option<&'a HeaderMap>,
    /// Whether no filter is shown the answer, so that what is true of what is kept is true of what the client gets.
    pub(super) is_answer_final: bool,
}

/// A request whose answer may be kept.
struct Request<'a> {
    passing: &'a Passing<'a>,
    cached: &'a Arc<Cached>,
    key: Key,
    conditions: Conditions,
    /// Whose request it is, if the plugin does not see that.
    hidden: Option<Arc<Principal>>,
}

impl Passing<'_> {
    /// An answer: one that is kept, or one that the plugin makes now.
    pub(super) async fn answer(
        &self,
        (context, call): (CallContext, HttpCall),
        used: &mut Option<Usage>,
    ) -> Response<runtime::Body> {
        let Self { state, route, .. } = *self;
        // Before anything is kept or done once: who asks for an example gets one, and nobody else does.
        if let Some(answer) = mock::answer(route, &context.headers) {
            return answer;
        }
        let cached = route.cache.as_ref().filter(|_| state.cache.config().is_on);
        let Some(cached) = cached else {
            if route.clears.is_empty() {
                return self.ask(context, call, used).await;
            }
            let path = asked::path(&call);
            let answer = self.ask(context, call, used).await;
            for cleared in &route.clears {
                self.clear(cleared, &path, answer.status()).await;
            }
            return answer;
        };
        let key = match asked::key(cached, &context, &call, self.before) {
            Ok(key) => key,
            Err(way) => {
                cached.metrics.bypassed.inc();
                let path = asked::path(&call);
                let mut answer = self.ask(context, call, used).await;
                if way == Way::Method {
                    self.clear(cached, &path, answer.status()).await;
                }
                let _ = storable::take_tags(answer.headers_mut());
                given::tell(answer.headers_mut(), &way);
                return answer;
            }
        };
        let conditions = Conditions::of(&context.headers, self.is_answer_final);
        let hidden = context.principal.clone();
        let request = Request {
            passing: self,
            cached,
            key,
            conditions,
            hidden: hidden.filter(|_| !cached.is_by_caller),
        };
        let now_ns = state.clock.monotonic_ns();
        let found = cached.part(&state.cache).find(&key);
        match found.as_deref() {
            Some(entry) if is_fresh_answer(entry, now_ns) => {
                cached.metrics.hits.inc();
                request.give(entry, now_ns, &Way::Hit)
            }
            Some(entry) if is_answer(entry) && entry.may_renew_behind(now_ns) => {
                cached.metrics.stale.inc();
                let answer = request.give(entry, now_ns, &Way::Hit);
                Box::pin(request.renew(request.shown(context), call)).await;
                answer
            }
            Some(Entry {
                kept: Kept::Refusal,
                ..
            }) => Box::pin(request.make_alone(request.shown(context), call, used)).await,
            _ => Box::pin(request.miss(request.shown(context), call, found, used)).await,
        }
    }

    /// Calls the plugin; for requests that are done once, only if they were not.
    async fn ask(
        &self,
        context: CallContext,
        call: HttpCall,
        used: &mut Option<Usage>,
    ) -> Response<runtime::Body> {
        let Self {
            state,
            arrival,
            choice,
            route,
            ..
        } = *self;
        match route.idempotency.filter(|_| !call.method.is_safe()) {
            None => {
                let who = context.principal.clone();
                ask(state, arrival, choice, route, who, (context, call), used).await
            }
            Some(mode) => Box::pin(once::answer(self, mode, (context, call), used)).await,
        }
    }

    /// What is kept for a path is worth nothing once something was changed there (RFC 9111, section 4.4).
    async fn clear(&self, cached: &Cached, path: &str, status: StatusCode) {
        if status.as_u16() < 400 {
            let cache = &self.state.cache;
            let purge = Purge::Path(path.into());
            cache.purge(cached.part(cache), &purge).await;
        }
    }
}

fn is_answer(entry: &Entry) -> bool {
    matches!(entry.kept, Kept::Answer(_))
}

fn is_fresh_answer(entry: &Entry, now_ns: u64) -> bool {
    is_answer(entry) && !entry.fresh_for(now_ns).is_zero()
}

/// An answer that the plugin has made, and what came of keeping it.
struct Made {
    answer: Response<runtime::Body>,
    outcome: Outcome,
    /// Why it is not kept.
    reason: &'static str,
}

impl Request<'_> {
    fn give(&self, entry: &Entry, now_ns: u64, way: &Way) -> Response<runtime::Body> {
        given::answer(entry, now_ns, &self.conditions, way)
    }

    /// What the plugin may see of a request.
    fn shown(&self, mut context: CallContext) -> CallContext {
        let Passing { route, before, .. } = *self.passing;
        if !self.cached.is_by_caller {
            // What is made for one is given to all.
            context.principal = None;
        }
        let version = route.versioned.as_ref().and_then(|it| it.version.as_ref());
        let told = version.map(|(name, _)| name);
        let headers = &mut context.headers;
        asked::hide_what_is_not_in_the_key(headers, &self.cached.rule, told, before);
        context
    }

    /// Has the answer made, or waits for one like it.
    async fn miss(
        &self,
        context: CallContext,
        call: HttpCall,
        found: Option<Arc<Entry>>,
        used: &mut Option<Usage>,
    ) -> Response<runtime::Body> {
        let state = self.passing.state;
        let part = self.cached.part(&state.cache);
        let is_stale = found.as_deref().is_some_and(is_answer);
        let stand_in = |now_ns| {
            let found = found.as_deref();
            found.filter(|entry| is_answer(entry) && entry.may_stand_in(now_ns))
        };
        loop {
            let leader = match part.join(self.key) {
                Turn::Full => return self.problem(full()),
                Turn::Lead(leader) => leader,
                Turn::Wait(waiter) => {
                    let outcome = waiter.outcome();
                    let outcome = tokio::time::timeout_at(context.deadline.into(), outcome).await;
                    let now_ns = state.clock.monotonic_ns();
                    let collapsed = Way::Made {
                        is_stale,
                        is_collapsed: true,
                        is_stored: false,
                        detail: None,
                    };
                    match outcome {
                        Ok(Outcome::Abandoned) => continue,
                        Ok(Outcome::Kept(entry)) => {
                            self.cached.metrics.collapsed.inc();
                            return self.give(&entry, now_ns, &collapsed);
                        }
                        Ok(Outcome::Private) => {
                            return Box::pin(self.make_alone(context, call, used)).await;
                        }
                        Ok(Outcome::Failed(status)) => {
                            if let Some(entry) = stand_in(now_ns) {
                                self.cached.metrics.stale.inc();
                                return self.give(entry, now_ns, &Way::StoodIn(status));
                            }
                            return self.problem(failed(status));
                        }
                        Err(_) => return self.problem(late()),
                    }
                }
            };
            let now_ns = state.clock.monotonic_ns();
            // It may have been finished between the look and the turn.
            if let Some(entry) = part.find(&self.key)
                && is_fresh_answer(&entry, now_ns)
            {
                leader.settle(Outcome::Kept(Arc::clone(&entry)));
                self.cached.metrics.hits.inc();
                return self.give(&entry, now_ns, &Way::Hit);
            }
            // Another host may have had it made.
            if let Ok(Some(entry)) = state.cache.fetch(part, self.key).await
                && is_fresh_answer(&entry, now_ns)
            {
                leader.settle(Outcome::Kept(Arc::clone(&entry)));
                self.cached.metrics.shared.inc();
                return self.give(&entry, now_ns, &Way::Hit);
            }
            self.cached.metrics.misses.inc();
            let made = self.make(context, call, used).await;
            leader.settle(made.outcome.clone());
            let now_ns = state.clock.monotonic_ns();
            if let Outcome::Failed(status) = made.outcome
                && let Some(entry) = stand_in(now_ns)
            {
                self.cached.metrics.stale.inc();
                return self.give(entry, now_ns, &Way::StoodIn(status));
            }
            return self.finish(made, is_stale);
        }
    }

    /// Has the answer made without asking who else wants one like it.
    async fn make_alone(
        &self,
        context: CallContext,
        call: HttpCall,
        used: &mut Option<Usage>,
    ) -> Response<runtime::Body> {
        self.cached.metrics.misses.inc();
        let made = self.make(context, call, used).await;
        self.finish(made, false)
    }

    fn finish(&self, made: Made, is_stale: bool) -> Response<runtime::Body> {
        let now_ns = self.passing.state.clock.monotonic_ns();
        let is_stored = matches!(made.outcome, Outcome::Kept(_));
        let way = Way::Made {
            is_stale,
            is_collapsed: false,
            is_stored,
            detail: (!is_stored).then_some(made.reason),
        };
        if let Outcome::Kept(entry) = &made.outcome {
            return self.give(entry, now_ns, &way);
        }
        let mut answer = made.answer;
        given::tell(answer.headers_mut(), &way);
        answer
    }

    /// Has the answer made in the background, unless that is being done already.
    async fn renew(&self, context: CallContext, call: HttpCall) {
        let state = self.passing.state;
        let Turn::Lead(leader) = self.cached.part(&state.cache).join(self.key) else {
            return;
        };
        let plugin = Arc::clone(self.passing.choice.plugin);
        let (is_counted, is_named) = (self.passing.choice.is_counted, self.passing.choice.is_named);
        let (route, cached) = (Arc::clone(self.passing.route), Arc::clone(self.cached));
        let (state, arrival, key) = (state.clone(), self.passing.arrival, self.key);
        let is_answer_final = self.passing.is_answer_final;
        let cache = state.cache.clone();
        let hidden = self.hidden.clone();
        let work = async move {
            let choice = Choice {
                plugin: &plugin,
                is_counted,
                is_named,
            };
            let passing = Passing {
                state: &state,
                arrival,
                choice: &choice,
                route: &route,
                before: None,
                is_answer_final,
            };
            let request = Request {
                passing: &passing,
                cached: &cached,
                key,
                conditions: Conditions::default(),
                hidden,
            };
            let made = request.make(context, call, &mut None).await;
            leader.settle(made.outcome);
        };
        cache.renew(work);
    }

    /// Calls the plugin and keeps what it answers, if that may be kept.
    async fn make(&self, context: CallContext, call: HttpCall, used: &mut Option<Usage>) -> Made {
        let Passing {
            state,
            arrival,
            choice,
            route,
            ..
        } = *self.passing;
        let stamp = self.cached.part(&state.cache).stamp();
        let params = context.path_params.clone();
        let (path, deadline) = (asked::path(&call), context.deadline);
        let who = self.hidden.clone().or_else(|| context.principal.clone());
        let mut answer = ask(state, arrival, choice, route, who, (context, call), used).await;
        if answer.status().is_server_error() {
            let outcome = Outcome::Failed(answer.status().as_u16());
            return Made {
                answer,
                outcome,
                reason: "error",
            };
        }
        let said = storable::take_tags(answer.headers_mut());
        let rule = &self.cached.rule;
        let marks = said.and_then(|mut tags| {
            for pattern in &rule.tags {
                tags.push(pattern.fill(&params).ok_or("tags")?);
            }
            storable::check_tags(&mut tags)?;
            Ok(Marks {
                tags,
                route: Some(Arc::clone(&route.pattern)),
                path: Some(path),
            })
        });
        let lives = storable::lives(rule, self.cached.is_by_caller, &answer);
        let kept = match (marks, lives) {
            (Ok(marks), Ok(lives)) => {
                let wait = Instant::now() + state.cache.config().stream_wait();
                let until = deadline.min(wait);
                self.keep(&mut answer, marks, lives, stamp, until).await
            }
            (Err(reason), _) | (_, Err(reason)) => Err(reason),
        };
        match kept {
            Ok(entry) => Made {
                answer,
                outcome: Outcome::Kept(entry),
                reason: "",
            },
            Err(reason) => {
                self.note_refusal(reason, stamp);
                Made {
                    answer,
                    outcome: Outcome::Private,
                    reason,
                }
            }
        }
    }

    /// The error is the reason why it is not kept.
    async fn keep(
        &self,
        answer: &mut Response<runtime::Body>,
        marks: Marks,
        lives: Lives,
        stamp: Stamp,
        until: Instant,
    ) -> Result<Arc<Entry>, &'static str> {
        let cache = &self.passing.state.cache;
        let bytes_max = cache.config().entry_bytes_max;
        let bytes = match answer.body_mut().gather(bytes_max, until).await {
            Ok(bytes) => bytes,
            Err(NotGathered::TooLong) => return Err("length"),
            Err(NotGathered::TooSlow) => return Err("stream"),
            Err(NotGathered::Broken) => {
                *answer = self.problem(broken());
                return Err("error");
            }
        };
        // A copy, so that an entry holds no more than what is counted.
        let body = Bytes::copy_from_slice(&bytes);
        answer.body_mut().replace(bytes);
        let is_final = self.passing.is_answer_final;
        let head = storable::head(&self.cached.rule, answer, &body, is_final);
        let new = NewEntry {
            kept: Kept::Answer(Box::new(head)),
            body,
            lives,
            marks,
        };
        let part = self.cached.part(cache);
        let kept = cache.put(part, self.key, new, stamp);
        kept.map_err(|_| "purged")
    }

    /// Remembers for a moment that answers to such requests cannot be kept: then nobody waits in vain.
    fn note_refusal(&self, reason: &str, stamp: Stamp) {
        let cache = &self.passing.state.cache;
        if reason == "purged" || cache.config().refusal().is_zero() {
            return;
        }
        let refusal = NewEntry {
            kept: Kept::Refusal,
            body: Bytes::new(),
            lives: Lives {
                fresh: cache.config().refusal(),
                ..Lives::default()
            },
            marks: Marks::default(),
        };
        let _ = cache.put(self.cached.part(cache), self.key, refusal, stamp);
    }

    fn problem(&self, problem: Problem) -> Response<runtime::Body> {
        response::of_plugin(problem.with_request_id(self.passing.arrival.id))
    }
}

fn full() -> Problem {
    let detail = "too many requests wait for the same answer; try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "host.saturated", detail).with_retry_after_s(1)
}

fn late() -> Problem {
    let detail = "the plugin did not answer in time";
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "plugin.deadline_exceeded",
        detail,
    )
}

fn broken() -> Problem {
    let detail = "the plugin's answer broke off; its log has the reason under this request id";
    Problem::new(StatusCode::BAD_GATEWAY, "plugin.failed", detail)
}

/// The call that was to answer this request, too, has failed with this status.
fn failed(status: u16) -> Problem {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let detail = "the call that was to answer several requests at once has failed; try again";
    let problem = Problem::new(status, "cache.call_failed", detail);
    match status {
        StatusCode::SERVICE_UNAVAILABLE => problem.with_retry_after_s(1),
        _ => problem,
    }
}
