//! W3C Trace Context: who a request belongs to across systems (<https://www.w3.org/TR/trace-context/>).

use http::{HeaderMap, HeaderName};

/// How many calls of plugins stand above a request: a plugin called a plugin by way of a request to another server. Only
/// the host writes it, and it passes it on with every request of a plugin.
pub const DEPTH: HeaderName = HeaderName::from_static("gantry-depth");

/// What a request says of its depth. Whoever leaves it out, or writes nonsense, begins anew: it can be made larger by
/// others, and only plugins have a reason to make it smaller, whose headers the host writes.
pub fn depth(headers: &HeaderMap) -> u32 {
    let value = headers.get(DEPTH).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

/// The `traceparent` to pass on: the caller's trace with our own span, or a new trace.
pub fn traceparent(headers: &HeaderMap, span: u64) -> String {
    let trace = headers
        .get("traceparent")
        .and_then(|value| trace_of(value.to_str().ok()?));
    match trace {
        Some((trace, flags)) => format!("00-{trace}-{span:016x}-{flags}"),
        None => format!("00-{:032x}-{span:016x}-00", rand::random::<u128>().max(1)),
    }
}

/// The trace id and flags of a valid header.
fn trace_of(value: &str) -> Option<(&str, &str)> {
    let mut parts = value.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_zero = |text: &str| text.bytes().all(|b| b == b'0');
    let is_valid = is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && !is_zero(trace)
        && is_hex(parent, 16)
        && !is_zero(parent)
        && is_hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    is_valid.then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_valid_trace_goes_on_and_anything_else_starts_a_new_one() {
        for (value, goes_on) in [
            (format!("00-{TRACE}-b7ad6b7169203331-01"), true),
            (format!("cc-{TRACE}-b7ad6b7169203331-01-more"), true),
            (format!("00-{TRACE}-b7ad6b7169203331-01-more"), false),
            (format!("ff-{TRACE}-b7ad6b7169203331-01"), false),
            (format!("00-{TRACE}-0000000000000000-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
            (
                format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
                false,
            ),
            ("nonsense".to_owned(), false),
        ] {
            let headers =
                HeaderMap::from_iter([("traceparent".parse().unwrap(), value.parse().unwrap())]);
            let next = traceparent(&headers, 7);
            assert_eq!(next.contains(TRACE), goes_on, "{value}");
            assert!(trace_of(&next).is_some(), "{next}");
            assert!(next.contains("-0000000000000007-"), "our own span");
        }
    }
}
