use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use super::asked::Conditions;
use super::storable::{lives, take_tags};
use crate::cache::Lives;
use crate::plugins::manifest::RouteCache;
use crate::runtime::Body;

fn rule() -> RouteCache {
    RouteCache {
        ttl: Duration::from_secs(60),
        stale_while_revalidate: Duration::from_secs(10),
        stale_if_error: Duration::from_secs(20),
        vary: vec![header::ACCEPT_LANGUAGE],
        tags: Vec::new(),
        is_shared: false,
        ignores_cookies: false,
    }
}

fn answer(status: u16, headers: &[(&str, &str)]) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Body::Whole(Bytes::new())).unwrap()
}

#[test]
fn what_is_not_certainly_for_everybody_is_not_kept() {
    for (status, headers, expected) in [
        (200, &[][..], Ok(60)),
        (404, &[], Ok(60)),
        (301, &[], Ok(60)),
        (302, &[], Err("status")),
        (201, &[], Err("status")),
        (206, &[], Err("status")),
        (304, &[], Err("status")),
        (403, &[], Err("status")),
        (200, &[("set-cookie", "a=b")], Err("set-cookie")),
        (200, &[("cache-control", "private")], Err("cache-control")),
        (
            200,
            &[("cache-control", "max-age=5, Private=\"x\"")],
            Err("cache-control"),
        ),
        (200, &[("cache-control", "no-store")], Err("cache-control")),
        (
            200,
            &[("cache-control", "public"), ("cache-control", "NO-CACHE")],
            Err("cache-control"),
        ),
        (200, &[("cache-control", "max-age=0")], Err("cache-control")),
        (
            200,
            &[("cache-control", "max-age=-1")],
            Err("cache-control"),
        ),
        (
            200,
            &[("cache-control", "max-age=soon")],
            Err("cache-control"),
        ),
        (200, &[("cache-control", "max-age=9")], Ok(9)),
        (
            200,
            &[("cache-control", "max-age=9, s-maxage=\"4\"")],
            Ok(4),
        ),
        (200, &[("cache-control", "max-age=900")], Ok(60)),
        (200, &[("pragma", "no-cache")], Err("cache-control")),
        (200, &[("vary", "*")], Err("vary")),
        (200, &[("vary", "Accept-Language")], Ok(60)),
        (200, &[("vary", "Accept-Language, Origin")], Err("vary")),
        (200, &[("vary", "Authorization")], Ok(60)),
        (200, &[("vary", "Cookie")], Err("vary")),
        (200, &[("content-encoding", "gzip")], Err("vary")),
        (
            200,
            &[("content-type", "text/event-stream; charset=utf-8")],
            Err("stream"),
        ),
        (
            404,
            &[("content-type", "application/problem+json")],
            Err("problem"),
        ),
    ] {
        let found = lives(&rule(), true, &answer(status, headers));
        let fresh = found.map(|lives| lives.fresh.as_secs());
        assert_eq!(fresh, expected, "{status} {headers:?}");
    }
    let shared = lives(&rule(), false, &answer(200, &[("vary", "Authorization")]));
    assert_eq!(
        shared,
        Err("vary"),
        "everybody would get what one has asked for"
    );
}

#[test]
fn what_must_be_asked_for_again_is_never_given_out_old() {
    let answer = answer(200, &[("cache-control", "max-age=30, must-revalidate")]);
    let expected = Lives {
        fresh: Duration::from_secs(30),
        ..Lives::default()
    };
    assert_eq!(lives(&rule(), true, &answer), Ok(expected));
}

#[test]
fn tags_are_for_the_host_and_wrong_ones_keep_an_answer_out() {
    for (value, expected) in [
        ("a", Ok(1)),
        ("a, b:7 ,,c", Ok(3)),
        ("", Ok(0)),
        ("a b", Err("tags")),
    ] {
        let mut headers = HeaderMap::new();
        headers.append("cache-tag", HeaderValue::from_static(value));
        let tags = take_tags(&mut headers).map(|tags| tags.len());
        assert_eq!(tags, expected, "{value}");
        assert!(headers.is_empty(), "{value}");
    }
}

#[test]
fn a_client_that_has_it_is_told_so() {
    let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = header::HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    };
    const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (asked, kept, expected) in [
        (
            &[("if-none-match", "\"a\"")][..],
            &[("etag", "\"a\"")][..],
            true,
        ),
        (&[("if-none-match", "W/\"a\"")], &[("etag", "\"a\"")], true),
        (
            &[("if-none-match", "\"b\", \"a\"")],
            &[("etag", "W/\"a\"")],
            true,
        ),
        (&[("if-none-match", "*")], &[("etag", "\"a\"")], true),
        (&[("if-none-match", "\"b\"")], &[("etag", "\"a\"")], false),
        (&[("if-none-match", "\"b\"")], &[], false),
        (
            &[("if-modified-since", DAY)],
            &[("last-modified", DAY)],
            true,
        ),
        (
            &[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")],
            &[("last-modified", DAY)],
            false,
        ),
        (
            &[("if-modified-since", "yesterday")],
            &[("last-modified", DAY)],
            false,
        ),
        // The validator that is stronger decides.
        (
            &[("if-none-match", "\"b\""), ("if-modified-since", DAY)],
            &[("etag", "\"a\""), ("last-modified", DAY)],
            false,
        ),
        (&[], &[("etag", "\"a\"")], false),
    ] {
        let conditions = Conditions::of(&headers(asked), true);
        assert_eq!(
            conditions.are_met(&headers(kept)),
            expected,
            "{asked:?} {kept:?}"
        );
    }
    let conditions = Conditions::of(&headers(&[("if-none-match", "*")]), false);
    assert!(!conditions.are_met(&headers(&[("etag", "\"a\"")])));
}
