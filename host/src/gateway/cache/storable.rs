//! Which answers are kept, for how long, and what of them. What is not certainly for everybody who would get it is not.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::cache::{Lives, TAGS_MAX, Tag};
use crate::plugins::manifest::RouteCache;
use crate::runtime;

/// By this header a plugin says what its answer is purged by. Clients do not see it.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// Takes the tags out of an answer. The error is the reason why it is not kept.
pub(super) fn take_tags(headers: &mut HeaderMap) -> Result<Vec<Tag>, &'static str> {
    if !headers.contains_key(CACHE_TAG) {
        return Ok(Vec::new());
    }
    let mut tags = Vec::new();
    for value in headers.get_all(CACHE_TAG) {
        let texts = value.to_str().map_err(|_| "tags")?.split(',');
        for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
            if tags.len() == TAGS_MAX {
                break;
            }
            match text.parse() {
                Ok(tag) => tags.push(tag),
                Err(_) => {
                    headers.remove(CACHE_TAG);
                    return Err("tags");
                }
            }
        }
    }
    headers.remove(CACHE_TAG);
    Ok(tags)
}

/// Leaves each tag once. What has too many could not be purged by all of them, so it is not kept.
pub(super) fn check_tags(tags: &mut Vec<Tag>) -> Result<(), &'static str> {
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > TAGS_MAX {
        return Err("tags");
    }
    Ok(())
}

/// For how long an answer is of use. The error is the reason why it is not kept.
pub(super) fn lives(
    rule: &RouteCache,
    is_by_caller: bool,
    answer: &Response<runtime::Body>,
) -> Result<Lives, &'static str> {
    let headers = answer.headers();
    if !is_kept(answer.status()) {
        return Err("status");
    }
    if headers.contains_key(header::SET_COOKIE) {
        return Err("set-cookie");
    }
    check_vary(rule, is_by_caller, headers)?;
    let content_type = headers.get(header::CONTENT_TYPE);
    let is_of =
        |begin: &[u8]| content_type.is_some_and(|value| value.as_bytes().starts_with(begin));
    if is_of(b"text/event-stream") {
        return Err("stream");
    }
    // It names the request that it answers.
    if is_of(b"application/problem+json") {
        return Err("problem");
    }
    let said = Said::of(headers)?;
    if said.is_kept_by_nobody {
        return Err("cache-control");
    }
    let fresh = said.fresh.map_or(rule.ttl, |fresh| fresh.min(rule.ttl));
    if fresh.is_zero() {
        return Err("cache-control");
    }
    let if_stale = |time| {
        if said.is_useless_when_stale {
            Duration::ZERO
        } else {
            time
        }
    };
    Ok(Lives {
        fresh,
        while_renewing: if_stale(rule.stale_while_revalidate),
        if_error: if_stale(rule.stale_if_error),
    })
}

/// What can be said again to the next who asks: what is there, where it is now, and that it is not there.
fn is_kept(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::OK
            | StatusCode::NON_AUTHORITATIVE_INFORMATION
            | StatusCode::NO_CONTENT
            | StatusCode::MULTIPLE_CHOICES
            | StatusCode::MOVED_PERMANENTLY
            | StatusCode::PERMANENT_REDIRECT
            | StatusCode::NOT_FOUND
            | StatusCode::GONE
    )
}

/// An answer that depends on more than is in the key is for nobody else.
fn check_vary(
    rule: &RouteCache,
    is_by_caller: bool,
    headers: &HeaderMap,
) -> Result<(), &'static str> {
    for value in headers.get_all(header::VARY) {
        let names = value.to_str().map_err(|_| "vary")?.split(',');
        for name in names.map(str::trim).filter(|name| !name.is_empty()) {
            let is_named = |other: &HeaderName| other.as_str().eq_ignore_ascii_case(name);
            let is_credential = name.eq_ignore_ascii_case("authorization");
            let is_in_key = rule.vary.iter().any(is_named) || (is_credential && is_by_caller);
            if !is_in_key {
                return Err("vary");
            }
        }
    }
    let is_encoded = headers.contains_key(header::CONTENT_ENCODING);
    if is_encoded && !rule.vary.contains(&header::ACCEPT_ENCODING) {
        return Err("vary");
    }
    Ok(())
}

/// What an answer says about being kept (RFC 9111, section 5.2.2).
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    is_kept_by_nobody: bool,
    /// Nothing if it does not say.
    fresh: Option<Duration>,
    is_useless_when_stale: bool,
}

impl Said {
    fn of(headers: &HeaderMap) -> Result<Self, &'static str> {
        let (mut said, mut max_age, mut shared_max_age) = (Self::default(), None, None);
        for value in headers.get_all(header::CACHE_CONTROL) {
            let text = value.to_str().map_err(|_| "cache-control")?;
            for directive in text.split(',') {
                let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
                let value = value.trim().trim_matches('"');
                // What cannot be read means that it is not fresh.
                let seconds = || Duration::from_secs(value.parse().unwrap_or(0));
                match name.trim().to_ascii_lowercase().as_str() {
                    "no-store" | "private" | "no-cache" => said.is_kept_by_nobody = true,
                    "max-age" => max_age = Some(seconds()),
                    "s-maxage" => shared_max_age = Some(seconds()),
                    "must-revalidate" | "proxy-revalidate" => said.is_useless_when_stale = true,
                    _ => {}
                }
            }
        }
        if headers
            .get(header::PRAGMA)
            .is_some_and(|value| value == "no-cache")
        {
            said.is_kept_by_nobody = true;
        }
        said.fresh = shared_max_age.or(max_age);
        Ok(said)
    }
}

/// The head that is kept: with a time, with what the answer depends on and, if nobody changes the body on its way, with a
/// strong validator.
pub(super) fn head(
    rule: &RouteCache,
    answer: &Response<runtime::Body>,
    body: &Bytes,
    is_answer_final: bool,
) -> Response<()> {
    let mut headers = answer.headers().clone();
    headers.remove(header::AGE);
    let now = jiff::Timestamp::now();
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::try_from(date) {
        headers.entry(header::DATE).or_insert(date);
    }
    for name in &rule.vary {
        let mut values = headers.get_all(header::VARY).iter();
        let is_named = values.any(|value| {
            let value = value.to_str().unwrap_or_default();
            value
                .split(',')
                .any(|other| name.as_str().eq_ignore_ascii_case(other.trim()))
        });
        if !is_named {
            headers.append(header::VARY, name.clone().into());
        }
    }
    if answer.status() == StatusCode::OK
        && is_answer_final
        && !headers.contains_key(header::ETAG)
        && let Ok(tag) = HeaderValue::try_from(etag(body))
    {
        headers.insert(header::ETAG, tag);
    }
    let mut head = Response::new(());
    *head.status_mut() = answer.status();
    *head.headers_mut() = headers;
    head
}

/// A strong validator: two bodies with the same one are the same.
fn etag(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..18]))
}
