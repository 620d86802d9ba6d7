//! What browsers are told and what they ask for: pages of other origins, headers that keep pages safe, smaller answers, and
//! answers that they have already.

use std::io::Read as _;

use gantry::plugins::cors::OperatorCors;
use gantry_harness::{Answer, TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

const HEAD: &str = "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n";

const ROUTES: &str = r#"
[cors]
origins = ["https://app.example", "http://localhost:3000"]
credentials = true
max_age = "1h"
[[route]]
method = ["GET", "PUT"]
path = "/orders"
auth = "optional"
[[route]]
method = "GET"
path = "/closed"
[[route]]
method = "GET"
path = "/open"
auth = "public"
cors = { origins = ["*"], expose = ["x-total"] }
[[route]]
method = "GET"
path = "/none"
auth = "public"
cors = { origins = [] }
"#;

async fn ask(host: &TestHost, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = host.request(method, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    host.send(request).await
}

async fn used(host: &TestHost) -> Vec<String> {
    let metrics = host.admin().get("/metrics").await.assert_status(200).text();
    let lines = metrics.lines();
    let used = lines.filter(|line| line.starts_with("gantry_invocation_cpu_seconds_total"));
    used.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_named_origins_may_call_and_preflights_wake_nobody() {
    let host = TestHost::start().await;
    host.deploy(&format!("{HEAD}{ROUTES}"), guest("echo")).await;
    let before = used(&host).await;
    let preflight = async |path: &str, origin: &str, method: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", method),
        ];
        ask(&host, Method::OPTIONS, path, &headers)
            .await
            .assert_status(204)
    };
    let answer = preflight("/shop/orders", "https://app.example", "PUT").await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    assert_eq!(
        answer.header("access-control-allow-methods"),
        Some("GET, PUT")
    );
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("3600"));
    assert!(
        answer
            .header("access-control-allow-headers")
            .unwrap()
            .contains("authorization")
    );
    assert!(answer.header("vary").unwrap().starts_with("Origin"));
    for origin in [
        "null",
        "https://app.example.evil",
        "https://evilapp.example",
        "https://app.example:8443",
        "http://app.example",
        "https://APP.example",
        "https://app.example/",
        "https://app.example, https://evil.example",
        "",
    ] {
        let answer = preflight("/shop/orders", origin, "PUT").await;
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "{origin}"
        );
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            None,
            "{origin}"
        );
        let answer = ask(&host, Method::GET, "/shop/orders", &[("origin", origin)]).await;
        let answer = answer.assert_status(200);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "{origin}"
        );
        let varies = answer
            .headers
            .get_all("vary")
            .iter()
            .any(|value| value == "Origin");
        assert!(varies, "{origin}");
    }
    let twice = [
        ("origin", "https://app.example"),
        ("origin", "https://evil.example"),
        ("access-control-request-method", "GET"),
    ];
    let answer = ask(&host, Method::OPTIONS, "/shop/orders", &twice).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = preflight("/shop/none", "https://app.example", "GET").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = preflight("/shop/orders", "https://app.example", "DELETE").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = preflight("/shop/open", "https://anybody.example", "GET").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);

    // A page learns why it is refused.
    let answer = ask(
        &host,
        Method::GET,
        "/shop/closed",
        &[("origin", "http://localhost:3000")],
    )
    .await;
    let answer = answer.assert_problem(401, "auth.required");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    assert!(
        answer
            .header("access-control-expose-headers")
            .unwrap()
            .contains("x-request-id")
    );
    let calls = used(&host).await;
    // The nine that were no preflights have reached it.
    assert_ne!(calls, before);
    preflight("/shop/orders", "https://app.example", "PUT").await;
    ask(&host, Method::GET, "/shop/closed", &[])
        .await
        .assert_status(401);
    assert_eq!(used(&host).await, calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_over_the_author_and_the_plugin() {
    let host = TestHost::build().with(|config| {
        config.plugins.cors = vec![OperatorCors {
            origins: vec!["https://front.example".to_owned()],
            ..OperatorCors::default()
        }];
    });
    let host = host.start().await;
    let routes = "[cors]\norigins = [\"https://app.example\"]\n[[route]]\nmethod = \"POST\"\npath = \"/\"\nauth = \"public\"\n";
    host.deploy(&format!("{HEAD}{routes}"), guest("answers"))
        .await;
    let send = async |origin: &str| {
        let wish = json!({ "status": 200, "body_bytes": 1, "headers": [
            ["access-control-allow-origin", "*"], ["Access-Control-Allow-Credentials", "true"],
        ] });
        let request = host
            .request(Method::POST, "/shop")
            .header("origin", origin)
            .json(&wish);
        host.send(request).await.assert_status(200)
    };
    let answer = send("https://app.example").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let answer = send("https://front.example").await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://front.example")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
}

#[test]
fn wrong_origins_are_refused_with_their_line() {
    for (cors, part) in [
        (
            "origins = [\"*\"]\ncredentials = true",
            "`*` cannot be with `credentials`",
        ),
        ("origins = [\"null\"]", "not an origin"),
        ("origins = [\"https://*.example\"]", "not an origin"),
        (
            "origins = [\"https://app.example/\"]",
            "browsers send `https://app.example`",
        ),
        (
            "origins = [\"*\", \"https://app.example\"]",
            "leave the others out",
        ),
        ("headers = [\"a b\"]", "headers"),
    ] {
        let manifest = format!("{HEAD}[cors]\n{cors}\n[[route]]\nmethod = \"GET\"\npath = \"/\"\n");
        let error = gantry::plugins::manifest::Manifest::parse(&manifest).unwrap_err();
        let told = error[0].to_string();
        assert!(
            told.starts_with("plugin.toml:8:") || told.starts_with("plugin.toml:9:"),
            "{told}"
        );

        assert!(told.contains(part), "{told}");
    }
}

/// Asks the plugin that answers what the body tells.
async fn wish(host: &TestHost, path: &str, headers: &[(&str, &str)], wish: Value) -> Answer {
    let mut request = host.request(Method::GET, path).json(&wish);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    host.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_for_those_who_take_them_so() {
    let host = TestHost::start().await;
    let route = |path: &str, more: &str| {
        format!("[[route]]\nmethod = \"GET\"\npath = \"{path}\"\nauth = \"public\"\n{more}\n")
    };
    let routes = route("/", "") + &route("/plain", "compress = false");
    host.deploy(&format!("{HEAD}{routes}"), guest("answers"))
        .await;
    let text = json!({ "status": 200, "body_bytes": 20_000, "headers": [["content-type", "text/plain"], ["etag", "\"v1\""]] });
    for (accepted, coding) in [
        (&[("accept-encoding", "gzip")][..], Some("gzip")),
        (&[("accept-encoding", "gzip, br")], Some("br")),
        (&[("accept-encoding", "br;q=0, gzip;q=0.1")], Some("gzip")),
        (&[("accept-encoding", "identity")], None),
        (&[], None),
    ] {
        let answer = wish(&host, "/shop", accepted, text.clone())
            .await
            .assert_status(200);
        assert_eq!(answer.header("content-encoding"), coding, "{accepted:?}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        let tag = if coding.is_some() {
            "W/\"v1\""
        } else {
            "\"v1\""
        };
        assert_eq!(answer.header("etag"), Some(tag));
        let mut body = Vec::new();
        match coding {
            Some("gzip") => drop(
                flate2::read::GzDecoder::new(&answer.body[..])
                    .read_to_end(&mut body)
                    .unwrap(),
            ),
            Some(_) => drop(
                brotli::Decompressor::new(&answer.body[..], 4096)
                    .read_to_end(&mut body)
                    .unwrap(),
            ),
            None => body = answer.body.to_vec(),
        }
        assert_eq!(body, vec![b'x'; 20_000]);
        assert_eq!(coding.is_some(), answer.body.len() < 1000);
    }
    let gzip: &[_] = &[("accept-encoding", "gzip")];
    for (path, wanted) in [
        ("/shop/plain", text.clone()),
        (
            "/shop",
            json!({ "status": 200, "body_bytes": 500, "headers": [["content-type", "text/plain"]] }),
        ),
        (
            "/shop",
            json!({ "status": 200, "body_bytes": 20_000, "headers": [["content-type", "image/png"]] }),
        ),
        (
            "/shop",
            json!({ "status": 200, "body_bytes": 20_000, "headers": [["content-type", "text/event-stream"]] }),
        ),
        (
            "/shop",
            json!({ "status": 200, "body_bytes": 20_000, "headers": [["content-type", "text/plain"], ["set-cookie", "a=1"]] }),
        ),
        (
            "/shop",
            json!({ "status": 200, "body_bytes": 20_000, "headers": [["content-type", "text/plain"], ["content-encoding", "deflate"]] }),
        ),
        (
            "/shop",
            json!({ "status": 206, "body_bytes": 20_000, "headers": [["content-type", "text/plain"], ["content-range", "bytes 0-19999/30000"]] }),
        ),
        (
            "/shop",
            json!({ "status": 200, "body_bytes": 20_000, "headers": [["content-type", "text/plain"], ["cache-control", "no-transform"]] }),
        ),
    ] {
        let answer = wish(&host, path, gzip, wanted.clone()).await;
        assert_ne!(answer.header("content-encoding"), Some("gzip"), "{wanted}");
    }
    // Large ones are compressed elsewhere, and come whole.
    let large = json!({ "status": 200, "body_bytes": 2_000_000, "headers": [["content-type", "text/plain"]] });
    let answer = wish(&host, "/shop", gzip, large.clone())
        .await
        .assert_status(200);
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&answer.body[..])
        .read_to_end(&mut body)
        .unwrap();
    assert_eq!(body.len(), 2_000_000);
    let request = host
        .request(Method::HEAD, "/shop")
        .header("accept-encoding", "gzip")
        .json(&text);
    let answer = host.send(request).await.assert_status(200);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_is_not_sent_again() {
    let host = TestHost::start().await;
    let route = "[[route]]\nmethod = [\"GET\", \"PUT\"]\npath = \"/\"\nauth = \"public\"\n";
    host.deploy(&format!("{HEAD}{route}"), guest("answers"))
        .await;
    let tagged = json!({ "status": 200, "body_bytes": 20_000, "headers": [["content-type", "text/plain"], ["etag", "\"v1\""], ["cache-control", "max-age=60"]] });
    let answer = wish(
        &host,
        "/shop",
        &[("if-none-match", "\"v1\"")],
        tagged.clone(),
    )
    .await;
    let answer = answer.assert_status(304);
    assert!(answer.body.is_empty());
    assert_eq!(answer.header("etag"), Some("\"v1\""));
    assert_eq!(answer.header("cache-control"), Some("max-age=60"));
    // What was made smaller is still what the client has.
    let zipped: &[_] = &[("if-none-match", "W/\"v1\""), ("accept-encoding", "gzip")];
    let answer = wish(&host, "/shop", zipped, tagged.clone())
        .await
        .assert_status(304);
    assert_eq!(answer.header("content-encoding"), None);
    wish(
        &host,
        "/shop",
        &[("if-none-match", "\"v2\"")],
        tagged.clone(),
    )
    .await
    .assert_status(200);
    let other = wish(&host, "/shop", &[("if-match", "\"v2\"")], tagged.clone()).await;
    other.assert_problem(412, "request.precondition_failed");
    // Whether a change fits the version that is there, only the plugin knows.
    let request = host
        .request(Method::PUT, "/shop")
        .header("if-match", "\"v2\"")
        .json(&tagged);
    host.send(request).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_headers_that_keep_them_safe_and_texts_do_not() {
    let host = TestHost::build().with(|config| {
        config.gateway.trusted_proxies = serde_json::from_value(json!(["127.0.0.1"])).unwrap();
    });
    let host = host.start().await;
    let route = "[[route]]\nmethod = \"GET\"\npath = \"/\"\nauth = \"public\"\n";
    host.deploy(&format!("{HEAD}{route}"), guest("answers"))
        .await;
    let page = |headers: Value| json!({ "status": 200, "body_bytes": 10, "headers": headers });
    let html = page(json!([["content-type", "text/html"]]));
    let answer = wish(&host, "/shop", &[], html.clone())
        .await
        .assert_status(200);
    assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(
        answer.header("referrer-policy"),
        Some("strict-origin-when-cross-origin")
    );
    assert_eq!(answer.header("strict-transport-security"), None);
    let policies: Vec<&str> = answer
        .headers
        .get_all("content-security-policy")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert!(
        policies[0].starts_with("sandbox") && policies[1].starts_with("default-src 'self'"),
        "{policies:?}"
    );
    let own = page(json!([
        ["content-type", "text/html"],
        ["content-security-policy", "default-src 'none'"],
        ["x-frame-options", "DENY"]
    ]));
    let answer = wish(&host, "/shop", &[], own).await.assert_status(200);
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    let policies = answer
        .headers
        .get_all("content-security-policy")
        .iter()
        .filter(|value| value.to_str().unwrap().contains("default-src"));
    assert_eq!(policies.count(), 1);
    let answer = wish(
        &host,
        "/shop",
        &[],
        page(json!([["content-type", "application/json"]])),
    )
    .await;
    assert_eq!(answer.header("x-frame-options"), None);
    assert_eq!(answer.header("content-security-policy"), None);
    for (proto, wanted) in [
        ("https", true),
        ("http, https", true),
        ("https, http", false),
        ("http", false),
    ] {
        let answer = wish(
            &host,
            "/shop",
            &[("x-forwarded-proto", proto)],
            html.clone(),
        )
        .await;
        assert_eq!(
            answer.header("strict-transport-security").is_some(),
            wanted,
            "{proto}"
        );
    }
    let stranger = TestHost::start().await;
    stranger
        .deploy(&format!("{HEAD}{route}"), guest("answers"))
        .await;
    let answer = wish(&stranger, "/shop", &[("x-forwarded-proto", "https")], html).await;
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_of_a_request_becomes_a_line_of_an_answer() {
    let host = TestHost::start().await;
    host.deploy(&format!("{HEAD}{ROUTES}"), guest("echo")).await;
    let address = host.app().address;
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = "OPTIONS /shop/open HTTP/1.1\r\nhost: x\r\norigin: https://a.example%0d%0aset-cookie: a=1\r\n\
                       access-control-request-method: GET\r\naccess-control-request-headers: x\\r\\nset-cookie: a=1\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let answer = answer.await.unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 204"), "{answer}");
    assert!(!answer.contains("set-cookie"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_named_origins_may_log_in_and_get_no_cookie_for_it() {
    let host = TestHost::build()
        .with(|config| config.gateway.accounts_origins = vec!["https://app.example.com".to_owned()])
        .start()
        .await;
    host.user("ann@example.com", &[]).await;
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        ask(&host, Method::OPTIONS, "/api/auth/login", &headers).await
    };
    let allowed = preflight("https://app.example.com")
        .await
        .assert_status(200);
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert_eq!(allowed.header("access-control-allow-credentials"), None);
    for origin in [
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "null",
    ] {
        let refused = preflight(origin).await;
        assert_eq!(
            refused.header("access-control-allow-origin"),
            None,
            "{origin}"
        );
    }
    let login = json!({ "email": "ann@example.com", "password": "correct horse battery" });
    for (login, status) in [
        (login, 200),
        (
            json!({ "email": "x@example.com", "password": "wrong" }),
            401,
        ),
    ] {
        let request = host
            .request(Method::POST, "/api/auth/login")
            .header("origin", "https://app.example.com")
            .json(&login);
        let answer = host.send(request).await.assert_status(status);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://app.example.com")
        );
        assert_eq!(answer.header("set-cookie"), None);
    }
    host.stop().await;
}
