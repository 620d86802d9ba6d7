//! What a guest may answer: the shape and the size of a response are checked before anybody else sees it.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, MaxSizeReached},
};

use crate::bindings::messages;
use crate::http::reserved;
use crate::runtime::Config;

/// Room for the headers that the host adds to most answers, so that the map does not grow, and hash all names again, for each
/// few of them.
const HOST_HEADERS: usize = 12;

/// A response of `gantry:http/handler`. The error is the reason, for people.
pub(super) fn check(
    response: messages::Response,
    config: &Config,
) -> Result<http::Response<Bytes>, String> {
    // Before the map is made, which takes memory for all of them.
    if response.headers.len() > config.response_headers_max {
        return Err(format!(
            "it has more than {} headers",
            config.response_headers_max
        ));
    }
    let too_many = |error: MaxSizeReached| format!("it has too many headers: {error}");
    let room = response.headers.len() + HOST_HEADERS;
    let mut headers = HeaderMap::try_with_capacity(room).map_err(too_many)?;
    for (name, value) in response.headers {
        let name = header_name(&name)?;
        let value = header_value(&name, value)?;
        headers.try_append(name, value).map_err(too_many)?;
    }
    finish(response.status, headers, response.body, config)
}

/// A name that a guest chose.
pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{}` is not a header name", shorten(name)))
}

/// A value that a guest chose.
pub(super) fn header_value(name: &HeaderName, value: String) -> Result<HeaderValue, String> {
    HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| {
        format!("the value of the header `{name}` has characters that are not allowed")
    })
}

/// The document that a transformation made.
pub(super) fn of_document(
    output: messages::Output,
    config: &Config,
) -> Result<http::Response<Bytes>, String> {
    let content_type = HeaderValue::from_maybe_shared(Bytes::from(output.content_type))
        .map_err(|_| "its content type has characters that are not allowed".to_owned())?;
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
    finish(200, headers, output.body, config)
}

/// The last checks, which all kinds of plugin share.
pub(super) fn finish(
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    config: &Config,
) -> Result<http::Response<Bytes>, String> {
    let head = check_head(status, headers, config)?;
    check_length(body.len(), config)?;
    Ok(head.map(|()| body))
}

/// Whether a whole body may be so long, in bytes.
pub(super) fn check_length(bytes: usize, config: &Config) -> Result<(), String> {
    if bytes > config.response_body_bytes_max {
        return Err(format!(
            "its body has more than {} bytes",
            config.response_body_bytes_max
        ));
    }
    Ok(())
}

/// What comes before the body, without what is the host's.
pub(super) fn check_head(
    status: u16,
    mut headers: HeaderMap,
    config: &Config,
) -> Result<http::Response<()>, String> {
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()));
    let Some(status) = status else {
        return Err("its status is not between 200 and 599".to_owned());
    };
    if headers.len() > config.response_headers_max {
        return Err(format!(
            "it has more than {} headers",
            config.response_headers_max
        ));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > config.response_header_bytes_max {
        return Err(format!(
            "its headers have more than {} bytes",
            config.response_header_bytes_max
        ));
    }
    remove_what_is_the_hosts(&mut headers);
    // Nearly no answer has a header twice.
    if headers.len() > headers.keys_len() {
        let is_double =
            |name: &&HeaderName| reserved::has_one_value(name) && has_several(&headers, name);
        if let Some(name) = headers.keys().find(is_double) {
            return Err(format!("it has more than one `{name}`"));
        }
    }
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn has_several(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

/// Takes out of headers or trailers what a plugin does not decide.
pub(super) fn remove_what_is_the_hosts(headers: &mut HeaderMap) {
    let refused: Vec<HeaderName> = headers
        .keys()
        .filter(|name| reserved::in_answers(name))
        .cloned()
        .collect();
    for name in refused {
        headers.remove(name);
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        status: u16,
        headers: &[(&str, &str)],
        body: usize,
    ) -> Result<http::Response<Bytes>, String> {
        let config = Config {
            response_body_bytes_max: 100,
            ..Config::default()
        };
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        check(
            messages::Response {
                status,
                headers,
                body: vec![0; body].into(),
            },
            &config,
        )
    }

    #[test]
    fn a_guest_cannot_answer_what_is_no_response() {
        let long = "x".repeat(40_000);
        let many = vec![("a", "b"); 101];
        for (status, headers, body, reason) in [
            (199, &[][..], 0, "its status is not between 200 and 599"),
            (600, &[], 0, "its status is not between 200 and 599"),
            (200, &[("a b", "c")], 0, "`a b` is not a header name"),
            (
                200,
                &[("a", "b\r\nset-cookie: c")],
                0,
                "the value of the header `a` has characters that are not allowed",
            ),
            (
                200,
                &[("a", &long)],
                0,
                "its headers have more than 32768 bytes",
            ),
            (
                200,
                &[
                    ("Content-Type", "text/html"),
                    ("content-type", "text/plain"),
                ],
                0,
                "it has more than one `content-type`",
            ),
            (
                302,
                &[("location", "/a"), ("vary", "a"), ("location", "/a")],
                0,
                "it has more than one `location`",
            ),
            (200, &many, 0, "it has more than 100 headers"),
            (200, &[], 101, "its body has more than 100 bytes"),
        ] {
            assert_eq!(answer(status, headers, body).unwrap_err(), reason);
        }
    }

    #[test]
    fn more_headers_than_a_map_holds_are_refused_where_settings_allow_them() {
        let config = Config {
            response_headers_max: 100_000,
            ..Config::default()
        };
        for count in [20_000, 40_000] {
            let headers = (0..count).map(|number| (format!("x-{number}"), String::new()));
            let response = messages::Response {
                status: 200,
                headers: headers.collect(),
                body: Bytes::new(),
            };
            let error = check(response, &config).unwrap_err();
            let expected = ["its headers have", "it has too many headers"];
            assert!(
                error.starts_with(expected[usize::from(count > 30_000)]),
                "{error}"
            );
        }
    }

    #[test]
    fn headers_that_decide_for_other_plugins_are_the_operators() {
        let headers = [
            ("clear-site-data", "\"*\""),
            ("service-worker-allowed", "/"),
            ("strict-transport-security", "max-age=1"),
            ("Alt-Svc", "h3=\":443\""),
        ];
        let response = answer(200, &headers, 0).unwrap();
        assert!(response.headers().is_empty(), "{:?}", response.headers());
    }

    #[test]
    fn headers_about_the_connection_are_the_hosts() {
        let headers = [
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("etag", "\"1\""),
        ];
        let response = answer(201, &headers, 3).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers().len(), 5);
        assert_eq!(response.headers().get_all("x-a").iter().count(), 2);
    }

    proptest::proptest! {
        /// Whatever a guest answers is refused, or passed on as it is but for what is the host's.
        #[test]
        fn an_answer_passes_as_it_is_or_not_at_all(
            status in 0_u16..700,
            headers in proptest::collection::vec(
                (
                    "[a-zA-Z0-9!#$&'*+.^_|~-]{0,12}|(?i)(connection|content-length|te|alt-svc|Transfer-Encoding)|\\PC{0,4}",
                    "[ -~\t\u{80}-\u{ff}]{0,12}|[\r\n\u{0}\u{7f}]{1,2}",
                ),
                0..6,
            ),
            body in 0_usize..150,
        ) {
            let given: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            if let Ok(response) = answer(status, &given, body) {
                proptest::prop_assert_eq!(response.status().as_u16(), status);
                proptest::prop_assert!((200..600).contains(&status));
                proptest::prop_assert_eq!(response.body().len(), body);
                let is_ours = |name: &str| {
                    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                    reserved::in_answers(&name)
                };
                let mut expected: Vec<(String, Vec<u8>)> = given
                    .iter()
                    .filter(|(name, _)| !is_ours(name))
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes().to_vec()))
                    .collect();
                let found = response.headers().iter();
                let mut found: Vec<(String, Vec<u8>)> = found
                    .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                    .collect();
                expected.sort();
                found.sort();
                proptest::prop_assert_eq!(found, expected);
            } else {
                let is_plain = |(name, value): &(String, String)| {
                    let is_name = !name.is_empty()
                        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                    is_name && value.bytes().all(|byte| byte.is_ascii_graphic())
                };
                let is_fine = (200..600).contains(&status)
                    && body <= 100
                    && headers.iter().all(is_plain);
                proptest::prop_assert!(!is_fine, "{} {:?} {}", status, headers, body);
            }
        }
    }
}
