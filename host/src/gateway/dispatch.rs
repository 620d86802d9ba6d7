//! One request to one plugin: find, authenticate, authorize, limit, read, call.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::{Body, HttpBody as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::auth::Principal;
use crate::condition::Facts;
use crate::gateway::access_log::AccessRecord;
use crate::gateway::cache::Passing;
use crate::gateway::conditional::Conditions;
use crate::gateway::credentials::{self, Asking};
use crate::gateway::files::Filing;
use crate::gateway::filters::{Passage, Way};
use crate::gateway::key_rate::OwnRate;
use crate::gateway::layers::Arrival;
use crate::gateway::limits::Asked;
use crate::gateway::{
    State, audit, body, compression, cors, headers, limits, response, validation, versions,
};
use crate::http::{Problem, address, trace};
use crate::plugins::access::{self, Rule};
use crate::plugins::breaker::{End, Event};
use crate::plugins::manifest;
use crate::plugins::registry::LivePlugin;
use crate::plugins::rollout::Choice;
use crate::plugins::routes::{Found, Mounted, Route, below};
use crate::runtime::{
    self, CallContext, HttpCall, Invocation, InvokeError, RequestBody, Rest, Trigger, Usage,
};

pub(super) async fn dispatch(
    state: &State,
    arrival: Arrival,
    request: Request<Incoming>,
    record: &mut AccessRecord,
) -> Result<Response<Body>, Problem> {
    let (mut head, incoming) = request.into_parts();
    let table = state.registry.live();
    let host = credentials::host_of(&head.uri, &head.headers);
    let mounted = table
        .find(host, head.uri.path())
        .ok_or_else(response::not_found)?;
    let caller = || {
        let principal = Asking::of(&head, arrival.client).principal(&state.auth);
        let principal = principal.ok().flatten();
        name_of_caller(principal.as_deref(), arrival.client)
    };
    let rollout = state.registry.rollout();
    let choice = mounted.slot.choose(&head.headers, rollout, caller);
    let plugin = choice.plugin;
    let mount_length = plugin.mount.path.len();
    let below = below(head.uri.path(), mount_length);
    if let Some((route, answer)) = cors::preflight(&plugin.routes, &below, &head) {
        record.route(plugin.name(), &route.pattern);
        return Ok(answer);
    }
    let (route, path_params) = match plugin.routes.find(&head.method, &below, &head.headers) {
        Found::Route { route, params } => (route, params),
        Found::MethodNotAllowed(methods) => {
            return Ok(response::method_not_allowed(
                &head.method,
                &methods,
                arrival.id,
            ));
        }
        Found::InvalidPath => return Err(response::invalid_path()),
        Found::Version(mistake) => {
            let versioning = plugin.routes.versioning().ok_or_else(response::not_found)?;
            return Err(versions::explain(mistake, versioning));
        }
        Found::NotFound => return Err(response::not_found()),
    };
    record.route(plugin.name(), &route.pattern);
    let cors = route.cors.as_deref();
    let origin = cors.and_then(|_| head.headers.get(header::ORIGIN).cloned());
    // From here on everything is counted under this route, whatever comes of it.
    let notice = versions::notice(plugin, route, head.uri.path(), &path_params);
    versions::tell_plugin(plugin, route, &mut head.headers);
    let answer = call(
        state,
        arrival,
        mounted,
        &choice,
        route,
        path_params,
        head,
        incoming,
        record,
    )
    .await;
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(problem) => response::of_problem(problem.with_request_id(arrival.id)),
    };
    if let Some(cors) = cors {
        cors::apply(cors, origin.as_ref(), answer.headers_mut());
    }
    versions::finish(route, notice, &mut answer);
    route
        .metrics
        .count_request(answer.status().as_u16(), arrival.began.elapsed());
    Ok(answer)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the steps of one request, each taking what the others found"
)]
async fn call(
    state: &State,
    arrival: Arrival,
    mounted: &Mounted,
    choice: &Choice<'_>,
    route: &Arc<Route>,
    path_params: Vec<(String, String)>,
    head: http::request::Parts,
    incoming: Incoming,
    record: &mut AccessRecord,
) -> Result<Response<Body>, Problem> {
    let plugin = choice.plugin;
    let depth = trace::depth(&head.headers);
    if depth >= state.config.call_depth_max {
        return Err(response::too_deep());
    }
    versions::refuse_gone(state, arrival, plugin, route, &head, &path_params)?;
    let principal = authenticate(state, route, Asking::of(&head, arrival.client))
        .map_err(|problem| audit::refused(state, arrival, plugin, route, None, problem))?;
    versions::count(state, route, principal.as_deref());
    if let Some(principal) = &principal {
        record.principal(&principal.id);
    }
    authorize(plugin, route, principal.as_deref(), &head, &path_params).map_err(|problem| {
        audit::refused(state, arrival, plugin, route, principal.as_ref(), problem)
    })?;
    let own_rate = OwnRate::of(state, principal.as_deref())?;
    let asked = Asked {
        arrival,
        principal: principal.as_deref(),
        head: &head,
        params: &path_params,
        mount_length: plugin.mount.path.len(),
    };
    let admitted = limits::admit(state, route, own_rate.as_ref(), &asked, record).await?;
    let caller = Caller {
        principal,
        path_params,
        depth,
    };
    let answer = go_on(
        state, arrival, mounted, choice, route, caller, head, incoming, record,
    );
    let answer = answer.await;
    match admitted {
        None => answer,
        // What was charged is told, also if it was for nothing.
        Some(admitted) => match answer {
            Ok(answer) => Ok(admitted.finish(answer)),
            Err(problem) => Err(admitted.tell(problem)),
        },
    }
}

