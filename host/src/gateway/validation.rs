//! What a route says of its requests, held against them before the plugin runs: parameters, media types, the schema of the
//! body. Answers are held against it only where plugins are developed and tested.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header, request::Parts};
use url::form_urlencoded;

use crate::gateway::State;
use crate::http::Problem;
use crate::http::json::does_not_fit;
use crate::http::problem::ProblemItem;
use crate::plugins::checks::{Checks, ParameterCheck};
use crate::plugins::manifest::Place;
use crate::plugins::registry::LivePlugin;
use crate::plugins::routes::Route;
use crate::plugins::schema::{Mismatch, json};
use crate::runtime;

/// Bodies from this size on are read and checked in the background.
const LARGE_BYTES: usize = 64 << 10;
/// Most mistakes that are told.
const ITEMS_MAX: usize = 32;

/// Checks everything but the body.
pub(super) fn check_head(
    checks: &Checks,
    head: &Parts,
    path_params: &[(String, String)],
    has_body: bool,
) -> Result<(), Problem> {
    if !checks.parameters.is_empty() {
        check_parameters(&checks.parameters, head, path_params)?;
    }
    if has_body && !checks.consumes.is_empty() {
        check_type(checks, &head.headers)?;
    }
    if checks.produces.is_empty() {
        return Ok(());
    }
    let accepts = Accepts::of(&head.headers);
    if checks
        .produces
        .iter()
        .any(|media_type| accepts.takes(media_type))
    {
        return Ok(());
    }
    let detail = format!("this path answers with `{}`", checks.produces.join("`, `"));
    let status = StatusCode::NOT_ACCEPTABLE;
    Err(Problem::new(status, "request.not_acceptable", detail))
}

/// Checks a body that is in memory.
pub(super) async fn check_body(
    state: &State,
    route: &Arc<Route>,
    bytes: &Bytes,
) -> Result<(), Problem> {
    let Some(checks) = &route.checks else {
        return Ok(());
    };
    if checks.body.is_none() {
        return Ok(());
    }
    if bytes.is_empty() {
        let detail = "the body is missing; send JSON";
        let status = StatusCode::BAD_REQUEST;
        return Err(Problem::new(status, "request.invalid_json", detail));
    }
    if bytes.len() < LARGE_BYTES {
        return read_and_check(checks, bytes, false);
    }
    // Closed never: the semaphore lives as long as the host.
    let _place = state.heavy.acquire().await;
    let (route, bytes) = (Arc::clone(route), bytes.clone());
    let check = move || match &route.checks {
        Some(checks) => read_and_check(checks, &bytes, true),
        None => Ok(()),
    };
    state.runtime.in_background(check).await
}

fn read_and_check(checks: &Checks, bytes: &[u8], is_large: bool) -> Result<(), Problem> {
    let Some(schema) = &checks.body else {
        return Ok(());
    };
    let value = json::read(bytes).map_err(|error| match error {
        json::Unreadable::NotJson(_) => Problem::new(
            StatusCode::BAD_REQUEST,
            "request.invalid_json",
            error.to_string(),
        ),
        json::Unreadable::TooMany => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request.body_too_large",
            error.to_string(),
        ),
    })?;
    let mistakes = schema.mismatches(&value, is_large);
    if mistakes.is_empty() {
        return Ok(());
    }
    let items = mistakes.into_iter().map(|mistake| ProblemItem {
        at: Some(mistake.pointer),
        detail: mistake.message,
        help: None,
    });
    Err(does_not_fit(items.collect()))
}

fn check_parameters(
    parameters: &[ParameterCheck],
    head: &Parts,
    path_params: &[(String, String)],
) -> Result<(), Problem> {
    let asks_query = parameters.iter().any(|check| check.place == Place::Query);
    let query = head.uri.query().filter(|_| asks_query).unwrap_or_default();
    let query: Vec<(Cow<'_, str>, Cow<'_, str>)> =
        form_urlencoded::parse(query.as_bytes()).collect();
    let mut items = Vec::new();
    for check in parameters {
        let texts: Vec<&str> = match check.place {
            Place::Path => named(path_params.iter(), &check.name).collect(),
            Place::Query => named(query.iter(), &check.name).collect(),
            Place::Header => header_texts(&head.headers, check),
        };
        let mistakes = match texts.len() {
            0 if !check.is_required => continue,
            0 => vec![whole("it is missing")],
            // Readers do not agree on which of several counts.
            2.. if !check.is_list => vec![whole("it is there more than once")],
            _ => check.mismatches(&texts),
        };
        let place = check.place;
        items.extend(mistakes.into_iter().map(|mistake| ProblemItem {
            at: Some(format!("{}{}", check.name, mistake.pointer)),
            detail: format!("{place} parameter `{}`: {}", check.name, mistake.message),
            help: None,
        }));
    }
    if items.is_empty() {
        return Ok(());
    }
    items.truncate(ITEMS_MAX);
    let detail = "a parameter is not as this path describes it; `errors` says which";
    let problem = Problem::new(
        StatusCode::BAD_REQUEST,
        "request.invalid_parameters",
        detail,
    );
    Err(problem.with_errors(items))
}

fn whole(message: &str) -> Mismatch {
    Mismatch {
        pointer: String::new(),
        message: message.to_owned(),
    }
}

fn named<'a, T: AsRef<str> + 'a>(
    pairs: impl Iterator<Item = &'a (T, T)>,
    name: &str,
) -> impl Iterator<Item = &'a str> {
    pairs
        .filter(move |(found, _)| found.as_ref() == name)
        .map(|(_, value)| value.as_ref())
}

