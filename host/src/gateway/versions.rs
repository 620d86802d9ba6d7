//! Versions of APIs on the way of a request: which one it means, what its answer says about its age, and that a route
//! whose time is over is gone. What counts is computed with the table; here it is only told.

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};

use crate::auth::Principal;
use crate::gateway::State;
use crate::gateway::credentials::Asking;
use crate::gateway::layers::Arrival;
use crate::http::Problem;
use crate::plugins::registry::LivePlugin;
use crate::plugins::routes::{Route, VersionMistake};
use crate::plugins::versions::{Notice, Versioning};

/// Tells the plugin which version is meant, whatever the client has sent: with a default, or in a media type, it would have
/// to find out by itself.
pub(super) fn tell_plugin(plugin: &LivePlugin, route: &Route, headers: &mut HeaderMap) {
    let version = route.versioned.as_ref().and_then(|it| it.version.as_ref());
    match (version, plugin.routes.versioning()) {
        (Some((name, value)), _) => {
            headers.insert(name, value.clone());
        }
        (None, Some(versioning)) => {
            headers.remove(&versioning.header);
        }
        (None, None) => {}
    }
}

/// What the answer says about the age of its route.
pub(super) fn notice(
    plugin: &LivePlugin,
    route: &Route,
    path: &str,
    params: &[(String, String)],
) -> Option<Notice> {
    let retirement = route.versioned.as_ref()?.retirement.as_ref()?;
    Some(retirement.notice(&plugin.mount, path, params))
}

/// Counts who still calls a route that is deprecated.
pub(super) fn count(state: &State, route: &Route, principal: Option<&Principal>) {
    let versioned = route.versioned.as_ref();
    if let Some(retirement) = versioned.and_then(|versioned| versioned.retirement.as_ref()) {
        retirement.callers.count(principal, state.clock.now_ms());
    }
}

/// Refuses a request to a route whose time is over. Whoever it is learns so, with credentials or without.
pub(super) fn refuse_gone(
    state: &State,
    arrival: Arrival,
    plugin: &LivePlugin,
    route: &Route,
    head: &Parts,
    params: &[(String, String)],
) -> Result<(), Problem> {
    let versioned = route.versioned.as_ref();
    let Some(retirement) = versioned.and_then(|versioned| versioned.retirement.as_ref()) else {
        return Ok(());
    };
    if !retirement.is_over(state.clock.now_ms()) {
        return Ok(());
    }
    let principal = Asking::of(head, arrival.client)
        .principal(&state.auth)
        .ok()
        .flatten();
    count(state, route, principal.as_deref());
    let successor = retirement.successor_of(&plugin.mount, head.uri.path(), params);
    let detail = match (successor, retirement.version_instead()) {
        (Some(path), _) => format!("this route is gone; use `{path}`"),
        (None, Some(version)) => format!("this version is gone; ask for `{version}`"),
        (None, None) => "this route is gone, and nothing stands in its place".to_owned(),
    };
    Err(Problem::new(StatusCode::GONE, "route.gone", detail))
}

/// Puts what is to be said about version and age into an answer.
pub(super) fn finish(route: &Route, notice: Option<Notice>, answer: &mut Response<Body>) {
    let Some(versioned) = &route.versioned else {
        return;
    };
    let headers = answer.headers_mut();
    if let Some(vary) = &versioned.vary {
        headers.append(header::VARY, HeaderValue::from(vary.clone()));
        if let Some((name, value)) = &versioned.version {
            headers.insert(name, value.clone());
        }
    }
    for (name, value) in notice.into_iter().flatten() {
        // Links may be the plugin's own, too; what the host says of the age is its alone.
        if name == header::LINK {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
}

/// A request that means no version that there is.
pub(super) fn explain(mistake: VersionMistake, versioning: &Versioning) -> Problem {
    let known = versioning.names.join("`, `");
    let how = match &versioning.media_type {
        None => format!("send `{}` with one of `{known}`", versioning.header),
        Some(base) => format!("accept `{base}.VERSION+json` with one of `{known}`"),
    };
    match (mistake, &versioning.media_type) {
        (VersionMistake::Missing, _) => Problem::new(
            StatusCode::BAD_REQUEST,
            "route.version_missing",
            format!("the request does not say which version it means; {how}"),
        ),
        (VersionMistake::Unknown, Some(_)) => Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "route.version_unknown",
            format!("there is no such version; {how}"),
        ),
        (VersionMistake::Unknown, None) => Problem::new(
            StatusCode::BAD_REQUEST,
            "route.version_unknown",
            format!("there is no such version; {how}"),
        ),
    }
}
