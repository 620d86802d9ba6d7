//! Requests that change something and carry an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the plugin is
//! called once, and whoever sends the request again gets the answer of the first time.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::gateway::cache::Passing;
use crate::gateway::dispatch::{NotDone, ask, name_of_caller};
use crate::gateway::response;
use crate::http::Problem;
use crate::idempotency::{Asked, Claim, Outcome, Verdict};
use crate::plugins::cached::add;
use crate::plugins::manifest::Idempotency;
use crate::plugins::rollout::Choice;
use crate::runtime::{self, CallContext, HttpCall, RequestBody, Usage};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The answer to a request on a route whose requests are done once.
pub(super) async fn answer(
    passing: &Passing<'_>,
    mode: Idempotency,
    (context, call): (CallContext, HttpCall),
    used: &mut Option<Usage>,
) -> Response<runtime::Body> {
    let Passing {
        state,
        arrival,
        choice,
        route,
        ..
    } = *passing;
    let refuse = |problem: Problem| response::of_plugin(problem.with_request_id(arrival.id));
    let key = match key(&context.headers) {
        Ok(Some(key)) => key,
        Ok(None) if mode == Idempotency::Optional => {
            let who = context.principal.clone();
            return ask(state, arrival, choice, route, who, (context, call), used).await;
        }
        Ok(None) => return refuse(missing()),
        Err(problem) => return refuse(problem),
    };
    let RequestBody::Whole(body) = &call.body else {
        return refuse(Problem::internal(
            &"a body that flows on a route whose requests are done once",
        ));
    };
    let caller = caller(passing, &context);
    let asked = Asked {
        plugin: choice.plugin.name(),
        id: id(passing, &caller, &key),
        caller: &caller,
        is_stranger: context.principal.is_none(),
        fingerprint: fingerprint(&context, &call, body),
        time: context.deadline.saturating_duration_since(Instant::now()),
    };
    let claim = match state.idempotency.begin(&asked).await {
        Ok(Verdict::Do(claim)) => claim,
        Ok(Verdict::Done(outcome)) => return replay(outcome, &arrival.id.to_string()),
        Ok(verdict) => return refuse(explain(&verdict)),
        Err(error) => return refuse(Problem::internal(&error)),
    };
    let plugin = Arc::clone(choice.plugin);
    let (is_counted, is_named) = (choice.is_counted, choice.is_named);
    let (done, route) = (state.clone(), Arc::clone(route));
    // To its end, whether the client waits or not: else sending it again would do it again.
    let work = state.idempotency.run(async move {
        let choice = Choice {
            plugin: &plugin,
            is_counted,
            is_named,
        };
        let (deadline, mut used) = (context.deadline, None);
        let who = context.principal.clone();
        let asked = (context, call);
        let mut answer = ask(&done, arrival, &choice, &route, who, asked, &mut used).await;
        let bytes_max = done.idempotency.config().answer_bytes_max;
        settle(claim, &mut answer, bytes_max, deadline).await;
        (answer, used)
    });
    match work.await {
        Ok((answer, usage)) => {
            *used = usage;
            answer
        }
        Err(error) => refuse(Problem::internal(&error)),
    }
}

/// Keeps what came of a request, or gives it back if nothing was done.
async fn settle(
    claim: Claim,
    answer: &mut Response<runtime::Body>,
    bytes_max: usize,
    deadline: Instant,
) {
    let status = answer.status();
    // The plugin was not called, or says that it has done nothing.
    let is_undone = answer.extensions().get::<NotDone>().is_some()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
        );
    if is_undone {
        return claim.release().await;
    }
    let Ok(body) = answer.body_mut().gather(bytes_max, deadline).await else {
        return claim.settle(status.as_u16(), None).await;
    };
    let mut headers = answer.headers().clone();
    // Cookies are for whoever was there, not for rows.
    for name in [header::SET_COOKIE, header::DATE] {
        headers.remove(name);
    }
    claim.settle(status.as_u16(), Some((&headers, &body))).await;
}

/// The key of a request, if it has one: a string as structured fields have it, or the same without quotation marks.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.to_str().ok().and_then(|text| parse(text.trim()));
    match key {
        Some(key) if values.next().is_none() => Ok(Some(key)),
        _ => {
            let detail = format!(
                "`Idempotency-Key` has one value of 1 to {KEY_BYTES_MAX} visible ASCII characters, as it is or in \
                 quotation marks"
            );
            Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "idempotency.key_invalid",
                detail,
            ))
        }
    }
}

