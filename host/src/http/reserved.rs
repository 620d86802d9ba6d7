//! Headers that are the host's to set, whoever else writes the message.

use http::HeaderName;

/// About the connection (RFC 9110, section 7.6.1), and the length, which the host counts.
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// With these one answer decides for everything under the same host name, and so for other plugins and for the host
/// itself. A service worker, for instance, could sit before all of it.
pub fn decides_for_all(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "accept-ch"
            | "alt-svc"
            | "clear-site-data"
            | "nel"
            | "origin-agent-cluster"
            | "public-key-pins"
            | "report-to"
            | "service-worker-allowed"
            | "strict-transport-security"
    )
}

/// Whether a message has this header once at most. Of two, each reader might take another one.
pub fn has_one_value(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "age"
            | "content-disposition"
            | "content-location"
            | "content-range"
            | "content-type"
            | "etag"
            | "expires"
            | "last-modified"
            | "location"
            | "retry-after"
    )
}

/// Whether a plugin's answer has no say in this header. Asked of each header of each answer, so it compares and hashes
/// nothing.
pub fn in_answers(name: &HeaderName) -> bool {
    is_of_connection(name.as_str()) || decides_for_all(name)
}

/// Whether a filter has no say in this header of an answer: beside those, what the host says of the call itself.
pub fn in_filtered_answers(name: &HeaderName) -> bool {
    in_answers(name) || is_set_by_the_host(name)
}

/// Whether the host sets this header of every answer, or of those that are limited.
pub fn is_set_by_the_host(name: &HeaderName) -> bool {
    is_of_connection(name.as_str())
        || matches!(
            name.as_str(),
            "ratelimit" | "ratelimit-policy" | "x-content-type-options" | "x-request-id"
        )
}

/// Whether a filter has no say in this header of a request: framing, credentials, where the request goes, and what
/// proxies and the host say of where it comes from.
pub fn in_filtered_requests(name: &HeaderName) -> bool {
    is_of_connection(name.as_str())
        || name.as_str().starts_with("x-forwarded-")
        || matches!(
            name.as_str(),
            "authorization"
                | "expect"
                | "forwarded"
                | "host"
                | "proxy-authorization"
                | "traceparent"
                | "tracestate"
                | "x-api-key"
                | "x-real-ip"
                | "x-request-id"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_no_say_in_where_a_request_comes_from_and_who_asks() {
        for (name, is_hosts) in [
            ("x-forwarded-for", true),
            ("x-forwarded-port", true),
            ("x-forwarded-prefix", true),
            ("x-forwarded", false),
            ("forwarded", true),
            ("authorization", true),
            ("x-api-key", true),
            ("content-length", true),
            ("x-tenant", false),
        ] {
            let name = HeaderName::from_static(name);
            assert_eq!(in_filtered_requests(&name), is_hosts, "{name}");
        }
    }
}
