//! Bodies that flow through plugins of `wasi:http`, in both of its versions: they reach the other side as they are made,
//! and whoever misbehaves ends only their own call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use gantry_harness::{Process, TestHost, guests::guest, pack};
use http::Method;
use serde_json::Value;

use crate::manifests;
use crate::services::remote::Remote;

const BOTH: [&str; 2] = ["stream-02", "stream-03"];

fn manifest(name: &str, route: &str, more: &str) -> String {
    // Only the one of 0.3 can send requests.
    let http = match name {
        "stream-03" if !more.contains("[capabilities]") => {
            "[capabilities]\nhttp = [{ host = \"api.example.com\", reason = \"a test\" }]\n"
        }
        _ => "",
    };
    format!(
        "schema = 1\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n\
         [component]\npath = \"plugin.wasm\"\n\
         [[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"/{{*rest}}\"\nauth = \"public\"\n{route}\n{http}{more}\n"
    )
}

/// A host with both guests, each under its name, and a plugin beside them.
async fn host_with(route: &str, more: &str) -> TestHost {
    deployed(TestHost::build().start().await, route, more).await
}

async fn deployed(host: TestHost, route: &str, more: &str) -> TestHost {
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    for name in BOTH {
        host.deploy(&manifest(name, route, more), guest(name)).await;
    }
    host
}

async fn begin(host: &TestHost, path: &str) -> reqwest::Response {
    let response = host.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response
}

async fn plugin_log(host: &TestHost, name: &str) -> String {
    host.app().logs.flush().await;
    let path = format!("/_gantry/api/v1/plugins/{name}/logs");
    host.admin().get(&path).await.assert_status(200).text()
}

