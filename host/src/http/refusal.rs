//! What the HTTP library refuses before there is a request: it answers with a bare status, here it becomes a problem.

use bytes::Bytes;
use http::StatusCode;

use crate::http::Problem;
use crate::ids::RequestId;

/// How a refusal of the library begins. No answer of our own is sent while there is no request.
pub(super) const BEGIN: &[u8] = b"HTTP/1.1 4";

/// The whole answer in place of the library's own, which has no body.
pub(super) fn of_head(head: &[u8]) -> Option<Bytes> {
    let head = std::str::from_utf8(head).ok()?;
    let (first, rest) = head.strip_suffix("\r\n\r\n")?.split_once("\r\n")?;
    let status: StatusCode = first.split(' ').nth(1)?.parse().ok()?;
    let (code, detail) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "request.headers_too_large",
            "the head of the request has more headers or bytes than the host reads",
        ),
        StatusCode::URI_TOO_LONG => (
            "request.uri_too_long",
            "the path and query are longer than the host reads",
        ),
        _ => ("request.invalid", "this cannot be read as an HTTP request"),
    };
    let id = RequestId::new();
    let problem = Problem::new(status, code, detail).with_request_id(id);
    tracing::debug!(request.id = %id, error.code = code, "What a client sent is no request");
    let answer = problem.into_http();
    let mut text = format!("{first}\r\n");
    for line in rest.split("\r\n") {
        let name = line.split(':').next().unwrap_or_default();
        if !["content-length", "connection"]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own))
        {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    for (name, value) in answer.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().ok()?));
    }
    text.push_str(&format!(
        "x-request-id: {id}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        answer.body().len()
    ));
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(answer.body());
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_refusal_becomes_a_problem() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                     content-length: 0\r\ndate: Sat, 21 Nov 2026 14:00:00 GMT\r\n\r\n";
        let bytes = of_head(bare).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\ndate: Sat"));
        assert_eq!(head.matches("content-length").count(), 1);
        assert!(head.contains(&format!("content-length: {}", body.len())));
        assert!(head.contains("content-type: application/problem+json"));
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], "request.headers_too_large");
        assert!(head.contains(problem["request_id"].as_str().unwrap()));
    }

    #[test]
    fn what_is_no_whole_head_is_left_alone() {
        for bytes in [
            &b"HTTP/1.1 400 Bad"[..],
            b"HTTP/1.1 4\xff\r\n\r\n",
            b"HTTP/1.1 4x\r\n\r\n",
        ] {
            assert!(of_head(bytes).is_none());
        }
    }
}
