//! Bounds on the head of a request, and the headers that every answer has.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header, uri::Authority,
};

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
    if let Some(reason) = ambiguity(uri.path()) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request.invalid_path",
            reason,
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
    let is_named = uri.authority().is_some() || headers.contains_key(header::HOST);
    if !is_named && request.version() == Version::HTTP_11 {
        // The same section: whoever stands in front may have taken the request for somebody else.
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request.invalid",
            "the request has no `Host` header",
        ));
    }
    if !is_host(uri.authority().map(Authority::as_str), headers) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request.invalid",
            "`Host` is no host name with, perhaps, a port",
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

/// Whether what names the host names one (RFC 9112, section 3.2). What stands before an `@` is for no server.
fn is_host(authority: Option<&str>, headers: &HeaderMap) -> bool {
    // What RFC 3986 lets stand in names, but for the comma, which makes a list of them.
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(byte);
    let is_one = |name: &[u8]| name.iter().all(fits);
    let header = headers.get(header::HOST).map(HeaderValue::as_bytes);
    authority.is_none_or(|name| is_one(name.as_bytes())) && header.is_none_or(is_one)
}

/// Why two readers could see two different paths. The route is chosen, and with it who may call, by the path as it
/// stands; a plugin may read it by other rules. So such a path is refused and not mended.
fn ambiguity(path: &str) -> Option<&'static str> {
    if path.contains("//") {
        return Some("the path has an empty segment (`//`); send it without");
    }
    // Without these, which most paths are, there is nothing to look for.
    if !path.bytes().any(|byte| matches!(byte, b'\\' | b'%' | b'.')) {
        return None;
    }
    // A backslash is a slash to those who read by the rules of browsers.
    if path.contains('\\') {
        return Some("the path has a backslash; write `/`");
    }
    let has_slash = path.split('%').skip(1).any(|rest| {
        let code = rest.get(..2).unwrap_or_default();
        code.eq_ignore_ascii_case("2f") || code.eq_ignore_ascii_case("5c")
    });
    if has_slash {
        return Some(
            "the path has an encoded slash (`%2F` or `%5C`); send such a value in the query",
        );
    }
    has_dot_segment(path).then_some("the path has `.` or `..` as a segment; send it resolved")
}

/// Whether a reader that resolves paths would see another one: `/open/../closed`, also when it is encoded.
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
    path.split('/').any(is_dots)
}

/// The name of the header that carries the id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Adds what every answer has. A plugin cannot set the request id.
pub(super) fn finish(headers: &mut HeaderMap, id: &RequestId) {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// What a page of a plugin may do while it shares its host name with the host's own surface: everything but act as a page
/// of that host name. Its scripts run; they have no part in the storage and the requests of others.
const SANDBOX: HeaderValue = HeaderValue::from_static(
    "sandbox allow-downloads allow-forms allow-modals allow-popups \
     allow-popups-to-escape-sandbox allow-scripts \
     allow-top-navigation-by-user-activation",
);

/// Keeps a page of a plugin apart from the origin that it comes from. Policies
/// add up, so that the plugin's own one stays.
pub(super) fn sandbox(headers: &mut HeaderMap) {
    headers.append(header::CONTENT_SECURITY_POLICY, SANDBOX);
}

/// Whether a browser could show this answer as a page.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(content_type), None) => !shows_no_page(content_type.as_bytes()),
        _ => true,
    }
}

