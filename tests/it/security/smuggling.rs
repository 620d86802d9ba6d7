//! Bytes in which two readers see two different requests. A proxy in front may be one of them, so the host must not be the
//! other: what has no one meaning is refused, or ends the connection.

use super::*;

/// What an attacker wants to be a request of its own.
const SMUGGLED: &str = "GET /echo/open/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

fn post(headers: &str, body: &str) -> String {
    format!("POST /echo/open/front HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_behind_a_request_becomes_another_one() {
    let host = host().await;
    let body = |headers: &str, body: &str| post(headers, &format!("{body}{SMUGGLED}"));
    let chunked = "transfer-encoding: chunked\r\n";
    // Whether the first request may be answered with a success; the second is never answered.
    let cases = [
        // Both: the length does not count, and the connection ends (RFC 9112, section 6.3).
        (
            true,
            body(&format!("content-length: 5\r\n{chunked}"), "0\r\n\r\n"),
        ),
        (
            true,
            body(&format!("{chunked}content-length: 5\r\n"), "0\r\n\r\n"),
        ),
        (
            true,
            body(&format!("{chunked}content-length: 300\r\n"), "0\r\n\r\n"),
        ),
        // A length that is not one number.
        (
            false,
            body("content-length: 0\r\ncontent-length: 5\r\n", ""),
        ),
        (false, body("content-length: 0, 5\r\n", "")),
        (false, body("content-length: +0\r\n", "")),
        (false, body("content-length: -1\r\n", "")),
        (false, body("content-length: 0x0\r\n", "")),
        (false, body("content-length: 0 0\r\n", "")),
        (false, body("content-length: \r\n", "")),
        (false, body("content-length: 18446744073709551617\r\n", "")),
        (false, body("content-length: \u{661}\r\n", "")),
        // A coding that is not exactly the one.
        (false, body("transfer-encoding: xchunked\r\n", "0\r\n\r\n")),
        (false, body("transfer-encoding: chunk\r\n", "0\r\n\r\n")),
        (false, body("transfer-encoding: identity\r\n", "0\r\n\r\n")),
        (
            false,
            body("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ),
        (
            false,
            body("transfer-encoding: chunked;q=1\r\n", "0\r\n\r\n"),
        ),
        (
            false,
            body("transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n"),
        ),
        (
            false,
            body("transfer-encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
        ),
        (false, body("transfer-encoding:\r\n", "0\r\n\r\n")),
        (
            false,
            body(
                "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
                "0\r\n\r\n",
            ),
        ),
        // Lines that some readers see otherwise.
        (false, body("transfer-encoding : chunked\r\n", "0\r\n\r\n")),
        (false, body(" transfer-encoding: chunked\r\n", "0\r\n\r\n")),
        (
            false,
            body("x: y\r\n transfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        (false, body("x: y\r\n\tfolded\r\n", "")),
        (
            false,
            body("x: y\rtransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        (false, body("x\r: y\r\n", "")),
        (false, body("x: y\0z\r\n", "")),
        (false, body("x y: z\r\n", "")),
        (false, body(": z\r\n", "")),
        (false, body("x(): z\r\n", "")),
        // Chunks that are none.
        (false, body(chunked, "+0\r\n\r\n")),
        (false, body(chunked, "-1\r\n\r\n")),
        (false, body(chunked, "0x0\r\n\r\n")),
        (false, body(chunked, "\r\n0\r\n\r\n")),
        (false, body(chunked, "1\r\nxy0\r\n\r\n")),
        (false, body(chunked, "1\r\nx0\r\n\r\n")),
        (false, body(chunked, "fffffffffffffffff\r\nx\r\n0\r\n\r\n")),
        (false, body(chunked, "1\nx\n0\n\n")),
        (
            false,
            body(
                chunked,
                &format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(100_000)),
            ),
        ),
    ];
    for (may_succeed, request) in cases {
        let answer = raw(&host, request.as_bytes()).await;
        let told = format!("{:?}\n{answer}", &request[..request.len().min(200)]);
        assert!(!answer.contains("smuggled"), "{told}");
        let answers: Vec<&str> = answer.matches("HTTP/1.1 ").collect();
        assert!(answers.len() <= 1, "{told}");
        let is_success = answer.starts_with("HTTP/1.1 2");
        assert!(may_succeed || !is_success, "{told}");
        assert!(!answer.starts_with("HTTP/1.1 5"), "{told}");
    }
    for line in [
        "GET /echo/open/front HTTP/1.1 HTTP/1.1",
        "GET  /echo/open/front HTTP/1.1",
        "GET\t/echo/open/front\tHTTP/1.1",
        "GET /echo/open/front\u{b}x HTTP/1.1",
        "GET /echo/open/front HTTP/1.10",
        "GET /echo/open/front HTTP/0.9",
        "GET /echo/open/front HTTP/3.0",
        "GET /echo/open/front",
        "G ET /echo/open/front HTTP/1.1",
    ] {
        let request = format!("{line}\r\nhost: x\r\n\r\n{SMUGGLED}");
        let answer = raw(&host, request.as_bytes()).await;
        assert!(!answer.contains("smuggled"), "{line}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{line}: {answer}");
    }
    // Chunks are for HTTP/1.1.
    let old = post(chunked, "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0");
    let answer = raw(&host, format!("{old}{SMUGGLED}").as_bytes()).await;
    assert!(
        !answer.contains("smuggled") && !answer.contains(" 200 "),
        "{answer}"
    );
    let log = host.access_log().await;
    assert!(!log.contains("smuggled"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_no_request_whatever_it_looks_like() {
    let host = host().await;
    let next = "GET /echo/open/next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let length = SMUGGLED.len();
    for head in [
        "GET /echo/open/first",
        "POST /echo/closed",
        "GET /nowhere",
        "POST /livez",
    ] {
        for (headers, body) in [
            (format!("content-length: {length}"), SMUGGLED.to_owned()),
            (
                "transfer-encoding: chunked".to_owned(),
                format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
            ),
        ] {
            let request = format!("{head} HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n{body}{next}");
            let answer = raw(&host, request.as_bytes()).await;
            // Who refuses a request without reading its body may close the connection, but never reads the body as a request.
            assert!(!answer.contains("smuggled"), "{request}: {answer}");
            let answers = answer.matches("HTTP/1.1 ").count();
            assert!((1..=2).contains(&answers), "{request}: {answer}");
            if answers == 2 {
                assert!(answer.contains("/open/next"), "{request}: {answer}");
            }
        }
    }
    let log = host.access_log().await;
    assert!(!log.contains("smuggled"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_has_no_headers_of_connections_and_one_length() {
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }
    fn text(bytes: &mut Vec<u8>, text: &str) {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    let host = host().await;
    let body = b"five!";
    for (name, value, is_fine) in [
        ("x-fine", "yes", true),
        ("content-length", "5", true),
        ("content-length", "3", false),
        ("content-length", "500", false),
        ("content-length", "x", false),
        ("transfer-encoding", "chunked", false),
        ("connection", "close", false),
        ("keep-alive", "1", false),
        ("proxy-connection", "close", false),
        ("upgrade", "h2c", false),
        ("X-Upper", "yes", false),
        ("x-line", "a\r\ntransfer-encoding: chunked", false),
        ("x: y\r\nz", "a", false),
        (":path", "/echo/closed", false),
        (":unknown", "x", false),
    ] {
        // POST, http, then the path and the authority as plain text.
        let mut head = vec![0x83, 0x86, 0x04];
        text(&mut head, "/echo/open/h2");
        head.push(0x01);
        text(&mut head, "x");
        head.push(0x00);
        text(&mut head, name);
        text(&mut head, value);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(4, 1, 0, &[]));
        bytes.extend(frame(1, 0x4, 1, &head));
        bytes.extend(frame(0, 0x1, 1, body));
        let answer = raw(&host, &bytes).await;
        // Bodies of answers are not compressed here, so what the plugin says can be read.
        let is_answered = answer.contains("\"path\":\"/open/h2\"");
        assert_eq!(is_answered, is_fine, "{name}: {value:?}: {answer}");
    }
}
