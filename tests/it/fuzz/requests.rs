//! Requests as no client writes them, over sockets.

use std::time::Duration;

use gantry_harness::{Process, guests::guest, pack};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::assert_well;
use crate::manifests;
use crate::random::Random;

const CLIENTS: u64 = 8;
const CASES_PER_CLIENT: u32 = 250;
/// A request that is not complete is not answered; nobody waits for that.
const PATIENCE: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_the_host_fail() {
    let server = Process::start("").await;
    let bundle = pack(&manifests::open("hello"), &guest("hello-v1"), &[]);
    server.upload("", bundle).await.assert_status(201);
    let address = server.address();
    let client = |seed| async move {
        let mut random = Random::new(seed);
        let mut answered = 0;
        for _ in 0..CASES_PER_CLIENT {
            let request = request(&mut random);
            let mut stream = TcpStream::connect(address).await.unwrap();
            // The host may close before it has read all.
            let _ = stream.write_all(&request).await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
            let Some(status) = status_of(&answer) else {
                continue;
            };
            answered += 1;
            assert!(
                status < 500 || [501, 505].contains(&status),
                "{}\n---\n{}",
                String::from_utf8_lossy(&request),
                String::from_utf8_lossy(&answer)
            );
        }
        answered
    };
    let answered: Vec<u32> = futures_util::future::join_all((1..=CLIENTS).map(client)).await;
    assert!(answered.iter().sum::<u32>() > 800, "{answered:?}");
    assert_well(&server).await;
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let head = answer.strip_prefix(b"HTTP/1.")?;
    std::str::from_utf8(head.get(2..5)?).ok()?.parse().ok()
}

fn request(random: &mut Random) -> Vec<u8> {
    let methods = [
        "GET", "POST", "HEAD", "OPTIONS", "DELETE", "PATCH", "CONNECT", "TRACE", "get", "G\0T", "",
        "BREW",
    ];
    let method = if random.is_one_of(3) {
        random.one(&methods)
    } else {
        "GET"
    };
    let versions = ["HTTP/1.0", "HTTP/2.0", "HTTP/1.9", "HTTP/", "http/1.1", ""];
    let version = if random.is_one_of(10) {
        random.one(&versions)
    } else {
        "HTTP/1.1"
    };
    let mut bytes = method.as_bytes().to_vec();
    bytes.push(b' ');
    bytes.extend(target(random));
    bytes.extend(format!(" {version}\r\n").as_bytes());
    if !random.is_one_of(10) {
        bytes.extend(b"host: localhost\r\n");
    }
    for _ in 0..random.below(6) {
        bytes.extend(header(random));
    }
    if !random.is_one_of(20) {
        bytes.extend(b"connection: close\r\n");
    }
    bytes.extend(b"\r\n");
    if random.is_one_of(3) {
        bytes.extend(random.bytes(200));
    }
    if random.is_one_of(20) {
        let place = random.place(bytes.len());
        bytes[place] = random.byte();
    }
    bytes
}

fn target(random: &mut Random) -> Vec<u8> {
    let begins = [
        "/hello/",
        "/hello",
        "/",
        "/_gantry/api/v1/plugins/",
        "/_gantry/api/v1/deployments",
        "/api/auth/login",
        "/metrics",
        "http://other.example/hello/",
        "http://[::1/",
        "*",
        "hello",
    ];
    let pieces: [&[u8]; 16] = [
        b"a",
        b"/",
        b"//",
        b"..",
        b"%2e%2e",
        b"%",
        b"%zz",
        b"%00",
        b"%ff",
        b"?",
        b"?a=%&b&&=",
        b"#",
        b"\xff\xfe",
        b"{x}",
        b";v=1",
        b"%c3%a9",
    ];
    let mut target = random.one(&begins).as_bytes().to_vec();
    for _ in 0..random.below(6) {
        target.extend(random.one(&pieces));
    }
    if random.is_one_of(40) {
        target.extend(b"a".repeat(random.below(100_000) as usize));
    }
    target
}

fn header(random: &mut Random) -> Vec<u8> {
    let names = [
        "authorization",
        "x-api-key",
        "cookie",
        "content-length",
        "transfer-encoding",
        "content-type",
        "content-encoding",
        "expect",
        "range",
        "accept",
        "x-forwarded-for",
        "x-gantry-version",
        "x-request-id",
        "upgrade",
        "host",
        "x-any",
        "x any",
        "",
    ];
    let values: [&[u8]; 18] = [
        b"",
        b"0",
        b"-1",
        b"5",
        b"99999999999999999999",
        b"chunked",
        b"gzip, chunked",
        b"Bearer x.y.z",
        b"Bearer gk_0000.secret",
        b"Basic dXNlcjpwYXNz",
        b"application/json; charset=\"",
        b"100-continue",
        b"bytes=0-0,-1",
        b"h2c",
        b"\xff\xfe",
        b"a, b, c,,",
        b"canary",
        b"a\tb",
    ];
    let mut header = random.one(&names).as_bytes().to_vec();
    header.extend(b": ");
    if random.is_one_of(10) {
        header.extend(random.bytes(50));
    } else {
        header.extend(random.one(&values));
    }
    if random.is_one_of(60) {
        header.extend(b"y".repeat(random.below(200_000) as usize));
    }
    header.extend(b"\r\n");
    header
}
