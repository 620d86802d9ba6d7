//! From what went wrong to what the client is told: the one list of causes and statuses.

use axum::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::auth::{PlatformPermission, Principal};
use crate::gateway::body;
use crate::http::Problem;
use crate::ids::{Label, PluginName, RequestId};
use crate::limits::{self, Decision};
use crate::plugins::breaker::Held;
use crate::plugins::registry::LivePlugin;
use crate::runtime::{self, BodyError, InvokeError};
use crate::services::{self, Kind};

/// A problem as an answer.
pub(super) fn of_problem(problem: Problem) -> Response<Body> {
    problem.into_http().map(Body::from)
}

/// The same where a plugin's answer would stand.
pub(super) fn of_plugin(problem: Problem) -> Response<runtime::Body> {
    problem.into_http().map(runtime::Body::Whole)
}

/// Nobody serves this path.
pub(super) fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "route.not_found",
        "nothing answers on this path",
    )
}

/// Plugins call plugins, too often.
pub(super) fn too_deep() -> Problem {
    let detail = "plugins call one another in a circle, or too many of them in a row";
    Problem::new(StatusCode::LOOP_DETECTED, "request.too_deep", detail)
}

/// The path cannot be read.
pub(super) fn invalid_path() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "request.invalid_path",
        "the path is not UTF-8 once it is percent-decoded",
    )
}

/// The path has routes, and none for this method; `OPTIONS` asks just that.
pub(super) fn method_not_allowed(
    method: &Method,
    methods: &[Method],
    id: RequestId,
) -> Response<Body> {
    let mut allow: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        allow.push("HEAD");
    }
    if !methods.contains(&Method::OPTIONS) {
        allow.push("OPTIONS");
    }
    let allow = allow.join(", ");
    let mut answer = if *method == Method::OPTIONS {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    } else {
        let detail = format!("this path takes {allow}");
        let problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "route.method_not_allowed",
            detail,
        );
        of_problem(problem.with_request_id(id))
    };
    if let Ok(allow) = HeaderValue::try_from(allow) {
        answer.headers_mut().insert(header::ALLOW, allow);
    }
    answer
}

/// Why a plugin gave no response. 502 and 504 mean the plugin, or that it was at work; 500 and 503 mean the host. What the plugin did wrong is for
/// the log: [`report`]; and for the caller, if that is an operator.
pub(super) fn explain(error: &InvokeError, caller: Option<&Principal>) -> Problem {
    let plugin_fault =
        |code: &'static str, detail: &str| Problem::new(StatusCode::BAD_GATEWAY, code, detail);
    match error {
        InvokeError::DeadlineExceeded { .. } => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "plugin.deadline_exceeded",
            "the plugin did not answer in time",
        ),
        InvokeError::CpuExceeded { .. } => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "plugin.cpu_exceeded",
            "the plugin used more processor time than it may",
        ),
        InvokeError::MemoryExceeded { .. } => plugin_fault(
            "plugin.memory_exceeded",
            "the plugin used more memory than it may",
        ),
        InvokeError::Trapped { .. } => {
            plugin_fault("plugin.trapped", "the plugin stopped abnormally")
        }
        InvokeError::InvalidResponse { .. } => plugin_fault(
            "plugin.invalid_response",
            "the plugin answered with something that is no valid response",
        ),
        InvokeError::Returned(error) if error.is_of_grants() => {
            let is_operator =
                |caller: &Principal| caller.require_platform(PlatformPermission::Read).is_ok();
            match caller.is_some_and(is_operator) {
                true => Problem::new(StatusCode::BAD_GATEWAY, NOT_GRANTED, clipped(error)),
                false => not_granted(),
            }
        }
        InvokeError::Returned(error) => returned(error),
        InvokeError::RequestBody(error) => body::explain(*error),
        InvokeError::ClientGone => body::explain(BodyError::Incomplete),
        InvokeError::Saturated { .. } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "host.saturated",
            "too many requests are in progress; try again",
        )
        .with_retry_after_s(1),
        // Not 503, which invites to send it again: it was at work.
        InvokeError::Retired => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "plugin.retired",
            "the version that was answering was replaced and has no more time to finish; what it has done is done",
        ),
        InvokeError::Host(_) => Problem::hidden(),
    }
}

