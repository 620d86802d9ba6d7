//! Conditional requests (RFC 9110, section 13) of answers that say which version they are: 304 in place of what the client
//! has, 412 where it asks for another. Of requests that change something only the plugin knows; they reach it with their
//! conditions.

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use jiff::Timestamp;

use crate::http::Problem;
use crate::runtime;

/// The conditions of a request that only reads.
pub(super) struct Conditions {
    matching: Option<HeaderValue>,
    none_matching: Option<HeaderValue>,
    modified_since: Option<HeaderValue>,
    unmodified_since: Option<HeaderValue>,
}

impl Conditions {
    /// Nothing if there are none, or if the request is not for the host to decide.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        if *method != Method::GET && *method != Method::HEAD {
            return None;
        }
        let one = |name: header::HeaderName| {
            let mut values = headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).cloned()
        };
        // On several lines they are one list all the same: to overlook one would be to do what it forbids.
        let list = |name: header::HeaderName| {
            let values = headers.get_all(name).iter();
            let values: Vec<&[u8]> = values.map(HeaderValue::as_bytes).collect();
            match values.is_empty() {
                true => None,
                false => HeaderValue::from_bytes(&values.join(&b", "[..])).ok(),
            }
        };
        let conditions = Self {
            matching: list(header::IF_MATCH),
            none_matching: list(header::IF_NONE_MATCH),
            modified_since: one(header::IF_MODIFIED_SINCE),
            unmodified_since: one(header::IF_UNMODIFIED_SINCE),
        };
        let is_any = conditions.matching.is_some()
            || conditions.none_matching.is_some()
            || conditions.modified_since.is_some()
            || conditions.unmodified_since.is_some();
        is_any.then_some(conditions)
    }

    /// What becomes of an answer. One that does not say which version it is stays.
    pub(super) fn apply(
        &self,
        answer: Response<runtime::Body>,
    ) -> Result<Response<runtime::Body>, Problem> {
        let is_whole = matches!(answer.body(), runtime::Body::Whole(_));
        if answer.status() != StatusCode::OK || !is_whole {
            return Ok(answer);
        }
        let headers = answer.headers();
        let tag = headers
            .get(header::ETAG)
            .and_then(|value| value.to_str().ok());
        let modified = headers.get(header::LAST_MODIFIED).and_then(time);
        match self.judge(tag, modified) {
            Verdict::Failed => Err(failed()),
            Verdict::Known => Ok(not_modified(answer)),
            Verdict::Give => Ok(answer),
        }
    }

    /// What the client is to have of something with this tag, last changed then.
    pub(super) fn judge(&self, tag: Option<&str>, modified: Option<Timestamp>) -> Verdict {
        let holds = match (&self.matching, tag) {
            (Some(list), Some(tag)) => Some(has(list, tag, Comparison::Strong)),
            (Some(_), None) => None,
            (None, _) => self.unmodified_since.as_ref().and_then(|since| {
                let (since, modified) = (time(since)?, modified?);
                Some(modified <= since)
            }),
        };
        if holds == Some(false) {
            return Verdict::Failed;
        }
        let is_known = match (&self.none_matching, tag) {
            (Some(list), Some(tag)) => has(list, tag, Comparison::Weak),
            (Some(_), None) => false,
            (None, _) => {
                let since = self.modified_since.as_ref().and_then(time);
                since
                    .zip(modified)
                    .is_some_and(|(since, modified)| modified <= since)
            }
        };
        if is_known {
            Verdict::Known
        } else {
            Verdict::Give
        }
    }
}

/// What becomes of a request with conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is for another version: 412.
    Failed,
    /// The client has it: 304.
    Known,
    Give,
}