fn parse(text: &str) -> Option<String> {
    let key = match text.strip_prefix('"') {
        None => {
            let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\",;".contains(&byte);
            text.bytes().all(is_plain).then(|| text.to_owned())?
        }
        Some(rest) => {
            let mut key = String::new();
            let mut chars = rest.strip_suffix('"')?.chars();
            while let Some(c) = chars.next() {
                key.push(match c {
                    '\\' => chars.next().filter(|c| ['"', '\\'].contains(c))?,
                    '"' => return None,
                    ' '..='~' => c,
                    _ => return None,
                });
            }
            key
        }
    };
    (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(key)
}

/// Whose request it is.
fn caller(passing: &Passing<'_>, context: &CallContext) -> String {
    match context.principal.as_deref() {
        Some(who) => format!("{} {}", who.kind.as_str(), who.id),
        None => name_of_caller(None, passing.arrival.client),
    }
}

/// Whose request it is, where it goes, and its key: the same key of another caller or on another route is another one.
fn id(passing: &Passing<'_>, caller: &str, key: &str) -> String {
    let mut digest = Sha256::new();
    let (plugin, route) = (passing.choice.plugin, passing.route);
    for piece in [
        "once 1",
        plugin.name().as_str(),
        &route.pattern,
        route.version.as_deref().unwrap_or_default(),
        caller,
        key,
    ] {
        add(&mut digest, piece.as_bytes());
    }
    hex::encode(digest.finalize())
}

/// What is asked for: the same key must mean the same.
fn fingerprint(context: &CallContext, call: &HttpCall, body: &Bytes) -> String {
    let mut digest = Sha256::new();
    let path = call.uri.path_and_query().map_or("", |path| path.as_str());
    let content_type = context.headers.get(header::CONTENT_TYPE);
    for piece in [
        call.method.as_str().as_bytes(),
        path.as_bytes(),
        content_type.map_or(b"".as_slice(), HeaderValue::as_bytes),
        body,
    ] {
        add(&mut digest, piece);
    }
    hex::encode(digest.finalize())
}

/// The answer of the first time. A problem in it names this request, because that is the one that the client can look up.
fn replay(outcome: Outcome, request_id: &str) -> Response<runtime::Body> {
    let Outcome {
        status,
        headers,
        mut body,
    } = outcome;
    let content_type = headers.get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value == "application/problem+json")
        && let Ok(serde_json::Value::Object(mut problem)) = serde_json::from_slice(&body)
        && problem.contains_key("request_id")
    {
        problem.insert("request_id".to_owned(), request_id.into());
        body = serde_json::to_vec(&problem).unwrap_or_default().into();
    }
    let mut answer = Response::new(runtime::Body::Whole(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    *answer.headers_mut() = headers;
    let replayed = HeaderValue::from_static("true");
    answer.headers_mut().insert(REPLAYED, replayed);
    answer
}

fn missing() -> Problem {
    let detail = "this route takes requests with an `Idempotency-Key` only; send one that no other request has";
    Problem::new(StatusCode::BAD_REQUEST, "idempotency.key_missing", detail)
}

/// Why a request is not done.
fn explain(verdict: &Verdict) -> Problem {
    match verdict {
        Verdict::Reused => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency.key_reused",
            "this key was sent with another request; a key stands for one method, path and body",
        ),
        Verdict::AnswerNotKept(status) => {
            let detail = format!(
                "this request was done and answered with {status}; the answer was too long to be kept, so look at what \
                 came of it"
            );
            Problem::new(StatusCode::CONFLICT, "idempotency.answer_not_kept", detail)
        }
        Verdict::Full => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "idempotency.full",
            "the plugin has as many requests in store as it may, or of this caller; try again later",
        )
        .with_retry_after_s(60),
        Verdict::InProgress(left) => Problem::new(
            StatusCode::CONFLICT,
            "idempotency.in_progress",
            "this request is being done; send it again later to get its answer",
        )
        .with_retry_after_s(left.as_secs().clamp(1, 5)),
        Verdict::Do(_) | Verdict::Done(_) => Problem::internal(&"a request that is to be done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_string_with_or_without_its_quotation_marks() {
        let long = "k".repeat(255);
        let longer = "k".repeat(256);
        for (text, expected) in [
            (
                "8e03978e-40d5-43e8-bc93-6894a57f9324",
                Some("8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ),
            ("\"a b\"", Some("a b")),
            (r#""a\"b\\""#, Some("a\"b\\")),
            (&long, Some(long.as_str())),
            (&longer, None),
            ("", None),
            ("\"\"", None),
            ("\"", None),
            ("a b", None),
            ("a, b", None),
            ("a\"b", None),
            (r#""a\n""#, None),
            (r#""a"b""#, None),
            ("\"a\\\"", None),
            ("\"\u{e9}\"", None),
        ] {
            assert_eq!(parse(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn two_keys_are_not_one() {
        let mut headers = HeaderMap::new();
        assert_eq!(key(&headers).unwrap(), None);
        headers.append(KEY, HeaderValue::from_static("a"));
        assert_eq!(key(&headers).unwrap().as_deref(), Some("a"));
        headers.append(KEY, HeaderValue::from_static("b"));
        assert!(key(&headers).is_err());
    }
}