const NOT_GRANTED: &str = "capability.not_granted";

/// Files are asked for, and the plugin was not given the bucket.
pub(super) fn bucket_not_granted(plugin: &PluginName, bucket: &Label, id: RequestId) -> Problem {
    tracing::error!(
        request.id = %id, plugin.name = %plugin,
        "Files of `{plugin}` were asked for, and the bucket `{bucket}` is not granted: `gantry plugin grant {plugin} blobs:{bucket}`"
    );
    not_granted()
}

/// What is asked for needs something that the plugin was not given.
fn not_granted() -> Problem {
    let detail = "the plugin was not given something that it needs for this; the logs say what, under this request id";
    Problem::new(StatusCode::BAD_GATEWAY, NOT_GRANTED, detail)
}

/// The text of a plugin's error, as far as it goes out.
fn clipped(error: &services::Error) -> String {
    error.message.chars().take(1000).collect()
}

/// Tells the host's log of a call that failed, and whose it was, unless that is the client's doing.
pub(super) fn report(
    error: &InvokeError,
    plugin: &LivePlugin,
    route: &str,
    id: RequestId,
    principal: Option<&Principal>,
) {
    let name = plugin.name();
    let principal = principal.map(|principal| &*principal.id);
    let cause = || match error {
        // What went wrong in the host is told to nobody else.
        InvokeError::Host(error) => one_line(&format!("{error:#}")),
        error => one_line(&error.to_string()),
    };
    match error {
        InvokeError::Returned(error) if !error.is_of_grants() => {}
        InvokeError::RequestBody(_) | InvokeError::ClientGone => {}
        // There is more to do than places to do it in, and nobody has made a mistake.
        InvokeError::Saturated { .. } | InvokeError::Retired => tracing::warn!(
            request.id = %id, principal.id = principal, plugin.name = %name, route, error.cause = %cause(),
            "An invocation of `{name}` was not made or not ended"
        ),
        _ => tracing::error!(
            request.id = %id, principal.id = principal, plugin.name = %name, route, error.cause = %cause(),
            "An invocation of `{name}` failed"
        ),
    }
}

/// Names of functions and headers are the plugin's to choose, and must not look like lines of the host's log.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// An error that the plugin returned of its own accord.
fn returned(error: &services::Error) -> Problem {
    let status = match error.kind {
        Kind::Denied if error.code == "auth.required" => StatusCode::UNAUTHORIZED,
        Kind::Denied => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Limit => StatusCode::TOO_MANY_REQUESTS,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => {
            // What failed inside is for the plugin's author, who finds it in the plugin's log.
            let detail = "the plugin failed; its log has the reason under this request id";
            return Problem::new(StatusCode::BAD_GATEWAY, "plugin.failed", detail);
        }
    };
    let is_code = |code: &str| {
        code.len() <= 100
            && code
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let code = if is_code(&error.code) {
        error.code.to_string()
    } else {
        "plugin.failed".to_owned()
    };
    let problem = Problem::new(status, code, clipped(error));
    match error.retry_after_ms {
        Some(ms) => problem.with_retry_after_s(ms.div_ceil(1000)),
        None if status == StatusCode::SERVICE_UNAVAILABLE => problem.with_retry_after_s(1),
        None => problem,
    }
}

/// The route keeps crashing, and calls are kept away from it.
pub(super) fn kept_away(held: Held) -> Problem {
    let retry_s = held.retry_after.as_millis().div_ceil(1000).max(1);
    let retry_s = u64::try_from(retry_s).unwrap_or(u64::MAX);
    let detail =
        format!("this part of the plugin keeps failing and has a rest; try again in {retry_s} s");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "plugin.held_off", detail)
        .with_retry_after_s(retry_s)
}