/// Content types that no browser shows as a page with scripts. A list of those that are harmless, because one that is
/// forgotten then costs a feature and not the separation.
fn shows_no_page(content_type: &[u8]) -> bool {
    // With a comma there are several, and readers do not agree on which one counts.
    if content_type.contains(&b',') {
        return false;
    }
    let essence = content_type.split(|byte| *byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    let is = |other: &str| essence.eq_ignore_ascii_case(other.as_bytes());
    let begins = |start: &str| {
        essence.len() > start.len() && essence[..start.len()].eq_ignore_ascii_case(start.as_bytes())
    };
    let ends = |end: &str| {
        essence.len() > end.len()
            && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
    };
    const HARMLESS: [&str; 12] = [
        "application/json",
        "text/plain",
        "text/javascript",
        "application/javascript",
        "text/css",
        "text/csv",
        "text/markdown",
        "text/event-stream",
        "application/octet-stream",
        "application/pdf",
        "application/wasm",
        "application/zip",
    ];
    if HARMLESS.iter().any(|known| is(known)) {
        return true;
    }
    let is_media = ["image/", "audio/", "video/", "font/"]
        .iter()
        .any(|kind| begins(kind));
    (is_media && !ends("xml")) || (begins("application/") && ends("+json"))
}

/// What every answer of the host's own surface has: nobody frames it, no page of another origin embeds it, and nothing in
/// it runs.
pub async fn isolate(
    mut answer: http::Response<axum::body::Body>,
) -> http::Response<axum::body::Body> {
    let headers = answer.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'; sandbox",
        ),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_perhaps_a_port() {
        for (name, wanted) in [
            ("shop.example", true),
            ("shop.example:8080", true),
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("", true),
            ("a b", false),
            ("a, b", false),
            ("a,b", false),
            ("user@shop.example", false),
            ("a/b", false),
            ("a?b", false),
            ("a#b", false),
            ("\u{e9}", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::HOST,
                HeaderValue::from_bytes(name.as_bytes()).unwrap(),
            );
            assert_eq!(is_host(None, &headers), wanted, "{name}");
        }
        assert!(!is_host(Some("user@shop.example"), &HeaderMap::new()));
        assert!(is_host(None, &HeaderMap::new()));
    }

    #[test]
    fn what_a_browser_could_show_as_a_page_is_kept_in_a_sandbox() {
        for (content_types, is_page) in [
            (&["text/html; charset=utf-8"][..], true),
            (&["TEXT/HTML"], true),
            (&["application/xhtml+xml"], true),
            (&["image/svg+xml"], true),
            (&["text/xml"], true),
            (&["application/rss+xml"], true),
            (&["multipart/x-mixed-replace"], true),
            (&["application/json, text/html"], true),
            (&["image/png;x=y, text/html"], true),
            (&["application/json", "text/html"], true),
            (&["nonsense"], true),
            (&[""], true),
            (&[], true),
            (&["application/json"], false),
            (&["Application/Problem+JSON"], false),
            (&["application/ld+json; profile=x"], false),
            (&["text/plain"], false),
            (&["text/javascript"], false),
            (&["image/png"], false),
            (&["font/woff2"], false),
        ] {
            let mut headers = HeaderMap::new();
            for content_type in content_types {
                headers.append(header::CONTENT_TYPE, content_type.parse().unwrap());
            }
            assert_eq!(super::is_page(&headers), is_page, "{content_types:?}");
        }
    }

    #[test]
    fn a_policy_of_the_plugin_itself_stays() {
        let mut headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html")),
            (
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'self'"),
            ),
        ]);
        sandbox(&mut headers);
        let policies = headers.get_all(header::CONTENT_SECURITY_POLICY);
        assert_eq!(policies.iter().count(), 2);
    }

    #[test]
    fn a_path_that_could_be_resolved_to_another_is_found() {
        for (path, wanted) in [
            ("/", false),
            ("/a/b", false),
            ("/.well-known/x", false),
            ("/a/...", false),
            ("/a/%2e%2e%2e", false),
            ("/a/..b", false),
            ("/a/", false),
            ("/a%20b/%252F", false),
            ("/a//b", true),
            ("//a", true),
            ("/a//", true),
            ("/a%2Fb", true),
            ("/a%2fb", true),
            ("/a%5Cb", true),
            ("/a\\b", true),
            ("/.", true),
            ("/a/../b", true),
            ("/a/..", true),
            ("/a/%2e%2E/b", true),
            ("/a/.%2e", true),
            ("/a/%2e", true),
            ("/a/..\\b", true),
            ("/a\\..\\b", true),
        ] {
            assert_eq!(ambiguity(path).is_some(), wanted, "{path}");
        }
    }

    proptest::proptest! {
        /// What is let through reads the same to those who resolve paths, by the rules of browsers too.
        #[test]
        fn a_path_that_passes_is_the_same_to_everybody(
            path in "(/|\\.|%2e|%2E|%2f|%5C|\\\\|%25|[a-c]|;|%c3%a9|:|@){0,10}",
        ) {
            let path = format!("/{path}");
            if ambiguity(&path).is_none() {
                let url = url::Url::parse(&format!("http://host.example{path}")).unwrap();
                proptest::prop_assert_eq!(url.host_str(), Some("host.example"));
                proptest::prop_assert_eq!(url.path(), path);
            }
        }
    }
}
