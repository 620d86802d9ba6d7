//! Clients that are slow on purpose, or take more than their part.

use std::time::{Duration, Instant};

use gantry::config::Config;
use gantry_harness::{Answer, TestHost, guests::guest};
use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::manifests;

/// A host that believes what a client on this machine says about its address.
async fn host(change: impl FnOnce(&mut Config)) -> TestHost {
    let host = TestHost::build()
        .with(|config| {
            config.gateway.trusted_proxies = serde_json::from_value(json!(["127.0.0.1"])).unwrap();
            change(config);
        })
        .start()
        .await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    host.deploy(&manifests::open("giant"), guest("giant_body"))
        .await;
    host
}

/// A connection on which the system keeps little for a client that does not read.
async fn connect(host: &TestHost) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(host.app().address).await.unwrap()
}

async fn send(host: &TestHost, request: &str) -> TcpStream {
    let mut stream = connect(host).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A request whose answer has begun to come.
async fn begun(host: &TestHost, request: &str) -> TcpStream {
    let stream = send(host, request).await;
    assert_eq!(stream.peek(&mut [0]).await.unwrap(), 1);
    stream
}

/// Whether the host ends this connection within a time that is much shorter than its other bounds. Reads nothing.
async fn is_cut_off(stream: &mut TcpStream) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        // Writing to a connection that was reset fails.
        if stream.write_all(b"\0").await.is_err() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// The rest of what comes on a connection, up to a reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let end = tokio::time::timeout(Duration::from_secs(10), read).await;
    drop(end.expect("the host closes the connection"));
    String::from_utf8_lossy(&answer).into_owned()
}

fn large(client: &str, bytes: usize) -> String {
    format!("GET /giant/?bytes={bytes} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\n\r\n")
}

