//! Bounds on the head of a request, and the headers that every answer has.

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};

use crate::gateway::Config;
use crate::http::Problem;
use crate::ids::RequestId;

/// Refuses a head that is too large. The listener's own bounds are wider, so that the refusal is a proper answer.
pub(super) fn check<B>(request: &Request<B>, config: &Config) -> Result<(), Problem> {
    let uri = request.uri();
    let uri_bytes = uri.path().len() + uri.query().map_or(0, str::len);
    if uri_bytes > config.uri_bytes_max {
        let detail = format!(
            "the path and query have more than {} bytes",
            config.uri_bytes_max
        );
        return Err(Problem::new(
            StatusCode::URI_TOO_LONG,
            "request.uri_too_long",
            detail,
        ));
    }
    if has_dot_segment(uri.path()) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request.invalid_path",
            "the path has `.` or `..` as a segment; send it resolved",
        ));
    }
    let headers = request.headers();
    if headers.get_all(header::HOST).iter().nth(1).is_some() {
        // RFC 9112, section 3.2: two of them mean different things to different readers.
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request.invalid",
            "the request has more than one `Host` header",
        ));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if headers.len() > config.headers_max || bytes > config.header_bytes_max {
        let detail = format!(
            "a request has at most {} headers with {} bytes in all",
            config.headers_max, config.header_bytes_max
        );
        return Err(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "request.headers_too_large",
            detail,
        ));
    }
    Ok(())
}

/// Whether a reader that resolves paths would see another one: `/open/../closed`, also when it is encoded. The route is
/// chosen, and with it who may call, by the path as it stands.
fn has_dot_segment(path: &str) -> bool {
    let is_dots = |segment: &str| {
        let mut rest = segment;
        let mut dots = 0;
        while !rest.is_empty() {
            let after = ["%2e", "%2E", "."].into_iter();
            let Some(after) = after.filter_map(|dot| rest.strip_prefix(dot)).next() else {
                return false;
            };
            (rest, dots) = (after, dots + 1);
        }
        dots == 1 || dots == 2
    };
    // A backslash is a slash to those who read by the rules of browsers.
    path.split(['/', '\\']).any(is_dots)
}

/// The name of the header that carries the id of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Adds what every answer has. A plugin cannot set the request id.
pub(super) fn finish(headers: &mut HeaderMap, id: &RequestId) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    headers
        .entry(header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_be_resolved_to_another_is_found() {
        for (path, wanted) in [
            ("/", false),
            ("/a/b", false),
            ("/.well-known/x", false),
            ("/a/...", false),
            ("/a/%2e%2e%2e", false),
            ("/a/..b", false),
            ("/a//b", false),
            ("/.", true),
            ("/a/../b", true),
            ("/a/..", true),
            ("/a/%2e%2E/b", true),
            ("/a/.%2e", true),
            ("/a/%2e", true),
            ("/a/..\\b", true),
            ("/a\\..\\b", true),
        ] {
            assert_eq!(has_dot_segment(path), wanted, "{path}");
        }
    }
}