fn header_texts<'a>(headers: &'a HeaderMap, check: &ParameterCheck) -> Vec<&'a str> {
    let lines = headers.get_all(check.name.as_str()).iter();
    // What is no text fits no schema.
    let lines = lines.map(|line| line.to_str().unwrap_or("\u{fffd}"));
    if check.is_list {
        lines
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .collect()
    } else {
        lines.collect()
    }
}

fn check_type(checks: &Checks, headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_taken = match (types.next(), types.next()) {
        (Some(one), None) => one.to_str().is_ok_and(|text| checks.consumes(text)),
        _ => false,
    };
    // A body that is checked is read as it came.
    let is_encoded = checks.body.is_some()
        && headers
            .get_all(header::CONTENT_ENCODING)
            .iter()
            .any(|value| value.as_bytes() != b"identity");
    if is_taken && !is_encoded {
        return Ok(());
    }
    let detail = if is_encoded {
        "send the body without a content encoding".to_owned()
    } else {
        format!("this path takes `{}`", checks.consumes.join("`, `"))
    };
    let code = if is_encoded {
        "request.encoding_unsupported"
    } else {
        "request.unsupported_media_type"
    };
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        code,
        detail,
    ))
}

/// What a caller takes, of the `Accept` headers.
pub(super) struct Accepts<'a> {
    /// Media ranges with their weights in thousandths. Nothing means everything.
    ranges: Option<Vec<(&'a str, u16)>>,
}

/// Most media ranges that are looked at.
const RANGES_MAX: usize = 64;

impl<'a> Accepts<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let mut ranges = None;
        for line in headers.get_all(header::ACCEPT) {
            let ranges = ranges.get_or_insert_with(Vec::new);
            let text = line.to_str().unwrap_or_default();
            let entries = text
                .split(',')
                .map(str::trim)
                .filter(|entry| !entry.is_empty());
            ranges.extend(entries.take(RANGES_MAX - ranges.len()).map(weighed));
        }
        // An empty header says nothing.
        Self {
            ranges: ranges.filter(|ranges| !ranges.is_empty()),
        }
    }

    fn takes(&self, media_type: &str) -> bool {
        let Some(ranges) = &self.ranges else {
            return true;
        };
        let kind = media_type.split('/').next().unwrap_or_default();
        let matches = ranges.iter().filter_map(|(range, weight)| {
            let range = range.to_ascii_lowercase();
            let closeness = match range.split_once('/') {
                _ if range == media_type => 2,
                Some((found, "*")) if found == kind => 1,
                Some(("*", "*")) => 0,
                _ => return None,
            };
            Some((closeness, *weight))
        });
        // The closest range decides, whatever its weight.
        matches
            .max_by_key(|(closeness, _)| *closeness)
            .is_some_and(|(_, weight)| weight > 0)
    }
}

/// An entry of a list like `gzip;q=0.5`, and its weight in thousandths.
pub(super) fn weighed(entry: &str) -> (&str, u16) {
    let mut parts = entry.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("q")
            .then(|| thousandths(value.trim()))
    });
    (name, weight.unwrap_or(1000))
}

/// `0`, `0.5`, `1.000`. What is none of these is no weight, and so nothing.
fn thousandths(text: &str) -> u16 {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = rest.len() <= 3 && rest.bytes().all(|digit| digit.is_ascii_digit());
    match whole {
        "1" if is_plain => 1000,
        "0" if is_plain => format!("{rest:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// An answer that is not as its route describes it becomes a failure of the plugin: where plugins are developed, that is better
/// found now.
pub(super) fn check_answer(
    checks: &Checks,
    plugin: &LivePlugin,
    answer: &Response<runtime::Body>,
) -> Result<(), Problem> {
    let runtime::Body::Whole(bytes) = answer.body() else {
        return Ok(());
    };
    let status = answer.status().as_u16();
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let schema = checks.answer(status, content_type.unwrap_or_default());
    let Some(schema) = schema.filter(|_| !bytes.is_empty()) else {
        return Ok(());
    };
    let mistakes = match json::read(bytes) {
        Ok(value) => schema.mismatches(&value, bytes.len() >= LARGE_BYTES),
        Err(error) => vec![whole(&error.to_string())],
    };
    if mistakes.is_empty() {
        return Ok(());
    }
    let items = mistakes.into_iter().map(|mistake| ProblemItem {
        at: Some(mistake.pointer),
        detail: mistake.message,
        help: None,
    });
    let detail = format!(
        "the answer of `{}` with {status} does not fit its `response_schema`",
        plugin.name()
    );
    let problem = Problem::new(StatusCode::BAD_GATEWAY, "plugin.answer_mismatch", detail);
    Err(problem.with_errors(items.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_range_says_whether_a_type_is_taken() {
        for (accept, media_type, wanted) in [
            (&[][..], "application/json", true),
            (&[""], "application/json", true),
            (&["application/json"], "application/json", true),
            (
                &["APPLICATION/JSON; charset=utf-8"],
                "application/json",
                true,
            ),
            (&["text/html, */*;q=0.1"], "application/json", true),
            (&["application/*"], "application/json", true),
            (&["text/html"], "application/json", false),
            (&["application/json;q=0, */*"], "application/json", false),
            (&["*/*;q=0"], "application/json", false),
            (
                &["*/*;q=0, application/json;q=0.001"],
                "application/json",
                true,
            ),
            (&["application/json;q=x"], "application/json", false),
            (&["text/html", "application/json"], "application/json", true),
            (&["*"], "application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            for line in accept {
                headers.append(header::ACCEPT, line.parse().unwrap());
            }
            let found = Accepts::of(&headers).takes(media_type);
            assert_eq!(found, wanted, "{accept:?} {media_type}");
        }
    }
}
