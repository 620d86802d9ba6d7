//! The pipeline: what happens to every request, in order, each step with its reason.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Body;
use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt;
use tracing::{Instrument as _, field::Empty};

use crate::gateway::access_log::AccessRecord;
use crate::gateway::{State, audit, body, dispatch, headers, response};
use crate::http::{ClientAddress, Problem};
use crate::ids::RequestId;
use crate::ledger::{actor, within};
use crate::plugins::is_within;
use crate::services::blobs::LINK_PATH;

/// How long the host's own surface may take at least.
const OWN_TIME: Duration = Duration::from_secs(600);

/// Everything that answers on one listener.
#[derive(Clone)]
pub struct Gateway {
    state: Arc<State>,
    /// The host's own surface: `/_gantry/`, `/api/auth/`, health and metrics.
    own: axum::Router,
    /// Where that surface is. These paths never reach a plugin. Nothing means everywhere.
    own_paths: Option<Arc<[String]>>,
}

/// Who a request is and where it comes from; made by the first steps, read by the later ones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub id: RequestId,
    pub began: Instant,
    /// The client, through trusted proxies only.
    pub client: std::net::IpAddr,
    /// Whether the client came by TLS, as a trusted proxy says.
    pub is_https: bool,
}

impl Gateway {
    /// A gateway that serves `own` at `own_paths` and plugins everywhere else.
    pub fn new(state: State, own: axum::Router, own_paths: Arc<[String]>) -> Self {
        Self {
            state: Arc::new(state),
            own,
            own_paths: Some(own_paths),
        }
    }

    /// A gateway that serves `own` and no plugins.
    pub fn without_plugins(state: State, own: axum::Router) -> Self {
        Self {
            state: Arc::new(state),
            own,
            own_paths: None,
        }
    }

    /// Answers one request.
    pub async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        let state = &*self.state;
        // 1  An id and a clock, so that everything after can be found and timed.
        // 2  The client's address: limits and logs count by it, so only trusted proxies may tell it.
        let arrival = Arrival {
            id: RequestId::new(),
            began: Instant::now(),
            client: state.config.trusted_proxies.client(peer, request.headers()),
            is_https: state
                .config
                .trusted_proxies
                .is_https(peer, request.headers()),
        };
        let mut record = AccessRecord::begin(&arrival.id, arrival.client, &request);
        // 3  A guard: a bug in the host is a 500, not a dead connection.
        let answer = AssertUnwindSafe(self.route(arrival, request, &mut record))
            .catch_unwind()
            .await;
        let mut answer = answer.unwrap_or_else(|_| {
            let problem = Problem::internal(&"a panic; its message is on standard error");
            response::of_problem(problem.with_request_id(arrival.id))
        });
        // 4  The headers that every answer has.
        headers::finish(answer.headers_mut(), &arrival.id);
        if arrival.is_https {
            state.security.host(answer.headers_mut());
        }
        // 5  One line in the access log, written on the way out because it tells the outcome.
        if let Some(reason) = answer.extensions().get() {
            record.reason(reason);
        }
        audit::count(state, arrival, answer.status());
        record.end(
            &state.access_log,
            answer.status().as_u16(),
            arrival.began.elapsed(),
        );
        answer
    }

    async fn route(
        &self,
        arrival: Arrival,
        request: Request<Incoming>,
        record: &mut AccessRecord,
    ) -> Response<Body> {
        // 6  Bounds on the head, before anybody works with it.
        if let Err(problem) = headers::check(&request, &self.state.config) {
            return response::of_problem(problem.with_request_id(arrival.id));
        }
        // 7  The host's own surface comes before plugins: no plugin can stand in for the login.
        if self.is_own(request.uri().path()) {
            // What is logged on the way says whose request it was; plugins have logs of their own.
            let span =
                tracing::info_span!("request", request.id = %arrival.id, principal.id = Empty);
            let answer = self.answer_itself(arrival, request).instrument(span);
            let answer = async { (answer.await, actor()) };
            let (answer, actor) = within(audit::cause_of(arrival), answer).await;
            if let Some(actor) = actor.filter(|actor| !actor.id.is_empty()) {
                record.principal(&actor.id);
            }
            return answer;
        }
        // 8  All that has to do with one plugin: find, authenticate, authorize, limit, read, call.
        match dispatch::dispatch(&self.state, arrival, request, record).await {
            Ok(answer) => answer,
            Err(problem) => response::of_problem(problem.with_request_id(arrival.id)),
        }
    }

    fn is_own(&self, path: &str) -> bool {
        let Some(places) = &self.own_paths else {
            return true;
        };
        places.iter().any(|place| is_within(path, place))
    }

    async fn answer_itself(&self, arrival: Arrival, request: Request<Incoming>) -> Response<Body> {
        let version = request.version();
        let mut request = request.map(Body::new);
        let tried = audit::Tried::of(&request);
        request.extensions_mut().insert(arrival);
        request
            .extensions_mut()
            .insert(ClientAddress(arrival.client));
        let limit = time_for(request.uri().path(), self.state.config.request_timeout());
        let answer = self.own.clone().oneshot(request);
        let answer = match limit {
            Some(limit) => tokio::time::timeout(limit, answer).await,
            None => Ok(answer.await),
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(never)) => match never {},
            Err(_) => response::of_problem(Problem::new(
                http::StatusCode::SERVICE_UNAVAILABLE,
                "host.deadline_exceeded",
                "the host did not answer in time",
            )),
        };
        let answer = response::complete(answer, arrival.id).await;
        tried.tell(&self.state, &answer);
        let held = body::hold_whole(&self.state.answers, arrival.client, version, answer).await;
        held.unwrap_or_else(|problem| response::of_problem(problem.with_request_id(arrival.id)))
    }
}

/// How long the host's own surface may take for an answer. Uploads and long polls have bounds of their own, so this one is
/// wide. A file that is sent by a link may take as long as one that is sent to its route: as long as it comes fast enough.
fn time_for(path: &str, request_timeout: Duration) -> Option<Duration> {
    let is_link = path.starts_with(LINK_PATH);
    (!is_link).then(|| request_timeout.max(OWN_TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_may_take_as_long_as_their_bytes_come() {
        let usual = Duration::from_secs(30);
        for (path, wanted) in [
            ("/_gantry/blobs/gallery/papers/1", None),
            ("/_gantry/blobs", Some(OWN_TIME)),
            ("/_gantry/api/v1/deployments", Some(OWN_TIME)),
            ("/api/auth/login", Some(OWN_TIME)),
        ] {
            assert_eq!(time_for(path, usual), wanted, "{path}");
        }
        let long = Duration::from_secs(3600);
        assert_eq!(time_for("/healthz", long), Some(long));
    }
}
