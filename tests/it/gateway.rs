//! What every request meets, whatever the plugin is.

use gantry_harness::{TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use crate::manifests;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_its_plugin_with_all_that_the_host_knows() {
    let host = TestHost::start().await;
    let manifest = r#"
schema = 1
[plugin]
name = "echo"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[route]]
method = "POST"
path = "/orders/{id}/lines/{line}"
auth = "public"
"#;
    host.deploy(manifest, guest("echo")).await;
    let request = host
        .request(Method::POST, "/echo/orders/a%20b/lines/7?x=1&y=%20")
        .header("authorization", "Bearer secret")
        .header("x-custom", "kept")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .body("hello");
    let answer = host.send(request).await.assert_status(200);
    let seen = answer.json::<Value>();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["path"], "/orders/a%20b/lines/7");
    assert_eq!(seen["query"], "x=1&y=%20");
    assert_eq!(seen["body_bytes"], 5);
    assert_eq!(seen["route"], "/orders/{id}/lines/{line}");
    assert_eq!(seen["path_params"], json!([["id", "a b"], ["line", "7"]]));
    assert_eq!(seen["request_id"], answer.header("x-request-id").unwrap());
    assert_eq!(seen["client_address"], "127.0.0.1");
    let trace = seen["traceparent"].as_str().unwrap();
    assert!(
        trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{trace}"
    );
    let headers = seen["headers"].to_string();
    assert!(headers.contains("kept"), "{headers}");
    assert!(
        !headers.contains("secret"),
        "a plugin does not see credentials: {headers}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_is_a_clear_problem() {
    let host = TestHost::start().await;
    let manifest = r#"
schema = 1
[plugin]
name = "echo"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[route]]
method = "GET"
path = "/things/{id}"
auth = "public"
[[route]]
method = "PUT"
path = "/things/{other}"
auth = "public"
body_bytes_max = "1KiB"
"#;
    host.deploy(manifest, guest("echo")).await;
    host.get("/").await.assert_problem(404, "route.not_found");
    host.get("/echo")
        .await
        .assert_problem(404, "route.not_found");
    host.get("/echo/things")
        .await
        .assert_problem(404, "route.not_found");
    host.get("/echo/things/1/")
        .await
        .assert_problem(404, "route.not_found");
    host.get("/_gantry/nothing")
        .await
        .assert_problem(404, "route.not_found");

    let answer = host
        .delete("/echo/things/1")
        .await
        .assert_problem(405, "route.method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, PUT, HEAD, OPTIONS"));
    let answer = host
        .send(host.request(Method::OPTIONS, "/echo/things/1"))
        .await
        .assert_status(204);
    assert_eq!(answer.header("allow"), Some("GET, PUT, HEAD, OPTIONS"));
    let answer = host
        .send(host.request(Method::HEAD, "/echo/things/1"))
        .await
        .assert_status(200);
    assert!(answer.body.is_empty());

    let put = |body: Vec<u8>| host.request(Method::PUT, "/echo/things/1").body(body);
    host.send(put(vec![b'x'; 1024])).await.assert_status(200);
    host.send(put(vec![b'x'; 1025]))
        .await
        .assert_problem(413, "request.body_too_large");
    let stream =
        futures_util::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 512])));
    let chunked = host
        .request(Method::PUT, "/echo/things/1")
        .body(reqwest::Body::wrap_stream(stream));
    host.send(chunked)
        .await
        .assert_problem(413, "request.body_too_large");

    let encoded = put(vec![1]).header("content-encoding", "gzip");
    host.send(encoded)
        .await
        .assert_problem(415, "request.encoding_unsupported");
    // One that stands behind a harmless one counts, too.
    let encoded = put(vec![1]).header("content-encoding", "identity");
    host.send(encoded.header("content-encoding", "gzip"))
        .await
        .assert_problem(415, "request.encoding_unsupported");
    host.get("/echo/things/%ff")
        .await
        .assert_problem(400, "request.invalid_path");
    host.get(&format!("/echo/things/{}", "x".repeat(9000)))
        .await
        .assert_problem(414, "request.uri_too_long");
    let wide = host
        .request(Method::GET, "/echo/things/1")
        .header("x-wide", "y".repeat(40_000));
    host.send(wide)
        .await
        .assert_problem(431, "request.headers_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_hang_on_host_names_and_paths_and_the_longest_mount_wins() {
    use gantry::plugins::{GrantMode, Mount};
    let host = TestHost::start().await;
    let bundle = |name: &str, guest_name: &str| {
        let manifest = manifests::open(name);
        gantry_harness::pack(&manifest, &guest(guest_name), &[])
    };
    let mount = |host, path| Some(Mount::new(host, path).unwrap());
    host.upload(
        bundle("root", "echo"),
        GrantMode::AllAsked,
        mount(None, "/"),
    )
    .await
    .unwrap();
    host.upload(
        bundle("api", "hello-v1"),
        GrantMode::AllAsked,
        mount(None, "/api"),
    )
    .await
    .unwrap();
    host.upload(
        bundle("shop", "hello-v2"),
        GrantMode::AllAsked,
        mount(Some("shop.example.com"), "/"),
    )
    .await
    .unwrap();

    let at = |name: &'static str, path: &'static str| {
        let host = &host;
        async move {
            host.send(host.request(Method::GET, path).header("host", name))
                .await
                .assert_status(200)
                .text()
        }
    };
    assert!(
        at("any.example.com", "/x")
            .await
            .contains("\"path\":\"/x\"")
    );
    assert!(
        at("any.example.com", "/apix")
            .await
            .contains("\"path\":\"/apix\"")
    );
    let api = at("any.example.com", "/api/x").await;
    assert!(!api.contains("\"path\""), "{api}");
    let shop = at("shop.example.com", "/anything").await;
    assert_ne!(shop, api);
    assert_eq!(at("SHOP.example.com:8080", "/anything").await, shop);

    let taken = host
        .upload(
            bundle("other", "echo"),
            GrantMode::AllAsked,
            mount(None, "/api"),
        )
        .await;
    assert!(
        taken.unwrap_err().to_string().contains("api"),
        "the one who has it is named"
    );
    host.get("/livez").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_answer() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    host.get("/livez").await.assert_status(200);
    host.get("/readyz").await.assert_status(200);
    host.get("/echo/a").await.assert_status(200);
    host.get("/echo/b").await.assert_status(200);
    let text = host.admin().get("/metrics").await.assert_status(200).text();
    let requests = r#"gantry_requests_total{plugin="echo",route="/{*rest}",status="2xx"} 2"#;
    assert!(text.contains(requests), "{text}");
    for name in [
        "gantry_request_duration_seconds_bucket",
        "gantry_invocation_cpu_seconds_total",
        "gantry_invocations_in_progress",
        "process_resident_memory_bytes",
    ] {
        assert!(text.contains(name), "{name}");
    }
    assert!(!text.contains("/echo/a"), "paths are no labels");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_one_line_per_request_and_no_secrets() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let request = host
        .request(Method::POST, "/echo/path?token=hidden")
        .header("authorization", "Bearer hidden");
    let answer = host.send(request.body("hidden")).await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    let log = host.access_log().await;
    let line = log.lines().find(|line| line.contains(&id)).expect("a line");
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/echo/path");
    assert_eq!(line["plugin.name"], "echo");
    assert_eq!(line["status"], 200);
    assert!(!log.contains("hidden"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_and_keep_alive_work() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("http://{}/echo/x", host.app().address);
    for _ in 0..3 {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_finishes_what_it_began_and_takes_nothing_new() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("slow"), guest("slow")).await;
    let (client, address) = ((*host).clone(), host.app().address);
    let slow = tokio::spawn(async move { client.get("/slow/?ms=700").await });
    host.until_in_progress(1).await;
    host.stop().await;
    let answer = slow.await.unwrap().assert_status(200);
    assert_eq!(answer.json::<Value>(), 700);
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

/// What the host answers to these bytes, to the end of the connection or for a while.
async fn raw(host: &TestHost, bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(host.app().address)
        .await
        .unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let end = tokio::time::timeout(std::time::Duration::from_secs(10), read).await;
    // A host that closes without reading everything resets the connection, which is an end too.
    drop(end.expect("the host closes the connection"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_and_sends_no_request_does_not_keep_a_place() {
    let host = TestHost::build()
        .with(|config| {
            config.http.header_timeout_ms = 300;
            config.http.connections_max = 2;
        })
        .start()
        .await;
    for begin in [
        &b""[..],
        b"PRI * HTTP/2.0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
    ] {
        let held = tokio::join!(raw(&host, begin), raw(&host, begin));
        assert!(!held.0.contains("200"), "{held:?}");
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = raw(&host, request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_small_pieces_takes_no_more_of_the_budget_than_one_in_a_large_piece() {
    let host = TestHost::build()
        .with(|config| config.gateway.bodies_bytes_max = 64 << 10)
        .start()
        .await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let head = "POST /echo/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let request = format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(1000));
    let answer = raw(&host, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"body_bytes\":1000"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_cannot_be_entered_by_another_spelling_of_its_path() {
    let host = TestHost::start().await;
    let manifest = manifests::with(
        "echo",
        "[[route]]\nmethod = \"GET\"\npath = \"/closed/{*rest}\"\nauth = \"required\"",
    );
    host.deploy(&manifest, guest("echo")).await;
    host.get("/echo/closed/x").await.assert_status(401);
    host.get("/echo/%63lose%64/x").await.assert_status(401);
    host.get("/echo/open/x").await.assert_status(200);
    for path in [
        "/echo/open/../closed/x",
        "/echo/open/%2e%2E/closed/x",
        "/echo/open\\..\\closed/x",
        "/other/../echo/open/x",
        "/./_gantry/api/v1/status",
        "//_gantry/api/v1/status",
        "/echo//closed/x",
        "//echo/closed/x",
        "/echo/closed//x",
        "/echo/closed%2Fx",
        "/echo/closed%2fx",
        "/echo/closed%5Cx",
        "/echo/closed\\x",
        "/echo%2Fclosed/x",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = raw(&host, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_host_and_the_plugin_sees_the_one_by_which_it_was_found() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let two = "GET /echo/ HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n";
    let none = "GET /echo/ HTTP/1.1\r\nconnection: close\r\n\r\n";
    for request in [two, none] {
        let answer = raw(&host, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let absolute =
        "GET http://shop.example/echo/ HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let answer = raw(&host, absolute.as_bytes()).await;
    assert!(answer.contains("shop.example"), "{answer}");
    assert!(!answer.contains("evil.example"), "{answer}");
}
