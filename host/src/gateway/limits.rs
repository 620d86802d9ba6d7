//! Rate limits of routes and of API keys: which keys a request has, whether it may go on, what its answer says of them, and what it holds
//! until its answer is over.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, request};
use http_body::{Frame, SizeHint};
use smallvec::SmallVec;

use crate::auth::{Principal, PrincipalKind};
use crate::condition::Facts;
use crate::gateway::access_log::AccessRecord;
use crate::gateway::key_rate::OwnRate;
use crate::gateway::layers::Arrival;
use crate::gateway::{State, response};
use crate::http::Problem;
use crate::limits::{Caller, Check, Decision, Key, Permit};
use crate::plugins::access;
use crate::plugins::limits::{KeySource, RouteLimit};
use crate::plugins::routes::{Route, below};

/// How much is left (draft-ietf-httpapi-ratelimit-headers).
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Of what (the same draft).
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a request can be counted by.
pub(super) struct Asked<'r> {
    pub(super) arrival: Arrival,
    pub(super) principal: Option<&'r Principal>,
    pub(super) head: &'r request::Parts,
    pub(super) params: &'r [(String, String)],
    /// How much of the path is the mount of the plugin.
    pub(super) mount_length: usize,
}

/// A request that may go on.
pub(super) struct Admitted<'r> {
    decision: Decision<'r>,
    /// The value of `RateLimit-Policy`; nothing if all of them only tell.
    policies: Option<HeaderValue>,
    permit: Option<Permit>,
    has_legacy_headers: bool,
}

/// Charges a request, or refuses it.
pub(super) async fn admit<'r>(
    state: &State,
    route: &'r Route,
    own_rate: Option<&'r OwnRate>,
    asked: &Asked<'_>,
    record: &mut AccessRecord,
) -> Result<Option<Admitted<'r>>, Problem> {
    let limits = route.limits.as_ref();
    if limits.is_none() && own_rate.is_none() {
        return Ok(None);
    }
    let id_if = |kinds: [PrincipalKind; 2]| {
        let principal = asked.principal;
        let principal = principal.filter(|principal| kinds.contains(&principal.kind));
        principal.map(|principal| &*principal.id)
    };
    // A program has an account and comes with a key: both kinds of limits know it by its account.
    let caller = Caller {
        address: Some(asked.arrival.client),
        user: id_if([PrincipalKind::User, PrincipalKind::ServiceAccount]),
        api_key: id_if([PrincipalKind::ApiKey, PrincipalKind::ServiceAccount]),
    };
    let of_route = limits.map_or(&[] as &[RouteLimit], |limits| &limits.limits);
    let of_route = of_route.iter().map(|limit| Check {
        policy: &limit.policy,
        key: key(state, limit, asked, &caller),
        cost: limit.cost,
    });
    let own = own_rate.map(|own| Check {
        policy: &own.policy,
        key: own.key,
        cost: 1,
    });
    let checks: SmallVec<[Check<'r>; 4]> = of_route.chain(own).collect();
    let admission = state.limiter.check(&checks, state.clock.monotonic_ns());
    let admission = admission
        .await
        .map_err(|error| response::uncounted(&error))?;
    let decision = admission.decision;
    let mut shadowed = decision.shadowed().peekable();
    if shadowed.peek().is_some() {
        route.metrics.count_limited(true);
        record.shadowed(shadowed.map(|outcome| outcome.policy.name()));
    }
    if !decision.is_admitted() {
        route.metrics.count_limited(false);
        return Err(response::limited(
            &decision,
            state.limiter.has_legacy_headers(),
        ));
    }
    let policies = match (own_rate, limits) {
        // Each key may have one of its own.
        (Some(_), _) => HeaderValue::try_from(decision.policy_header()).ok(),
        (None, Some(limits)) => limits.policies.clone(),
        (None, None) => None,
    };
    Ok(Some(Admitted {
        decision,
        policies: policies.filter(|policies| !policies.is_empty()),
        permit: admission.permit,
        has_legacy_headers: state.limiter.has_legacy_headers(),
    }))
}

impl Admitted<'_> {
    /// Lets an error say how much is left. What the request holds, it holds no more.
    pub(super) fn tell(self, mut problem: Problem) -> Problem {
        if self.policies.is_some() {
            problem.rate_limit = response::limit_headers(&self.decision, self.has_legacy_headers);
        }
        problem
    }

    /// Lets the answer say how much is left, and hold what the request holds.
    pub(super) fn finish(self, mut answer: Response<Body>) -> Response<Body> {
        let Self {
            decision,
            policies,
            permit,
            has_legacy_headers,
        } = self;
        if let Some(policies) = policies {
            let headers = answer.headers_mut();
            headers.insert(RATE_LIMIT_POLICY, policies);
            insert(headers, RATE_LIMIT, decision.limit_header());
            if has_legacy_headers {
                for (name, value) in response::legacy_headers(&decision) {
                    insert(headers, HeaderName::from_static(name), value);
                }
            }
        }
        match permit {
            None => answer,
            Some(permit) => answer.map(|body| {
                Body::new(Holding {
                    body,
                    permit: Some(permit),
                })
            }),
        }
    }
}

/// Nothing for a list without members (RFC 9651, section 3.1): where nothing could be counted, nothing is told.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if value.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn key(state: &State, limit: &RouteLimit, asked: &Asked<'_>, caller: &Caller<'_>) -> Key {
    let naming = state.limiter.naming();
    let named = match &limit.key {
        KeySource::Caller => None,
        KeySource::Header(name) => {
            let mut lines = asked.head.headers.get_all(name).iter();
            // Two lines would be one more way to be somebody else.
            match (lines.next(), lines.next()) {
                (Some(line), None) => Some(Key::of_bytes("header", line.as_bytes(), naming)),
                _ => None,
            }
        }
        KeySource::Expression(expression) => {
            let head = asked.head;
            let facts = Facts {
                claims: &|| access::claims(asked.principal),
                params: asked.params,
                query: head.uri.query(),
                headers: &head.headers,
                method: &head.method,
                path: &below(head.uri.path(), asked.mount_length),
            };
            let key = expression.key(&facts).ok();
            key.map(|key| Key::of_name("expression", &key, naming))
        }
    };
    named.unwrap_or_else(|| limit.policy.key_of(caller, naming))
}

/// An answer that holds a place among the calls in progress until it is over.
struct Holding {
    body: Body,
    permit: Option<Permit>,
}

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.permit = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
