//! What the front doors tell the audit trail: who was turned away, and what operators tried that did not work.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};

use crate::auth::Principal;
use crate::gateway::State;
use crate::gateway::layers::Arrival;
use crate::http::{Problem, Reason};
use crate::ledger::{Cause, Event};
use crate::plugins::registry::LivePlugin;
use crate::plugins::routes::Route;

/// Below this, requests that change something are changes of the host.
const ADMIN: &str = "/_gantry/";
/// Segments of a path that stand in the trail: what comes behind may be anything.
const SEGMENTS_MAX: usize = 7;
/// Turned away, but in the course of things, or recorded where it is known better.
const USUAL: [&str; 12] = [
    "auth.required",
    "auth.token_expired",
    "auth.credentials_wrong",
    "auth.account_disabled",
    "auth.totp_required",
    "auth.totp_wrong",
    "auth.code_wrong",
    "auth.refresh_invalid",
    "auth.refresh_reused",
    "auth.session_ended",
    "auth.registration_off",
    "auth.reset_off",
];

/// Who a request is, for what is done on its behalf.
pub(super) fn cause_of(arrival: Arrival) -> Cause {
    Cause {
        actor: None,
        address: Some(arrival.client),
        request_id: Some(arrival.id),
    }
}

/// What of a request to the host itself may have to be told.
pub(super) struct Tried {
    method: Method,
    path: String,
}

impl Tried {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let segments = request.uri().path().split('/').take(SEGMENTS_MAX);
        Self {
            method: request.method().clone(),
            path: segments.collect::<Vec<_>>().join("/"),
        }
    }

    /// Tells of an answer that turns somebody away, or says that a change was not made. Still on behalf of who asked.
    pub(super) fn tell(self, state: &State, answer: &Response<Body>) {
        let (Some(ledger), Some(reason)) = (&state.ledger, answer.extensions().get::<Reason>())
        else {
            return;
        };
        let Self { method, path } = self;
        let code = &reason.code;
        let is_change = !method.is_safe() && path.starts_with(ADMIN);
        if let Some(action) = refusal_of(answer.status(), code) {
            ledger.note(Event::refused(
                action,
                format_args!("{method} {path}"),
                code,
            ));
        } else if is_change && answer.status() != StatusCode::UNAUTHORIZED {
            ledger.note(Event::failed(
                "admin.failed",
                format_args!("{method} {path}"),
                code,
            ));
        }
    }
}

/// Tells of somebody who may not call a route of a plugin.
pub(super) fn refused(
    state: &State,
    arrival: Arrival,
    plugin: &LivePlugin,
    route: &Route,
    principal: Option<&Arc<Principal>>,
    problem: Problem,
) -> Problem {
    let status = StatusCode::from_u16(problem.status).unwrap_or_default();
    if let (Some(ledger), Some(action)) = (&state.ledger, refusal_of(status, &problem.code)) {
        let target = format!("{}{}", plugin.name(), route.pattern);
        let event = Event::refused(action, target, &problem.code);
        let event = match principal {
            Some(principal) => event.by(principal.kind.as_str(), &principal.id),
            None => event.by("anonymous", ""),
        };
        ledger.note(event.of(Some(arrival.client), arrival.id));
    }
    problem
}

/// Counts who is turned away, whatever it was.
pub(super) fn count(state: &State, arrival: Arrival, status: StatusCode) {
    if matches!(status.as_u16(), 401 | 403 | 404)
        && let Some(ledger) = &state.ledger
    {
        ledger.note_turned_away(arrival.client, status.as_u16());
    }
}

fn refusal_of(status: StatusCode, code: &str) -> Option<&'static str> {
    match status {
        _ if USUAL.contains(&code) => None,
        StatusCode::UNAUTHORIZED => Some("credential.refused"),
        StatusCode::FORBIDDEN => Some("permission.refused"),
        _ => None,
    }
}
