//! Answers in the place of a plugin, for those who build a front end before there is a back end: where the manifest says
//! so, or, on a host for development, where a request asks for one. They are marked as what they are.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::plugins::routes::Route;
use crate::runtime;

const PREFER: HeaderName = HeaderName::from_static("prefer");
/// What a request asks with.
const MOCK: &str = "mock";
/// What such an answer is known by.
const MARK: HeaderName = HeaderName::from_static("x-gantry-mock");

/// The answer, if the plugin is not to be asked.
pub(super) fn answer(route: &Route, headers: &HeaderMap) -> Option<Response<runtime::Body>> {
    let mock = route.mock.as_ref()?;
    if !mock.is_always && !prefers(headers) {
        return None;
    }
    let body = mock.answer.body.clone();
    let mut answer = Response::new(runtime::Body::Whole(body));
    *answer.status_mut() = StatusCode::from_u16(mock.answer.status).unwrap_or(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(MARK, HeaderValue::from_static("true"));
    // What is made up must not be found by those who did not ask for it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let content_type = mock.answer.content_type.as_ref();
    if let Some(Ok(content_type)) = content_type.map(HeaderValue::try_from) {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if !mock.is_always {
        let name = HeaderName::from_static("preference-applied");
        headers.insert(name, HeaderValue::from_static(MOCK));
    }
    Some(answer)
}

/// Whether `Prefer` (RFC 7240) asks for a mock.
fn prefers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let mut preferences = texts.flat_map(|text| text.split([',', ';']));
    preferences.any(|preference| {
        let name = preference.split('=').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(MOCK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_can_prefer_a_mock_among_other_things() {
        for (value, wanted) in [
            ("mock", true),
            ("respond-async, Mock", true),
            ("mock=true; wait=10", true),
            ("mocking", false),
            ("return=mock", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(PREFER, value.parse().unwrap());
            assert_eq!(prefers(&headers), wanted, "{value}");
        }
    }
}
