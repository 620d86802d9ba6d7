//! Who is behind what a task does. It travels with the task, so that whoever changes rows does not have to be told.

use std::{cell::RefCell, net::IpAddr};

use tracing::{Instrument as _, Span};

use crate::ids::RequestId;

/// Somebody who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `user`, `api-key`, `service-account`, `plugin`, `anonymous` or `host`.
    pub kind: &'static str,
    /// Empty for `anonymous` and `host`.
    pub id: String,
}

impl Actor {
    /// The host, of its own accord.
    pub(super) fn host() -> Self {
        Self {
            kind: "host",
            id: String::new(),
        }
    }
}

/// What a request is known by, and who has sent it as soon as that is known.
#[derive(Debug, Clone, Default)]
pub struct Cause {
    pub actor: Option<Actor>,
    pub address: Option<IpAddr>,
    pub request_id: Option<RequestId>,
}

tokio::task_local! {
    static CAUSE: RefCell<Cause>;
}

/// Does some work on behalf of somebody.
pub async fn within<F: Future>(cause: Cause, work: F) -> F::Output {
    CAUSE.scope(RefCell::new(cause), work).await
}

/// Work that goes on in a task of its own, on behalf of whoever is behind this one; what it logs belongs to the same request.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    within(cause(), work.instrument(Span::current()))
}

/// Says who is behind the current task, now that it is known. Nothing happens outside of [`within`].
pub fn acting_as(kind: &'static str, id: &str) {
    Span::current().record("principal.id", id);
    let id = id.to_owned();
    // Outside of a request the host acts by itself.
    let _ = CAUSE.try_with(|cause| cause.borrow_mut().actor = Some(Actor { kind, id }));
}

/// Who is behind the current task, as far as somebody has said.
pub fn actor() -> Option<Actor> {
    CAUSE
        .try_with(|cause| cause.borrow().actor.clone())
        .ok()
        .flatten()
}

/// Who is behind the current task, and what else is known of it.
pub(super) fn cause() -> Cause {
    let known = CAUSE.try_with(|cause| cause.borrow().clone());
    known.unwrap_or_else(|_| Cause {
        actor: Some(Actor::host()),
        ..Cause::default()
    })
}
