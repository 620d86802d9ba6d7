//! Answers out of the cache, and the line in each answer that says what the cache had to do with it.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::cache::{Entry, Kept};
use crate::gateway::cache::asked::Conditions;
use crate::runtime;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What the cache had to do with an answer (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It was there, fresh or while it is made anew.
    Hit,
    /// The plugin has made it.
    Made {
        /// Whether an older one was there.
        is_stale: bool,
        /// Whether it was made for another request like this one.
        is_collapsed: bool,
        is_stored: bool,
        /// Why it is not.
        detail: Option<&'static str>,
    },
    /// An older one, because making it anew failed with this status.
    StoodIn(u16),
    /// The request is none that is answered out of the cache.
    Past(&'static str),
    /// Its method is not.
    Method,
}

/// An answer that is kept. The body is not copied.
pub(super) fn answer(
    entry: &Entry,
    now_ns: u64,
    conditions: &Conditions,
    way: &Way,
) -> Response<runtime::Body> {
    let mut answer = Response::new(runtime::Body::Whole(entry.body.clone()));
    let Kept::Answer(head) = &entry.kept else {
        return answer;
    };
    *answer.status_mut() = head.status();
    *answer.headers_mut() = head.headers().clone();
    let age_s = entry.age(now_ns).as_secs();
    let ttl_s = whole_seconds(entry.fresh_for(now_ns), entry.stale_for(now_ns));
    if head.status() == StatusCode::OK && conditions.are_met(head.headers()) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.body_mut() = runtime::Body::Whole(bytes::Bytes::new());
        leave_what_a_client_has(answer.headers_mut());
    }
    let headers = answer.headers_mut();
    if matches!(way, Way::Hit | Way::StoodIn(_)) {
        headers.insert(header::AGE, age_s.into());
    }
    let mut text = String::with_capacity(40);
    write_way(&mut text, way);
    if matches!(way, Way::Hit) {
        let _ = write!(text, "; ttl={ttl_s}");
    }
    append(headers, text);
    answer
}

/// Says of an answer that is not kept which way it took.
pub(super) fn tell(headers: &mut HeaderMap, way: &Way) {
    let mut text = String::new();
    write_way(&mut text, way);
    append(headers, text);
}

/// Below zero if it is not fresh any more, from the first moment on.
fn whole_seconds(fresh: Duration, stale: Duration) -> i64 {
    let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match stale {
        Duration::ZERO => seconds(fresh.as_secs()),
        stale => -seconds(stale.as_secs() + u64::from(stale.subsec_nanos() > 0)),
    }
}

fn write_way(text: &mut String, way: &Way) {
    text.push_str("gantry");
    let _ = match way {
        Way::Hit => write!(text, "; hit"),
        Way::Past(detail) => write!(text, "; fwd=bypass; detail={detail}"),
        Way::Method => write!(text, "; fwd=method"),
        Way::StoodIn(status) => write!(text, "; fwd=stale; fwd-status={status}"),
        Way::Made {
            is_stale,
            is_collapsed,
            is_stored,
            detail,
        } => {
            text.push_str(if *is_stale {
                "; fwd=stale"
            } else {
                "; fwd=uri-miss"
            });
            for (name, is) in [("collapsed", is_collapsed), ("stored", is_stored)] {
                if *is {
                    text.push_str("; ");
                    text.push_str(name);
                }
            }
            match detail {
                Some(detail) => write!(text, "; detail={detail}"),
                None => Ok(()),
            }
        }
    };
}

fn append(headers: &mut HeaderMap, text: String) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(CACHE_STATUS, value);
    }
}

/// Of what describes a body, a client that has it needs nothing (RFC 9110, section 15.4.5).
fn leave_what_a_client_has(headers: &mut HeaderMap) {
    for name in [
        header::CONTENT_DISPOSITION,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_TYPE,
        header::LAST_MODIFIED,
    ] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_fresh_any_more_never_looks_fresh() {
        for (fresh_ms, stale_ms, wanted) in [
            (2000, 0, 2),
            (1999, 0, 1),
            (300, 0, 0),
            (0, 0, 0),
            (0, 1, -1),
            (0, 300, -1),
            (0, 1000, -1),
            (0, 1001, -2),
        ] {
            let (fresh, stale) = (
                Duration::from_millis(fresh_ms),
                Duration::from_millis(stale_ms),
            );
            assert_eq!(whole_seconds(fresh, stale), wanted, "{fresh_ms} {stale_ms}");
        }
    }
}