/// What there is now is another version than the one that the request is for.
pub(super) fn failed() -> Problem {
    let detail = "what is there now is not the version that the request is for";
    let status = StatusCode::PRECONDITION_FAILED;
    Problem::new(status, "request.precondition_failed", detail)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a tag is in a list of tags.
fn has(list: &HeaderValue, tag: &str, comparison: Comparison) -> bool {
    let Ok(list) = list.to_str() else {
        return false;
    };
    if list.trim() == "*" {
        return true;
    }
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    // A comma may stand within a tag; then it is found as none, and the answer goes out whole.
    list.split(',')
        .map(str::trim)
        .any(|known| match comparison {
            Comparison::Strong => known == tag && !tag.starts_with("W/"),
            Comparison::Weak => opaque(known) == opaque(tag),
        })
}

fn not_modified(answer: Response<runtime::Body>) -> Response<runtime::Body> {
    let (mut head, _) = answer.into_parts();
    head.status = StatusCode::NOT_MODIFIED;
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_RANGE,
    ] {
        head.headers.remove(name);
    }
    Response::from_parts(head, runtime::Body::Whole(bytes::Bytes::new()))
}

/// A time of HTTP, in its preferred form.
pub(super) fn time(value: &HeaderValue) -> Option<Timestamp> {
    let text = value.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text)
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATE: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn outcome(asked: &[(&'static str, &str)], answered: &[(&'static str, &str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in asked {
            headers.append(*name, value.parse().unwrap());
        }
        let mut answer = Response::new(runtime::Body::Whole("text".into()));
        for (name, value) in answered {
            answer.headers_mut().append(*name, value.parse().unwrap());
        }
        match Conditions::of(&Method::GET, &headers) {
            None => 200,
            Some(conditions) => match conditions.apply(answer) {
                Ok(answer) => answer.status().as_u16(),
                Err(problem) => problem.status,
            },
        }
    }

    #[test]
    fn an_answer_is_left_out_or_refused_by_what_it_says_of_itself() {
        let tagged: &[_] = &[("etag", "\"a\""), ("last-modified", EARLY)];
        for (asked, answered, wanted) in [
            (&[][..], tagged, 200),
            (&[("if-none-match", "\"a\"")], tagged, 304),
            (&[("if-none-match", "W/\"a\"")], tagged, 304),
            (&[("if-none-match", "\"b\", \"a\"")], tagged, 304),
            (&[("if-none-match", "*")], tagged, 304),
            (&[("if-none-match", "\"b\"")], tagged, 200),
            (
                &[("if-none-match", "\"b\""), ("if-modified-since", LATE)],
                tagged,
                200,
            ),
            (&[("if-none-match", "\"a\"")], &[], 200),
            (&[("if-modified-since", EARLY)], tagged, 304),
            (&[("if-modified-since", LATE)], tagged, 304),
            (&[("if-modified-since", "yesterday")], tagged, 200),
            (
                &[("if-modified-since", EARLY)],
                &[("last-modified", LATE)],
                200,
            ),
            (&[("if-match", "\"a\"")], tagged, 200),
            (&[("if-match", "\"b\"")], tagged, 412),
            (&[("if-match", "\"b\""), ("if-match", "\"c\"")], tagged, 412),
            (&[("if-match", "\"b\""), ("if-match", "\"a\"")], tagged, 200),
            (&[("if-match", "W/\"a\"")], tagged, 412),
            (&[("if-match", "\"a\"")], &[("etag", "W/\"a\"")], 412),
            (&[("if-match", "\"b\"")], &[], 200),
            (&[("if-unmodified-since", EARLY)], tagged, 200),
            (
                &[("if-unmodified-since", EARLY)],
                &[("last-modified", LATE)],
                412,
            ),
            (&[("if-unmodified-since", EARLY)], &[], 200),
        ] {
            assert_eq!(outcome(asked, answered), wanted, "{asked:?} {answered:?}");
        }
    }

    #[test]
    fn what_changes_something_is_for_the_plugin_to_decide() {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_static("\"a\""))]);
        assert!(Conditions::of(&Method::PUT, &headers).is_none());
        assert!(Conditions::of(&Method::GET, &headers).is_some());
    }
}