/// A limit was reached (RFC 9457 problem type of draft-ietf-httpapi-ratelimit-headers).
pub(crate) fn limited(decision: &Decision<'_>, has_legacy_headers: bool) -> Problem {
    let names: Vec<&str> = decision
        .violated()
        .map(|outcome| outcome.policy.name())
        .collect();
    let retry_s = decision.retry_after_s().unwrap_or(1).max(1);
    let detail = format!(
        "the limit `{}` is reached; try again in {retry_s} s",
        names.join("`, `")
    );
    let mut problem = Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "limit.quota_exceeded",
        detail,
    );
    problem.kind = "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned();
    problem.violated_policies = names.into_iter().map(str::to_owned).collect();
    problem.rate_limit = limit_headers(decision, has_legacy_headers);
    problem.with_retry_after_s(retry_s)
}

/// Nobody could say whether a limit was reached.
pub(crate) fn uncounted(error: &limits::Error) -> Problem {
    match error {
        limits::Error::Uncounted(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "limit.uncounted",
            error.to_string(),
        )
        .with_retry_after_s(1),
        _ => Problem::internal(error),
    }
}

/// How much is left, for clients that slow down by themselves. Nothing if only limits apply that clients do not learn of.
pub(crate) fn limit_headers(
    decision: &Decision<'_>,
    has_legacy_headers: bool,
) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if decision.outcomes().next().is_none() {
        return headers;
    }
    headers.push(("ratelimit-policy", decision.policy_header()));
    headers.push(("ratelimit", decision.limit_header()));
    if has_legacy_headers {
        headers.extend(legacy_headers(decision));
    }
    headers
}

/// The same for clients of the time before there was a standard.
pub(crate) fn legacy_headers(
    decision: &Decision<'_>,
) -> impl Iterator<Item = (&'static str, String)> + use<> {
    const NAMES: [&str; 3] = [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ];
    let values = decision.legacy_headers().into_iter().flatten();
    NAMES.into_iter().zip(values.map(|value| value.to_string()))
}

/// Most bytes of a problem of our own surface.
const PROBLEM_BYTES_MAX: usize = 64 << 10;

/// An answer of our own surface: an error that is no problem yet (a path that nobody serves, a body that is no JSON)
/// becomes one, and every problem gets its request id.
pub(super) async fn complete(answer: Response<Body>, id: RequestId) -> Response<Body> {
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, PROBLEM_BYTES_MAX)
        .await
        .unwrap_or_default();
    let is_problem = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == b"application/problem+json");
    let body = match serde_json::from_slice(&bytes) {
        Ok(serde_json::Value::Object(mut problem)) if is_problem => {
            problem.insert("request_id".to_owned(), id.to_string().into());
            serde_json::to_vec(&problem).unwrap_or_default()
        }
        _ => {
            let (code, detail) = match status {
                StatusCode::NOT_FOUND => {
                    ("route.not_found", "nothing answers on this path".to_owned())
                }
                StatusCode::METHOD_NOT_ALLOWED => (
                    "route.method_not_allowed",
                    "this path does not take this method".to_owned(),
                ),
                _ => (
                    "request.invalid",
                    String::from_utf8_lossy(&bytes).into_owned(),
                ),
            };
            let problem = Problem::new(status, code, detail).with_request_id(id);
            serde_json::to_vec(&problem).unwrap_or_default()
        }
    };
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    Response::from_parts(head, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_cannot_write_lines_into_the_hosts_log() {
        assert_eq!(
            one_line("wasm trap in `f\n2026-01-01 ERROR\u{1b}[2J`"),
            "wasm trap in `f 2026-01-01 ERROR [2J`"
        );
    }
}
