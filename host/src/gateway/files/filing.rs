//! The way of a request to files past the filters of its route.

use std::{sync::Arc, time::Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::Incoming;

use super::Visit;
use crate::auth::Principal;
use crate::gateway::dispatch::for_guest;
use crate::gateway::filters::{Passage, Way};
use crate::gateway::layers::Arrival;
use crate::gateway::{State, body};
use crate::http::Problem;
use crate::plugins::registry::LivePlugin;
use crate::plugins::routes::{Filed, Mounted, Route};
use crate::runtime::{self, CallContext, HttpCall, RequestBody};

/// A request to a route that the host itself answers.
pub(in crate::gateway) struct Filing<'a> {
    pub(in crate::gateway) state: &'a State,
    pub(in crate::gateway) arrival: Arrival,
    pub(in crate::gateway) mounted: &'a Mounted,
    pub(in crate::gateway) plugin: &'a Arc<LivePlugin>,
    pub(in crate::gateway) route: &'a Arc<Route>,
    pub(in crate::gateway) filed: &'a Filed,
    pub(in crate::gateway) depth: u32,
}

impl Filing<'_> {
    /// Lets the filters of the route see the head of the request, and that of the answer. Bodies flow past them, so that one
    /// which wants to see them stands in the way of all.
    pub(in crate::gateway) async fn answer(
        &self,
        params: Vec<(String, String)>,
        principal: Option<Arc<Principal>>,
        mut head: http::request::Parts,
        incoming: Incoming,
    ) -> Result<Response<Body>, Problem> {
        let (state, arrival, plugin) = (self.state, self.arrival, self.plugin);
        let chain = self.mounted.filters_of(plugin).of(self.route);
        let bytes_max = chain.map_or(usize::MAX, |chain| chain.body_bytes_max);
        let Some(chain) = chain else {
            return Ok(self
                .serve(&head, &params, principal.as_deref(), bytes_max, incoming)
                .await);
        };
        if chain.reads_requests || chain.reads_answers() {
            let detail =
                "a filter before this path wants to see bodies, and files flow past filters";
            let status = StatusCode::NOT_IMPLEMENTED;
            return Err(Problem::new(status, "filter.files_flow", detail));
        }
        let context = CallContext {
            request_id: arrival.id,
            trigger: "http",
            route: Some(Arc::clone(&self.route.pattern)),
            path_params: params.clone(),
            client_address: Some(arrival.client),
            principal: principal.clone(),
            headers: for_guest(std::mem::take(&mut head.headers), &head.uri),
            depth: self.depth,
            deadline: Instant::now() + state.config.request_timeout(),
        };
        let call = HttpCall {
            method: head.method.clone(),
            uri: head.uri.clone(),
            mount_length: plugin.mount.path.len(),
            body: RequestBody::Whole(Bytes::new()),
            stream: None,
            target: None,
        };
        let mut passage = Passage::new(state, arrival, plugin, chain, &context, bytes_max);
        let (answer, body) = match Box::pin(passage.before(context, call, None)).await {
            Way::On(on) => {
                head.headers = on.0.headers;
                let served = self.serve(&head, &params, principal.as_deref(), bytes_max, incoming);
                let (answer, body) = served.await.into_parts();
                (Response::from_parts(answer, Bytes::new()), Some(body))
            }
            Way::Answered(answer) => {
                let answered = Box::pin(passage.after(answer)).await;
                return body::answer(&state.answers, arrival.client, head.version, answered);
            }
        };
        let status = answer.status();
        let answer = Box::pin(passage.after(answer.map(runtime::Body::Whole))).await;
        match (answer.body(), body) {
            // Its head may be another one now; its body is not.
            (runtime::Body::Whole(bytes), Some(body))
                if bytes.is_empty() && answer.status() == status =>
            {
                Ok(answer.map(|_| body))
            }
            _ => body::answer(&state.answers, arrival.client, head.version, answer),
        }
    }

    async fn serve(
        &self,
        head: &http::request::Parts,
        params: &[(String, String)],
        principal: Option<&Principal>,
        bytes_max: usize,
        body: Incoming,
    ) -> Response<Body> {
        let bytes_max = (bytes_max != usize::MAX).then_some(bytes_max as u64);
        let visit = Visit {
            state: self.state,
            arrival: self.arrival,
            plugin: self.plugin,
            route: self.route,
            filed: self.filed,
            params,
            principal,
            head,
            body_bytes_max: bytes_max.unwrap_or(u64::MAX),
            depth: self.depth,
        };
        Box::pin(super::answer(&visit, body)).await
    }
}
