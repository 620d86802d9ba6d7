//! Answers made smaller for those who take them so: gzip and Brotli, of texts that are whole. What flows stays as it is,
//! because a piece that waits to be compressed is a piece that is late.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::gateway::State;
use crate::gateway::validation::weighed;
use crate::runtime;

/// Which answers are compressed.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether any are. Default: true.
    pub is_on: bool,
    /// Smallest answer that is worth it, in bytes. Default: 1 KiB.
    pub bytes_min: usize,
    /// Largest answer that is compressed, in bytes. Default: 8 MiB.
    pub bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            is_on: true,
            bytes_min: 1 << 10,
            bytes_max: 8 << 20,
        }
    }
}

/// Answers from this size on are compressed in the background.
const LARGE_BYTES: usize = 64 << 10;
/// Most entries of `Accept-Encoding` that are looked at.
const ENTRIES_MAX: usize = 32;
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
/// A window of 256 KiB, which bounds the memory for one answer.
const BROTLI_WINDOW: u32 = 18;

/// How bytes are made fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Gzip,
}

/// How an answer is to be compressed; nothing if it goes as it is. Notes on the answer that others may get it otherwise.
pub(super) fn prepare(
    config: &Config,
    accepted: Option<&HeaderValue>,
    answer: &mut Response<runtime::Body>,
) -> Option<Coding> {
    let runtime::Body::Whole(bytes) = answer.body() else {
        return None;
    };
    let is_worth_it = (config.bytes_min..=config.bytes_max).contains(&bytes.len());
    if !config.is_on || !is_worth_it || !may_be(answer.status(), answer.headers()) {
        return None;
    }
    vary(answer.headers_mut());
    accepted?.to_str().ok().and_then(chosen)
}

/// The answer, smaller if that is possible.
pub(super) async fn apply(
    state: &State,
    coding: Coding,
    mut answer: Response<runtime::Body>,
) -> Response<runtime::Body> {
    let runtime::Body::Whole(bytes) = answer.body() else {
        return answer;
    };
    let compressed = if bytes.len() < LARGE_BYTES {
        compress(coding, bytes)
    } else {
        // Nobody waits to be sent less: if there is no room, it goes as it is.
        let Ok(place) = state.heavy.try_acquire() else {
            return answer;
        };
        let bytes = bytes.clone();
        let work = move || compress(coding, &bytes);
        let compressed = state.runtime.in_background(work).await;
        drop(place);
        compressed
    };
    let Some(compressed) = compressed else {
        return answer;
    };
    *answer.body_mut() = runtime::Body::Whole(compressed);
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    let name = match coding {
        Coding::Brotli => "br",
        Coding::Gzip => "gzip",
    };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    weaken(headers);
    answer
}

/// Whether an answer may be changed at all.
fn may_be(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_whole = status != StatusCode::PARTIAL_CONTENT && status != StatusCode::NO_CONTENT;
    let has = |name: header::HeaderName| headers.contains_key(name);
    // A secret beside what a stranger chose gives itself away by its length (BREACH), and cookies are secrets.
    let is_open = !has(header::SET_COOKIE);
    let is_plain = !has(header::CONTENT_ENCODING) && !has(header::CONTENT_RANGE);
    let stays = |value: &HeaderValue| {
        let text = value
            .to_str()
            .unwrap_or("no-transform")
            .to_ascii_lowercase();
        text.contains("no-transform")
    };
    let may_change = !headers.get_all(header::CACHE_CONTROL).iter().any(stays);
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    (status.is_success() || status.is_client_error())
        && is_whole
        && is_open
        && is_plain
        && may_change
        && content_type.is_some_and(is_text)
}

/// Whether things of this type become smaller.
fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    match essence.as_str() {
        "text/event-stream" => false,
        "application/json"
        | "application/javascript"
        | "application/xml"
        | "application/wasm"
        | "application/x-ndjson" => true,
        other => other.starts_with("text/") || other.ends_with("+json") || other.ends_with("+xml"),
    }
}

