//! Clients that send a little, again and again, so that a connection is never quiet and never done. Those that send nothing, or
//! do not read, are in `connections`.

use std::time::Instant;

use super::*;

/// Sends a byte at a time until the host ends the connection. How long it took, and what it has said.
async fn drip(
    host: &TestHost,
    begin: &[u8],
    endless: &[u8],
    pause: Duration,
) -> (Duration, String) {
    let stream = TcpStream::connect(host.app().address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let began = Instant::now();
    to.write_all(begin).await.unwrap();
    let bytes = endless.iter().cycle();
    let send = async {
        for byte in bytes {
            if to.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
    };
    let mut answer = Vec::new();
    let read = from.read_to_end(&mut answer);
    tokio::select! {
        () = send => {}
        _ = read => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => {}
    }
    (
        began.elapsed(),
        String::from_utf8_lossy(&answer).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_comes_drop_by_drop_does_not_keep_a_place() {
    let host = TestHost::build()
        .with(|config| {
            config.http.header_timeout_ms = 700;
            config.http.idle_timeout_ms = 700;
        })
        .start()
        .await;
    let pause = Duration::from_millis(50);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut headers = preface.to_vec();
    // The head of a request that is said to have more, and never comes.
    headers.extend(b"\0\0\x03\x01\0\0\0\0\x01\x82\x86\x84");
    for (what, begin, endless) in [
        ("a method", &b""[..], &b"G"[..]),
        ("a path", b"GET /", b"x"),
        (
            "headers",
            b"GET /livez HTTP/1.1\r\nhost: x\r\n",
            b"a: b\r\n",
        ),
        ("one header", b"GET /livez HTTP/1.1\r\nhost: x\r\ny: ", b"y"),
        ("a preface", b"PRI * HTTP/2.0\r\n", b"x"),
    ] {
        let (took, answer) = drip(&host, begin, endless, pause).await;
        assert!(took < Duration::from_secs(6), "{what}: {took:?}");
        assert!(!answer.contains(" 200 "), "{what}: {answer}");
    }
    let mut stream = TcpStream::connect(host.app().address).await.unwrap();
    stream.write_all(&headers).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let end = tokio::time::timeout(Duration::from_secs(20), read).await;
    assert!(
        end.is_ok(),
        "half a head of HTTP/2 keeps its connection: {:?}",
        began.elapsed()
    );
    host.get("/livez").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_comes_drop_by_drop_ends_and_keeps_no_other_waiting() {
    let host = host().await;
    host.user("ann@example.com", &[]).await;
    let head = |path: &str, kind: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 3000\r\n\r\n"
        )
    };
    let pause = Duration::from_millis(100);
    let json = "application/json";
    let login = head("/api/auth/login", json);
    let refresh = head("/api/auth/refresh", json);
    let reset = head("/api/auth/password/reset", json);
    let began = Instant::now();
    let others = async {
        // Meanwhile people log in.
        while began.elapsed() < Duration::from_secs(4) {
            let one = Instant::now();
            log_in(&host, "ann@example.com").await;
            // The three others are still dripping then.
            assert!(
                one.elapsed() < Duration::from_secs(9),
                "{:?}",
                one.elapsed()
            );
        }
    };
    let (first, second, third, ()) = tokio::join!(
        drip(&host, login.as_bytes(), b" ", pause),
        drip(&host, refresh.as_bytes(), b" ", pause),
        drip(&host, reset.as_bytes(), b" ", pause),
        others,
    );
    for (took, answer) in [first, second, third] {
        assert!(took < Duration::from_secs(15), "{took:?}");
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("request.body_timeout"), "{answer}");
    }
}