/// Whose request it is, as far as it was looked at.
struct Caller {
    principal: Option<Arc<Principal>>,
    path_params: Vec<(String, String)>,
    /// How many calls of plugins it is inside of.
    depth: u32,
}

/// What comes after a request was let in: it is checked, answered by the plugin or in its place, and the answer made ready.
#[expect(
    clippy::too_many_arguments,
    reason = "the steps of one request, each taking what the others found"
)]
async fn go_on(
    state: &State,
    arrival: Arrival,
    mounted: &Mounted,
    choice: &Choice<'_>,
    route: &Arc<Route>,
    caller: Caller,
    head: http::request::Parts,
    incoming: Incoming,
    record: &mut AccessRecord,
) -> Result<Response<Body>, Problem> {
    let plugin = choice.plugin;
    let Caller {
        principal,
        path_params,
        depth,
    } = caller;
    let checks = route.checks.as_deref();
    if let Some(checks) = checks {
        let has_body = !incoming.is_end_stream();
        validation::check_head(checks, &head, &path_params, has_body)?;
    }
    if let Some(filed) = &route.files {
        let asked = Filing {
            state,
            arrival,
            mounted,
            plugin,
            route,
            filed,
            depth,
        };
        return Box::pin(asked.answer(path_params, principal, head, incoming)).await;
    }
    refuse_encoding(plugin, &head.headers)?;
    let chain = mounted.filters_of(plugin).of(route);
    let bytes_max = chain.map_or(usize::MAX, |chain| chain.body_bytes_max);
    let bytes_max = bytes_max.min(route.body_bytes_max);
    let flows = plugin.loaded.spec().entry.is_standard()
        && route.idempotency.is_none()
        && !chain.is_some_and(|chain| chain.reads_requests)
        && checks.is_none_or(|checks| checks.body.is_none())
        && body::is_long(&incoming, &head.headers);
    let flow = flows.then(|| state.flows.take(arrival.client, 1)).flatten();
    let (body, mut share) = match flow {
        Some(flow) => (body::flow(incoming, &head.headers, bytes_max, flow)?, None),
        None if flows && route.stream.is_some() => return Err(body::too_many_flow()),
        None => {
            let read = body::read(state, arrival.client, incoming, &head.headers, bytes_max);
            let body = read.await?;
            if checks.is_some() {
                Box::pin(validation::check_body(state, route, &body.bytes)).await?;
            }
            (RequestBody::Whole(body.bytes.clone()), Some(body))
        }
    };
    let accepted = head.headers.get(header::ACCEPT_ENCODING);
    let accepted = accepted.filter(|_| route.may_compress).cloned();
    let conditions = Conditions::of(&head.method, &head.headers);
    // From here on the plugin has the time; a slow client has used up none of it.
    let timeout = state
        .config
        .request_timeout()
        .min(route.timeout.unwrap_or(Duration::MAX));
    let deadline = Instant::now() + timeout;
    let context = CallContext {
        request_id: arrival.id,
        trigger: "http",
        route: Some(Arc::clone(&route.pattern)),
        path_params,
        client_address: Some(arrival.client),
        principal,
        headers: for_guest(head.headers, &head.uri),
        depth,
        deadline,
    };
    let is_head = head.method == Method::HEAD && !route.methods.contains(&Method::HEAD);
    let version = head.version;
    let method = if is_head { Method::GET } else { head.method };
    let mount_length = plugin.mount.path.len();
    let call = HttpCall {
        method,
        uri: head.uri,
        mount_length,
        body,
        stream: route.stream,
        target: route.target.clone(),
    };
    let before = chain
        .filter(|_| route.cache.is_some())
        .map(|_| context.headers.clone());
    let passing = Passing {
        state,
        arrival,
        choice,
        route,
        before: before.as_ref(),
        is_answer_final: !chain.is_some_and(|chain| chain.shows_answers),
    };
    let mut used = None;
    let answer = match chain {
        None => passing.answer((context, call), &mut used).await,
        Some(chain) => {
            let mut passage = Passage::new(state, arrival, plugin, chain, &context, bytes_max);
            let answer = match Box::pin(passage.before(context, call, share.as_mut())).await {
                Way::On(on) => passing.answer(*on, &mut used).await,
                Way::Answered(answer) => answer,
            };
            Box::pin(passage.after(answer)).await
        }
    };
    drop(share);
    if let Some(usage) = used {
        record.usage(usage);
    }
    if state.config.answers_are_checked
        && let Some(checks) = checks
    {
        validation::check_answer(checks, plugin, &answer)?;
    }
    let mut answer = match conditions {
        Some(conditions) => conditions.apply(answer)?,
        None => answer,
    };
    let config = &state.config.compression;
    if route.may_compress
        && let Some(coding) = compression::prepare(config, accepted.as_ref(), &mut answer)
    {
        answer = Box::pin(compression::apply(state, coding, answer)).await;
    }
    let mut answer = body::answer(&state.answers, arrival.client, version, answer)?;
    credentials::refuse_cookies(answer.headers_mut());
    if headers::is_page(answer.headers()) {
        let is_shared = state.pages_are_sandboxed && plugin.mount.host.is_none();
        state.security.page(answer.headers_mut(), is_shared);
    }
    if choice.is_named {
        let name = state.registry.rollout().header.clone();
        let version = plugin.version_value.clone();
        answer.headers_mut().insert(name, version);
    }
    Ok(answer)
}