/// The coding that a client likes best.
fn chosen(accepted: &str) -> Option<Coding> {
    let (mut brotli, mut gzip, mut rest, mut identity) = (None, None, None, None);
    for entry in accepted.split(',').take(ENTRIES_MAX) {
        let (name, weight) = weighed(entry.trim());
        let place = match name.to_ascii_lowercase().as_str() {
            "br" => &mut brotli,
            "gzip" | "x-gzip" => &mut gzip,
            "*" => &mut rest,
            "identity" => &mut identity,
            _ => continue,
        };
        place.get_or_insert(weight);
    }
    let of = |own: Option<u16>| own.or(rest).unwrap_or(0);
    let (brotli, gzip) = (of(brotli), of(gzip));
    let best = brotli.max(gzip);
    if best == 0 || identity.is_some_and(|identity| identity > best) {
        return None;
    }
    Some(if brotli == best {
        Coding::Brotli
    } else {
        Coding::Gzip
    })
}

/// Nothing if it does not become smaller.
fn compress(coding: Coding, bytes: &[u8]) -> Option<Bytes> {
    let mut smaller = Vec::with_capacity(bytes.len() / 2);
    match coding {
        Coding::Brotli => {
            let mut reader =
                brotli::CompressorReader::new(bytes, 4096, BROTLI_QUALITY, BROTLI_WINDOW);
            reader.read_to_end(&mut smaller).ok()?;
        }
        Coding::Gzip => {
            let mut writer = GzEncoder::new(&mut smaller, Compression::new(GZIP_LEVEL));
            writer.write_all(bytes).ok()?;
            writer.finish().ok()?;
        }
    }
    (smaller.len() < bytes.len()).then(|| smaller.into())
}

fn vary(headers: &mut HeaderMap) {
    let names = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        let mut names = text.split(',').map(str::trim);
        names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding"))
    };
    if !headers.get_all(header::VARY).iter().any(names) {
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Bytes that differ have no strong tag in common.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else {
        return;
    };
    if tag.as_bytes().starts_with(b"\"") {
        let weak = [b"W/", tag.as_bytes()].concat();
        if let Ok(weak) = HeaderValue::from_bytes(&weak) {
            headers.insert(header::ETAG, weak);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_that_a_client_likes_best_is_chosen() {
        use Coding::{Brotli, Gzip};
        for (accepted, wanted) in [
            ("gzip", Some(Gzip)),
            ("gzip, deflate, br", Some(Brotli)),
            ("br;q=0.5, gzip", Some(Gzip)),
            ("br;q=0, gzip;q=0", None),
            ("*", Some(Brotli)),
            ("*;q=0.5, br;q=0", Some(Gzip)),
            ("br;q=0, *;q=0", None),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.1, gzip;q=0.5", Some(Gzip)),
            ("GZIP;Q=0.001", Some(Gzip)),
            ("gzip;q=2", None),
            ("gzip;q=0, gzip", None),
            ("deflate", None),
            ("", None),
            (",,;q=1,;", None),
        ] {
            assert_eq!(chosen(accepted), wanted, "{accepted}");
        }
    }

    #[test]
    fn only_whole_plain_texts_without_cookies_are_compressed() {
        for (status, pairs, wanted) in [
            (200, &[("content-type", "application/json")][..], true),
            (
                404,
                &[("content-type", "application/problem+json; charset=utf-8")],
                true,
            ),
            (200, &[("content-type", "text/event-stream")], false),
            (200, &[("content-type", "image/png")], false),
            (200, &[], false),
            (
                206,
                &[
                    ("content-type", "text/plain"),
                    ("content-range", "bytes 0-1/2"),
                ],
                false,
            ),
            (204, &[("content-type", "text/plain")], false),
            (304, &[("content-type", "text/plain")], false),
            (
                200,
                &[("content-type", "text/plain"), ("content-encoding", "gzip")],
                false,
            ),
            (
                200,
                &[("content-type", "text/plain"), ("set-cookie", "a=1")],
                false,
            ),
            (
                200,
                &[
                    ("content-type", "text/plain"),
                    ("cache-control", "public, No-Transform"),
                ],
                false,
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_be(status, &headers), wanted, "{status} {pairs:?}");
        }
    }
}
