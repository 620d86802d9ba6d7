//! Pages of other origins (CORS): answers preflights without waking the plugin, and tells browsers which answers a page may
//! read. The decision was made with the table.

use std::sync::Arc;

use axum::body::Body;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};

use crate::plugins::cors::CorsPolicy;
use crate::plugins::routes::{Route, RouteTable};

/// What only the host says, where it says anything.
const OWN: [HeaderName; 8] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
    HeaderName::from_static("timing-allow-origin"),
];

/// The answer to a preflight of a route with a policy, and that route. Other requests of `OPTIONS` go on.
pub(super) fn preflight<'t>(
    table: &'t RouteTable,
    path: &str,
    head: &Parts,
) -> Option<(&'t Arc<Route>, Response<Body>)> {
    if head.method != Method::OPTIONS {
        return None;
    }
    let origin = head.headers.get(header::ORIGIN)?;
    let asked = head.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let asked = Method::from_bytes(asked.as_bytes()).ok()?;
    let route = table.find_in_any_version(&asked, path)?;
    let policy = route.cors.as_deref()?;
    let methods: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
    Some((route, permit(policy, &methods, head, origin)))
}

/// The answer to a preflight of something that takes these methods.
pub(super) fn permit(
    policy: &CorsPolicy,
    methods: &[&str],
    head: &Parts,
    origin: &HeaderValue,
) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(
        header::VARY,
        HeaderValue::from_static(
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ),
    );
    if let Some(allowed) = allowed(policy, head, origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if let Ok(methods) = HeaderValue::try_from(methods.join(", ")) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let allowed = policy.headers.clone();
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        let max_age = policy.max_age.clone();
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age);
        allow_credentials(policy, headers);
    }
    answer
}

/// Writes onto an answer which pages may read it; of errors, too, so that a page learns why.
pub(super) fn apply(policy: &CorsPolicy, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    for name in &OWN {
        headers.remove(name);
    }
    // What is cached for one origin must not be given to another.
    if !policy.is_for_all() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    let Some(allowed) = origin.and_then(|origin| policy.allows(origin)) else {
        return;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    let exposed = policy.expose.clone();
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    allow_credentials(policy, headers);
}

/// Several origins are none: which of them counts would be a matter of taste.
fn allowed(policy: &CorsPolicy, head: &Parts, origin: &HeaderValue) -> Option<HeaderValue> {
    let is_one = head.headers.get_all(header::ORIGIN).iter().count() == 1;
    is_one.then(|| policy.allows(origin)).flatten()
}

fn allow_credentials(policy: &CorsPolicy, headers: &mut HeaderMap) {
    if policy.credentials {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
    }
}