async fn get_large(host: &TestHost, client: &str, bytes: usize) -> Answer {
    let path = format!("/giant/?bytes={bytes}");
    let request = host.request(Method::GET, &path);
    host.send(request.header("x-forwarded-for", client)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_the_answer_is_cut_off_and_who_reads_slowly_is_not() {
    let host = host(|config| config.http.write_timeout_ms = 500).await;
    let mut stream = begun(&host, &large("192.0.2.1", 12_000_000)).await;
    assert!(is_cut_off(&mut stream).await);

    let request = large("192.0.2.1", 6_000_000).replacen("host", "connection: close\r\nhost", 1);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut slow = socket.connect(host.app().address).await.unwrap();
    slow.write_all(request.as_bytes()).await.unwrap();
    let (mut bytes, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        match slow.read(&mut buffer).await.unwrap() {
            0 => break,
            count => bytes += count,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bytes > 6_000_000, "{bytes}");
}

/// An HTTP/2 connection with one request, whose client takes this many bytes of each answer.
pub(crate) async fn http2(host: &TestHost, path: &str, window: u32) -> TcpStream {
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }
    let mut settings = vec![0, 4];
    settings.extend(window.to_be_bytes());
    // GET, http, and the path and the authority as plain text.
    let mut head = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    head.extend(path.as_bytes());
    head.extend([0x01, 1, b'x']);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &settings));
    bytes.extend(frame(4, 1, 0, &[]));
    bytes.extend(frame(1, 0x5, 1, &head));
    let mut stream = connect(host).await;
    stream.write_all(&bytes).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_2_that_takes_nothing_of_an_answer_is_cut_off() {
    let host = host(|config| {
        config.http.write_timeout_ms = 300;
        config.http.idle_timeout_ms = 300;
    })
    .await;
    for (window, bytes) in [(0, 1000), (1, 1000), (1, 1_000_000)] {
        let path = format!("/giant/?bytes={bytes}");
        let mut stream = http2(&host, &path, window).await;
        let answer = rest(&mut stream).await;
        assert!(!answer.contains("xx"), "{window} {bytes}");
    }
    // With a window for all of it, it comes.
    let mut stream = http2(&host, "/giant/?bytes=1000", 65_535).await;
    let answer = rest(&mut stream).await;
    assert!(answer.contains(&"x".repeat(1000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_take_a_part_of_the_memory_and_not_all() {
    let host = host(|config| {
        config.gateway.answers_bytes_max = 24 << 20;
        config.gateway.answers_bytes_per_client_max = 12 << 20;
    })
    .await;
    let (a, b, c) = ("192.0.2.1", "198.51.100.2", "203.0.113.3");
    let held = begun(&host, &large(a, 10_000_000)).await;
    get_large(&host, a, 5_000_000)
        .await
        .assert_problem(503, "host.saturated");
    get_large(&host, a, 1000).await.assert_status(200);
    get_large(&host, b, 5_000_000).await.assert_status(200);
    let also_held = begun(&host, &large(b, 10_000_000)).await;
    get_large(&host, c, 6_000_000)
        .await
        .assert_problem(503, "host.saturated");
    // It all comes back.
    drop((held, also_held));
    for client in [a, b] {
        wait_until(async || get_large(&host, client, 10_000_000).await.status == 200).await;
    }
}

async fn wait_until(mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < until, "it does not come to it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_has_a_bounded_number_of_connections_and_a_trusted_proxy_has_not() {
    let few = |config: &mut Config| config.http.connections_per_client_max = 2;
    let host = TestHost::build().with(few).start().await;
    let request = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let ask = async |stream: &mut TcpStream| {
        let mut byte = [0];
        // A host that refuses a connection may reset it.
        stream.write_all(request.as_bytes()).await.is_ok()
            && matches!(stream.read(&mut byte).await, Ok(1))
    };
    let mut streams = vec![connect(&host).await, connect(&host).await];
    for stream in &mut streams {
        assert!(ask(stream).await);
    }
    assert!(!ask(&mut connect(&host).await).await);
    streams.pop();
    wait_until(async || ask(&mut connect(&host).await).await).await;

    let trusting = self::host(few).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&trusting).await;
        assert!(ask(&mut stream).await);
        streams.push(stream);
    }
}

/// The head and the first bytes of a body that is longer.
fn upload(client: &str, length: usize, sent: usize) -> String {
    format!(
        "POST /echo/ HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {client}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{}",
        "x".repeat(sent)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_of_one_client_leave_room_for_those_of_others() {
    let host = host(|config| {
        config.gateway.bodies_bytes_max = 100 << 10;
        config.gateway.bodies_bytes_per_client_max = 50 << 10;
    })
    .await;
    let post = async |client: &str, bytes: usize| {
        let request = host.request(Method::POST, "/echo/").body(vec![b'x'; bytes]);
        host.send(request.header("x-forwarded-for", client)).await
    };
    let (a, b) = ("192.0.2.1", "198.51.100.2");
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(send(&host, &upload(a, 100_000, 20_000)).await);
    }
    wait_until(async || post(a, 20_000).await.status == 503).await;
    post(a, 20_000).await.assert_problem(503, "host.saturated");
    post(b, 45_000).await.assert_status(200);
    drop(held);
    wait_until(async || post(a, 90_000).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_the_clients_fault_and_costs_the_plugin_no_time() {
    let host = host(|config| {
        config.gateway.body_window_ms = 400;
        config.gateway.body_bytes_per_s_min = 1000;
        config.gateway.request_timeout_ms = 1000;
    })
    .await;
    // Much at first, and then nothing: that is too slow, too.
    for sent in [0, 10, 50_000] {
        let mut stream = send(&host, &upload("192.0.2.1", 100_000, sent)).await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{sent}: {answer}");
        assert!(answer.contains("request.body_timeout"), "{answer}");
    }
    // Fast enough, though it takes longer than the plugin may.
    let mut stream = send(&host, &upload("192.0.2.1", 14_000, 0)).await;
    for _ in 0..14 {
        stream.write_all(&[b'x'; 1000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"body_bytes\":14000"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_answered_with_a_problem() {
    let host = host(|_| {}).await;
    let wide = |bytes: usize| {
        let filler = "y".repeat(bytes);
        format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {filler}\r\n\r\n")
    };
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(600));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "z".repeat(70_000));
    for (request, status, code) in [
        ("nonsense\r\n\r\n", 400, "request.invalid"),
        (
            "GET / HTTP/1.1\r\nno header\r\n\r\n",
            400,
            "request.invalid",
        ),
        (&wide(200_000), 431, "request.headers_too_large"),
        (&wide(40_000), 431, "request.headers_too_large"),
        (&many, 431, "request.headers_too_large"),
        (&long, 414, "request.uri_too_long"),
    ] {
        let answer = rest(&mut send(&host, request).await).await;
        let told = format!("{}: {answer}", request.chars().take(14).collect::<String>());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{told}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json"), "{told}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code, "{told}");
        let id = format!("x-request-id: {}", problem["request_id"].as_str().unwrap());
        assert!(head.contains(&id), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_sent_at_once_are_not_answered_all_at_once() {
    let host = host(|config| {
        config.gateway.answers_bytes_per_client_max = 64 << 20;
    })
    .await;
    let one = large("192.0.2.1", 4_000_000);
    let _stream = send(&host, &one.repeat(40)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let log = host.access_log().await;
    let answered = log.lines().filter(|line| line.contains("192.0.2.1"));
    let answered = answered.count();
    assert!((1..5).contains(&answered), "{answered} answers wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_and_reads_only_then_still_gets_to_know_why() {
    const BYTES: usize = 6 << 20;
    let head = format!("POST /echo/ HTTP/1.1\r\nhost: x\r\ncontent-length: {BYTES}\r\n\r\n");
    let host = host(|config| config.plugins.defaults.body_bytes_max = 1000).await;
    let mut stream = send(&host, &head).await;
    stream.write_all(&vec![b'x'; BYTES]).await.unwrap();
    let answer = rest(&mut stream).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(answer.contains("request.body_too_large"), "{answer}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_refused_body_is_taken_for_a_while_and_up_to_a_size() {
    let head = "POST /echo/ HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n";
    for (timeout_ms, bytes_max) in [(60_000, 100_000), (300, u64::MAX)] {
        let host = host(|config| {
            config.plugins.defaults.body_bytes_max = 1000;
            config.http.unread_body_timeout_ms = timeout_ms;
            config.http.unread_body_bytes_max = bytes_max;
        })
        .await;
        let mut stream = send(&host, head).await;
        let piece = vec![b'x'; 64 << 10];
        let until = Instant::now() + Duration::from_secs(20);
        while stream.write_all(&piece).await.is_ok() {
            assert!(Instant::now() < until, "{timeout_ms} ms, {bytes_max} bytes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        host.stop().await;
    }
}