/// Goes with an answer that the host gave because the plugin was not called.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotDone;

/// Calls the plugin. Its failure is an answer, too. What the call has used is told, unless it goes on. Whose call it is stands
/// in the log, also if the plugin is not to see it.
pub(super) async fn ask(
    state: &State,
    arrival: Arrival,
    choice: &Choice<'_>,
    route: &Arc<Route>,
    principal: Option<Arc<Principal>>,
    (context, call): (CallContext, HttpCall),
    used: &mut Option<Usage>,
) -> Response<runtime::Body> {
    let plugin = choice.plugin;
    let invocation = Invocation {
        context,
        trigger: Trigger::Http(call),
        account: Arc::clone(&route.metrics.account),
    };
    let began_ns = state.clock.monotonic_ns();
    let pass = match route.breaker.admit(arrival.client, began_ns) {
        Ok(pass) => pass,
        Err(held) => {
            route.metrics.count_kept_away();
            let problem = response::kept_away(held).with_request_id(arrival.id);
            let mut answer = response::of_plugin(problem);
            answer.extensions_mut().insert(NotDone);
            return answer;
        }
    };
    let outcome = state.runtime.invoke(&plugin.loaded, invocation).await;
    let now_ns = state.clock.monotonic_ns();
    let is_not_done = matches!(outcome.result, Err(InvokeError::Saturated { .. }));
    let is_platforms = is_not_done
        || matches!(
            outcome.result,
            Err(InvokeError::Retired | InvokeError::Host(_))
        );
    let event = pass.settle(end_of(outcome.result.as_ref().err()), now_ns);
    tell(event, plugin, route);
    match outcome.rest {
        Some(rest) => see_to_its_end(state, arrival, principal.clone(), plugin, route, rest),
        None => *used = Some(outcome.usage),
    }
    let answer = outcome.result.unwrap_or_else(|error| {
        route.metrics.count_fault(error.fault());
        response::report(
            &error,
            plugin,
            &route.pattern,
            arrival.id,
            principal.as_deref(),
        );
        let problem = response::explain(&error, principal.as_deref());
        let problem = problem.with_request_id(arrival.id);
        let mut answer = response::of_plugin(problem);
        if is_not_done {
            answer.extensions_mut().insert(NotDone);
        }
        answer
    });
    if choice.is_counted {
        let took = Duration::from_nanos(now_ns.saturating_sub(began_ns));
        let is_error = answer.status().is_server_error() && !is_platforms;
        plugin.figures.count(now_ns, arrival.client, took, is_error);
    }
    answer
}

