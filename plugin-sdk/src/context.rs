//! This call: what the host knows about it. None of it can be forged by a client.

use std::time::Duration;

use crate::host::invocation;

/// The id that is in the `x-request-id` header, the access log and every problem.
pub fn request_id() -> String {
    invocation::request_id()
}

/// The W3C trace context of this call, to be passed on to others.
pub fn traceparent() -> Option<String> {
    invocation::traceparent()
}

/// What caused the call: `http`, or `filter` in a filter of such a call; later also `job`, `schedule` and `event`. Expect new words.
pub fn trigger() -> String {
    invocation::trigger()
}

/// The pattern of the matched route, for example `/orders/{id}`, without the mount path.
pub fn route() -> Option<String> {
    invocation::route()
}

/// One parameter of the route's pattern, percent-decoded.
pub fn path_param(name: &str) -> Option<String> {
    invocation::path_param(name)
}

/// All parameters of the route's pattern, in the order of the pattern.
pub fn path_params() -> Vec<(String, String)> {
    invocation::path_params()
}

/// The address of the client as the host sees it, through trusted proxies only.
pub fn client_address() -> Option<String> {
    invocation::client_address()
}

/// How much time is left before the host stops this call.
pub fn remaining() -> Duration {
    Duration::from_millis(invocation::remaining_ms())
}

/// 1 for the first try; higher when a job is tried again.
pub fn attempt() -> u32 {
    invocation::attempt()
}

/// The key under which repeating this call is safe, where there is one.
pub fn idempotency_key() -> Option<String> {
    invocation::idempotency_key()
}
