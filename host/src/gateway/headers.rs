//! Bounds on the head of a request, and the headers that every answer has.

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};

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
    let headers = request.headers();
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

/// The name of the header that carries the id of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Adds what every answer has. A plugin cannot set the request id.
pub(super) fn finish(headers: &mut HeaderMap, id: &RequestId) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    headers
        .entry(http::header::X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
}