/// Lets the plugin go on with an answer that has begun, and tells the access log when it is over.
fn see_to_its_end(
    state: &State,
    arrival: Arrival,
    principal: Option<Arc<Principal>>,
    plugin: &Arc<LivePlugin>,
    route: &Arc<Route>,
    rest: Rest,
) {
    let (plugin, route) = (Arc::clone(plugin), Arc::clone(route));
    let (log, clock) = (state.access_log.clone(), state.clock.clone());
    let run = async move {
        let ended = rest.run().await;
        let cause = ended.result.as_ref().err();
        if let Some(error) = cause {
            route.metrics.count_fault(error.fault());
            response::report(
                error,
                &plugin,
                &route.pattern,
                arrival.id,
                principal.as_deref(),
            );
            if error.is_crash() {
                let now_ns = clock.monotonic_ns();
                let event = route.breaker.count(arrival.client, End::Crashed, now_ns);
                tell(event, &plugin, &route);
            }
        }
        let took = arrival.began.elapsed();
        let principal = principal.as_deref().map(|principal| &*principal.id);
        log.end_stream(&arrival.id, principal, &ended, took);
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends with the body, and so with the connection, for which the listener waits"
    )]
    tokio::spawn(run);
}

/// What the end of a call says of the plugin. An error that it returns of its own accord is an answer.
fn end_of(error: Option<&InvokeError>) -> End {
    match error {
        None | Some(InvokeError::Returned(_) | InvokeError::InvalidResponse { .. }) => {
            End::Answered
        }
        Some(error) if error.is_crash() => End::Crashed,
        Some(_) => End::Other,
    }
}

