//! Which headers pass from a plugin to another server and back.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::services::Error;

/// Headers of one connection and those that say who asked: the host's to set, not the plugin's.
const DROPPED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "gantry-depth",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-client-ip",
    "x-real-ip",
];
const DROPPED_PREFIXES: &[&str] = &["proxy-", "x-forwarded-", "sec-"];

/// What a plugin may set. `limit` if it is too much.
pub(super) fn clean(headers: &HeaderMap, bytes_max: usize) -> Result<HeaderMap, Error> {
    let message = format!("the headers of a request have at most {bytes_max} bytes");
    check_size(headers, bytes_max)
        .then(|| without_hop_by_hop(headers))
        .ok_or_else(|| Error::limit("outbound.headers_too_large", message))
}

/// What a plugin sees of an answer. `limit` if it is too much.
pub(super) fn clean_answer(headers: &HeaderMap, bytes_max: usize) -> Result<HeaderMap, Error> {
    let message = format!("the headers of the answer have more than {bytes_max} bytes");
    let mut clean = check_size(headers, bytes_max)
        .then(|| without_hop_by_hop(headers))
        .ok_or_else(|| Error::limit("outbound.headers_too_large", message))?;
    if let Some(length) = headers.get(header::CONTENT_LENGTH) {
        clean.insert(header::CONTENT_LENGTH, length.clone());
    }
    Ok(clean)
}

/// For a redirect to another server.
pub(super) fn remove_credentials(headers: &mut HeaderMap) {
    for name in [
        header::AUTHORIZATION,
        header::COOKIE,
        header::WWW_AUTHENTICATE,
    ] {
        headers.remove(name);
    }
    // Whatever a plugin calls its own keys: `x-api-key`, `x-auth-token`.
    let keys: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            ["key", "token", "secret", "auth"]
                .iter()
                .any(|word| name.as_str().contains(word))
        })
        .cloned()
        .collect();
    for name in keys {
        headers.remove(name);
    }
}

/// For a redirect that turns the request into a `GET`.
pub(super) fn remove_content(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("content-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// What they take on their way.
pub(super) fn bytes(headers: &HeaderMap) -> u64 {
    // With `: ` and the line break.
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    headers.iter().map(bytes).sum::<usize>() as u64
}

fn check_size(headers: &HeaderMap, bytes_max: usize) -> bool {
    bytes(headers) <= bytes_max as u64
}

fn without_hop_by_hop(headers: &HeaderMap) -> HeaderMap {
    // A connection header names more headers that belong to the connection.
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        !DROPPED.contains(&name)
            && !DROPPED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
            && !named.iter().any(|named| named == name)
    };
    let mut clean = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| passes(name)) {
        clean.append(name.clone(), value.clone());
    }
    clean
}