/// All places are free again, and soon.
async fn is_over(host: &TestHost, what: &str) {
    let began = Instant::now();
    while host.app().runtime.calls_in_progress() > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "{what} goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    host.get("/neighbour/").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_event_arrives_before_the_plugin_ends() {
    let host = host_with("", "").await;
    for name in BOTH {
        let began = Instant::now();
        let mut response = begin(&host, &format!("/{name}/events?n=20")).await;
        let mut all = Vec::new();
        while !all.starts_with(b"data: 0\n\n") {
            all.extend_from_slice(&response.chunk().await.unwrap().unwrap());
        }
        let first_after = began.elapsed();
        while let Some(piece) = response.chunk().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        let expected: String = (0..20).map(|n| format!("data: {n}\n\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected, "{name}");
        assert!(
            first_after < began.elapsed() / 2,
            "{name}: the first after {first_after:?}, all after {:?}",
            began.elapsed()
        );
        is_over(&host, name).await;
    }
    let log = host.access_log().await;
    let ended: Vec<Value> = log
        .lines()
        .filter(|line| line.contains("\"stream\":\"ended\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ended.len(), 2, "{log}");
    assert!(ended[0]["body_bytes"].as_u64() >= Some(20 * 9), "{log}");
    assert!(ended[0]["cut_off_by"].is_null(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_answer_goes_out_whole() {
    let host = host_with("", "").await;
    for (path, text) in [
        ("/stream-02/x", "there is no /x\n"),
        ("/stream-03/hello", "hello\n"),
    ] {
        let answer = host.get(path).await.assert_status(200);
        assert_eq!(answer.text(), text);
        let length = text.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length), "{path}");
    }
    let log = host.access_log().await;
    assert!(!log.contains("\"stream\""), "{log}");
}

fn pieces(count: usize, bytes: usize) -> reqwest::Body {
    let piece = Bytes::from(vec![b'x'; bytes]);
    let pieces = stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    reqwest::Body::wrap_stream(pieces)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_flows_into_the_plugin_within_the_bound_of_its_route() {
    let host = host_with("body_bytes_max = \"8MiB\"", "[limits]\ncpu = \"5s\"").await;
    for name in BOTH {
        let path = format!("/{name}/count");
        let post = |body: reqwest::Body| host.send(host.request(Method::POST, &path).body(body));
        let answer = post(pieces(8, 1 << 20)).await.assert_status(200);
        assert_eq!(answer.text(), format!("{}\n", 8 << 20), "{name}");
        let announced = vec![b'x'; 1 << 20].into();
        let answer = post(announced).await.assert_status(200);
        assert_eq!(answer.text(), format!("{}\n", 1 << 20), "{name}");
        assert_eq!(post(Bytes::new().into()).await.text(), "0\n", "{name}");
        post(pieces(9, 1 << 20))
            .await
            .assert_problem(413, "request.body_too_large");
        let announced = vec![b'x'; (8 << 20) + 1].into();
        let announced = host
            .request(Method::POST, &path)
            .body::<reqwest::Body>(announced);
        // The answer may overtake the body, and then the connection breaks while the client still sends.
        if let Ok(answer) = host.try_send(announced).await {
            answer.assert_problem(413, "request.body_too_large");
        }
        is_over(&host, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_answers_while_the_question_is_still_coming() {
    let host = host_with("stream = \"1m\"", "").await;
    for path in ["/stream-02/echo", "/stream-03/echo", "/stream-03/pass"] {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let body = stream::unfold(receiver, |mut receiver| async {
            let piece = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), receiver))
        });
        let request = host
            .request(Method::POST, path)
            .body(reqwest::Body::wrap_stream(body));
        sender.send(Bytes::from_static(b"piece")).await.unwrap();
        let mut response = request.send().await.unwrap();
        for _ in 0..3 {
            let echo = response.chunk().await.unwrap().unwrap();
            assert_eq!(echo, "piece", "{path}");
            sender.send(Bytes::from_static(b"piece")).await.unwrap();
        }
        drop(sender);
        assert_eq!(response.bytes().await.unwrap(), "piece", "{path}");
        is_over(&host, path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_length_is_told_and_held() {
    let host = host_with("", "[limits]\ncpu = \"5s\"").await;
    let response = begin(&host, "/stream-02/download?n=2").await;
    assert_eq!(response.content_length(), Some(2 << 20));
    assert_eq!(response.bytes().await.unwrap().len(), 2 << 20);
    let response = begin(&host, "/stream-02/short").await;
    assert!(response.bytes().await.is_err(), "less than it declared");
    is_over(&host, "a length").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_take_little_memory() {
    const MIB: usize = 96;
    let host = Process::start("[plugins.ceilings]\nbody_bytes_max = 268435456").await;
    for name in BOTH {
        let manifest = manifest(
            name,
            "stream = \"1m\"\nbody_bytes_max = \"256MiB\"",
            "[limits]\ncpu = \"5s\"",
        );
        let bundle = pack(&manifest, &guest(name), &[]);
        host.upload("grant=all", bundle).await.assert_status(201);
        host.get(&format!("/{name}/x")).await.assert_status(200);
    }
    for name in BOTH {
        let before = host.memory_bytes();
        let request = host.request(Method::GET, &format!("/{name}/download?n={MIB}"));
        let mut response = request.send().await.unwrap();
        let (mut bytes, mut most) = (0, 0);
        while let Some(piece) = response.chunk().await.unwrap() {
            if bytes == 0 {
                // Long enough for a host without backpressure to fetch everything.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            bytes += piece.len();
            most = most.max(host.memory_bytes());
        }
        assert_eq!(bytes, MIB << 20, "{name}");
        let path = format!("/{name}/count");
        let upload = host.request(Method::POST, &path).body(pieces(MIB, 1 << 20));
        let answer = host.send(upload).await.assert_status(200);
        assert_eq!(answer.text(), format!("{}\n", MIB << 20), "{name}");
        most = most.max(host.memory_bytes());
        let more = most.saturating_sub(before) >> 20;
        assert!(more < 48, "{name} took {more} MiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_plugin_at_once() {
    let host = host_with("stream = \"10m\"", "").await;
    for name in BOTH {
        for path in ["silent", "endless"] {
            let mut response = begin(&host, &format!("/{name}/{path}")).await;
            assert!(response.chunk().await.unwrap().is_some());
            assert_eq!(host.app().runtime.calls_in_progress(), 1);
            drop(response);
            is_over(&host, &format!("{name} {path}")).await;
        }
        // Before the head of the answer.
        let request = host.request(Method::GET, &format!("/{name}/never-answers"));
        let timed_out = request.timeout(Duration::from_millis(300)).send().await;
        assert!(timed_out.is_err());
        is_over(&host, name).await;
    }
    let log = host.access_log().await;
    assert!(log.contains("\"cut_off_by\":\"client\""), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stands_still_ends_the_plugin_after_a_while() {
    let host = TestHost::build()
        .with(|config| config.runtime.client_idle_ms = 300)
        .start()
        .await;
    let host = deployed(host, "stream = \"10m\"", "[limits]\ncpu = \"5s\"").await;
    for name in BOTH {
        // It takes nothing.
        let mut response = begin(&host, &format!("/{name}/endless")).await;
        assert!(response.chunk().await.unwrap().is_some());
        is_over(&host, &format!("{name} endless")).await;
        drop(response);
        // It sends nothing.
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"x"))]);
        let body = reqwest::Body::wrap_stream(first.chain(stream::pending()));
        let request = host.request(Method::POST, &format!("/{name}/count"));
        host.send(request.body(body))
            .await
            .assert_problem(408, "request.body_timeout");
        is_over(&host, &format!("{name} count")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_in_the_middle_does_not_look_like_an_end() {
    let host = host_with("stream = \"10m\"", "[limits]\ncpu = \"200ms\"").await;
    for name in BOTH {
        for path in ["trap", "loop"] {
            let began = Instant::now();
            let mut response = begin(&host, &format!("/{name}/{path}")).await;
            assert_eq!(response.chunk().await.unwrap().unwrap(), "first");
            assert!(response.chunk().await.is_err(), "{name} {path}");
            assert!(began.elapsed() < Duration::from_secs(5), "{name} {path}");
            is_over(&host, path).await;
        }
    }
    let log = plugin_log(&host, "stream-03").await;
    assert!(log.contains("200 ms of processor time"), "{log}");
    let log = host.access_log().await;
    assert!(log.contains("\"cut_off_by\":\"plugin\""), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_time_for_streams_the_wall_time_holds_for_them_too() {
    let host = host_with("", "[limits]\nwall = \"400ms\"\ncpu = \"5s\"").await;
    for name in BOTH {
        for path in ["silent", "endless"] {
            let began = Instant::now();
            let response = begin(&host, &format!("/{name}/{path}")).await;
            assert!(response.bytes().await.is_err(), "{name} {path}");
            assert!(began.elapsed() < Duration::from_secs(5), "{name} {path}");
            is_over(&host, path).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_until_time_is_up_is_late_and_the_plugin_is_not() {
    let host = host_with("", "[limits]\nwall = \"1s\"\ncpu = \"5s\"").await;
    for name in BOTH {
        let response = begin(&host, &format!("/{name}/endless")).await;
        is_over(&host, "endless").await;
        drop(response);
        let log = host.access_log().await;
        let last = log.lines().rfind(|line| line.contains("cut_off_by"));
        assert!(last.unwrap().contains("\"cut_off_by\":\"client\""), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_own_time_and_its_head_with_the_routes() {
    let host = host_with("stream = \"1s\"\ntimeout = \"300ms\"", "").await;
    for name in BOTH {
        let began = Instant::now();
        let response = begin(&host, &format!("/{name}/silent")).await;
        assert!(response.bytes().await.is_err(), "{name}");
        let took = began.elapsed();
        assert!(took > Duration::from_millis(900), "{name}: {took:?}");
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
        let began = Instant::now();
        host.get(&format!("/{name}/never-answers"))
            .await
            .assert_problem(504, "plugin.deadline_exceeded");
        assert!(began.elapsed() < Duration::from_millis(900), "{name}");
        // An upload may take longer than the head: it is counted from the last piece.
        let slow = stream::unfold(0, |sent| async move {
            if sent == 5 {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(120)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), sent + 1))
        });
        let request = host.request(Method::POST, &format!("/{name}/count"));
        let answer = host.send(request.body(reqwest::Body::wrap_stream(slow)));
        assert_eq!(answer.await.assert_status(200).text(), "5\n", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_never_ended_ends_with_the_plugin() {
    let host = host_with("stream = \"10m\"", "").await;
    for name in BOTH {
        let began = Instant::now();
        let answer = host.get(&format!("/{name}/never-ended")).await;
        assert_eq!(answer.assert_status(200).text(), "first", "{name}");
        assert!(began.elapsed() < Duration::from_secs(5), "{name}");
        // A body that nobody reads costs its connection.
        let client = host.on_a_connection_of_its_own();
        let request = client.request(Method::POST, &format!("/{name}/never-read"));
        let answer = client.send(request.body(pieces(4, 64 << 10))).await;
        assert_eq!(answer.assert_status(200).text(), "not read", "{name}");
        is_over(&host, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_are_bounded_like_other_handles() {
    let host = host_with("", "[limits]\ncpu = \"5s\"").await;
    for name in BOTH {
        host.get(&format!("/{name}/many-streams"))
            .await
            .assert_problem(502, "plugin.trapped");
        is_over(&host, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_takes_a_place_until_it_is_over() {
    let host = TestHost::build()
        .with(|config| config.runtime.queue_wait_ms = 100)
        .start()
        .await;
    let host = deployed(host, "stream = \"10m\"", "[limits]\nconcurrency = 2").await;
    for name in BOTH {
        let silent = format!("/{name}/silent");
        let open = [begin(&host, &silent).await, begin(&host, &silent).await];
        host.get(&format!("/{name}/x"))
            .await
            .assert_problem(503, "host.saturated");
        host.get("/neighbour/").await.assert_status(200);
        drop(open);
        is_over(&host, name).await;
        host.get(&format!("/{name}/x")).await.assert_status(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_with_the_version_that_began_it() {
    let host = host_with("stream = \"10m\"", "").await;
    for name in BOTH {
        let mut response = begin(&host, &format!("/{name}/events?n=10")).await;
        let first = response.chunk().await.unwrap().unwrap();
        host.deploy(&manifests::open(name), guest("hello-v2")).await;
        host.get(&format!("/{name}/")).await.assert_status(200);
        let rest = response.bytes().await.unwrap();
        let all = [&first[..], &rest[..]].concat();
        assert!(all.ends_with(b"data: 9\n\n"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_of_wasi_03_has_the_limits_of_every_other() {
    let host = host_with(
        "",
        "[limits]\nmemory = \"16MiB\"\ncpu = \"5s\"\nwall = \"1s\"",
    )
    .await;
    for (path, status, code) in [
        ("memory", 502, "plugin.memory_exceeded"),
        ("fails", 502, "plugin.invalid_response"),
        ("never-answers", 504, "plugin.deadline_exceeded"),
    ] {
        let answer = host.get(&format!("/stream-03/{path}")).await;
        answer.assert_problem(status, code);
    }
    // No files, no sockets, no environment.
    assert_eq!(host.get("/stream-03/sandbox").await.text(), "true true 0\n");
    // Standard output is the plugin's log.
    let request = host.request(Method::POST, "/stream-03/count").body("1234");
    host.send(request).await.assert_status(200);
    let log = plugin_log(&host, "stream-03").await;
    assert!(log.contains("counted 4"), "{log}");
    // What was compiled is kept, and loads again.
    let host = host.restart().await;
    assert_eq!(host.get("/stream-03/hello").await.text(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_wasi_03_to_other_servers_pass_the_guard() {
    let (remote, other) = (Remote::start().await, Remote::start().await);
    let allowed = vec![remote.address];
    let host = TestHost::build()
        .with(|config| config.services.outbound.allow_private = allowed)
        .start()
        .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]",
        remote.address
    );
    host.deploy(&manifest("stream-03", "", &http), guest("stream-03"))
        .await;
    let fetch = async |address: &str| {
        host.get(&format!("/stream-03/fetch?{address}/x"))
            .await
            .text()
    };
    assert_eq!(
        fetch(&remote.address.to_string()).await,
        "200 hello from afar"
    );
    for refused in [other.address.to_string(), "169.254.169.254".to_owned()] {
        let told = fetch(&refused).await;
        assert!(told.starts_with("refused: "), "{told}");
    }
    assert!(other.heads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_engine_is_made_when_the_first_plugin_needs_it() {
    let host = Process::start("").await;
    let deploy = async |name: &str| {
        let bundle = pack(&manifest(name, "", ""), &guest(name), &[]);
        host.upload("grant=all", bundle).await.assert_status(201);
    };
    deploy("stream-02").await;
    assert_eq!(host.threads("epoch"), 2);
    deploy("stream-03").await;
    assert_eq!(host.threads("epoch"), 3);
}

/// Begins to send a body and stops.
async fn stand_still(host: &TestHost, path: &str) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = tokio::net::TcpStream::connect(host.app().address)
        .await
        .unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"1\r\nx\r\n").await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_has_a_part_of_a_plugins_places_and_blames_nobody_else() {
    use tokio::io::AsyncReadExt as _;
    let host = TestHost::build().with(|config| {
        config.gateway.flowing_bodies_per_client_max = 3;
        config.gateway.body_window_ms = 3000;
        config.runtime.queue_wait_ms = 100;
    });
    let host = host.start().await;
    let host = deployed(host, "", "[limits]\nconcurrency = 4\nwall = \"2s\"").await;
    for name in BOTH {
        let path = format!("/{name}/count");
        let mut slow = Vec::new();
        for _ in 0..12 {
            slow.push(stand_still(&host, &path).await);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..5 {
            let request = host.request(Method::POST, &path).body("1234");
            let answer = host.send(request).await.assert_status(200);
            assert_eq!(answer.text(), "4\n", "{name}");
        }
        for mut stream in slow {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 408", "{name}");
        }
        is_over(&host, name).await;
    }
    let metrics = host.admin().get("/metrics").await.assert_status(200).text();
    let of_plugin = "fault=\"plugin\",plugin=\"stream-0";
    let mut faults = metrics.lines().filter(|line| line.contains(of_plugin));
    assert!(faults.all(|line| line.ends_with(" 0")), "{metrics}");

    // A conversation cannot be read first.
    let host = deployed(host, "stream = \"1m\"", "").await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(stand_still(&host, "/stream-02/echo").await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let request = host.request(Method::POST, "/stream-02/count");
    host.send(request.body(pieces(2, 1)))
        .await
        .assert_problem(503, "host.saturated");
    drop(slow);
    let until = Instant::now() + Duration::from_secs(5);
    let free = async || {
        let request = host.request(Method::POST, "/stream-02/count");
        host.send(request.body(pieces(2, 1))).await.status == 200
    };
    while !free().await {
        assert!(Instant::now() < until, "their part does not come back");
    }
}