/// Counts what a call has changed at its route, and tells the host's log.
fn tell(event: Option<Event>, plugin: &LivePlugin, route: &Route) {
    let (name, pattern) = (plugin.name(), &route.pattern);
    match event {
        Some(Event::Held { scope, time }) => {
            route.metrics.count_hold(scope);
            let (scope, ms) = (scope.as_str(), time.as_millis());
            tracing::warn!(
                plugin.name = %name, route = %pattern, scope, hold_ms = %ms,
                "`{pattern}` of `{name}` keeps crashing; calls of {scope} are kept away"
            );
        }
        Some(Event::Released { scope }) => {
            let scope = scope.as_str();
            tracing::info!(
                plugin.name = %name, route = %pattern, scope,
                "`{pattern}` of `{name}` answers again; calls of {scope} are let through"
            );
        }
        None => {}
    }
}

/// Who is asking, as far as canaries are concerned. Whether they may ask at all is decided later, and by the version that
/// answers.
pub(super) fn name_of_caller(principal: Option<&Principal>, client: IpAddr) -> String {
    if let Some(principal) = principal {
        return format!("principal {}", principal.id);
    }
    format!("address {}", address::network(client))
}

fn authenticate(
    state: &State,
    route: &Route,
    asking: Asking<'_>,
) -> Result<Option<Arc<Principal>>, Problem> {
    if route.auth == manifest::Auth::Public {
        return Ok(None);
    }
    asking.principal(&state.auth)
}

fn authorize(
    plugin: &LivePlugin,
    route: &Route,
    principal: Option<&Principal>,
    head: &http::request::Parts,
    params: &[(String, String)],
) -> Result<(), Problem> {
    let claims = || access::claims(principal);
    let path = match &route.demands {
        Some(_) => below(head.uri.path(), plugin.mount.path.len()),
        None => Cow::Borrowed(""),
    };
    let facts = Facts {
        claims: &claims,
        params,
        query: head.uri.query(),
        headers: &head.headers,
        method: &head.method,
        path: &path,
    };
    for rule in access::rules(route) {
        match rule.is_met(plugin.name(), principal, &facts) {
            Ok(true) => {}
            Ok(false) => return Err(unmet(rule, plugin)),
            Err(failed) => {
                let (name, pattern) = (plugin.name(), &route.pattern);
                tracing::debug!(plugin.name = %name, route = %pattern, error.cause = %failed, "A condition has no answer");
                return Err(unmet(rule, plugin));
            }
        }
    }
    Ok(())
}

/// What a caller is told: what they lack first, and nothing of what the route asks besides.
fn unmet(rule: Rule<'_>, plugin: &LivePlugin) -> Problem {
    let detail = match rule {
        Rule::Login => return credentials::login_required(),
        Rule::Condition(_) => "this request may not be made by this caller".to_owned(),
        rule => format!("{} is needed", rule.need(plugin.name())),
    };
    Problem::new(StatusCode::FORBIDDEN, rule.code(), detail)
}

/// Only plugins of `wasi:http` take bodies that are encoded: they asked for the message as it came.
fn refuse_encoding(plugin: &LivePlugin, headers: &HeaderMap) -> Result<(), Problem> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let is_encoded = encodings.any(|value| value.as_bytes() != b"identity");
    if is_encoded && !plugin.loaded.spec().entry.is_standard() {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "request.encoding_unsupported",
            "send the body without a content encoding",
        ));
    }
    Ok(())
}

/// Credentials are the host's: a plugin learns who is calling, not how they proved it.
pub(super) fn for_guest(mut headers: HeaderMap, uri: &http::Uri) -> HeaderMap {
    headers.remove(header::AUTHORIZATION);
    headers.remove(credentials::API_KEY);
    headers.remove(trace::DEPTH);
    credentials::hide_from_plugins(&mut headers);
    // The plugin was found by the authority (RFC 9112, section 3.2.2), so that is the host it must see.
    let authority = uri.authority().map(|authority| authority.as_str());
    if let Some(Ok(authority)) = authority.map(HeaderValue::try_from) {
        headers.insert(header::HOST, authority);
    }
    headers
}
