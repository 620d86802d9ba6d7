use std::{convert::Infallible, net::IpAddr};

use axum::{
    Router,
    body::Body as ServerBody,
    extract::{Query, Request},
    http::StatusCode as Status,
    response::IntoResponse,
    routing::any,
};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;

use super::*;
use crate::services::Quota;

/// A server on loopback that does what servers do, and worse.
async fn server() -> SocketAddr {
    let redirect = async |Query(to): Query<Vec<(String, String)>>| {
        let status = to[0].1.parse::<u16>().unwrap();
        (
            Status::from_u16(status).unwrap(),
            [(header::LOCATION, to[1].1.clone())],
        )
    };
    let bomb = async || {
        let chunk = Bytes::from(vec![0; 64 << 10]);
        ServerBody::from_stream(stream::repeat(Ok::<_, Infallible>(chunk)))
    };
    let drip = async || {
        let first = stream::iter([Ok::<_, Infallible>("first")]);
        ServerBody::from_stream(first.chain(stream::pending()))
    };
    let app = Router::new()
        .route("/echo", any(echo))
        .route("/redirect", any(redirect))
        .route("/bomb", any(bomb))
        .route("/drip", any(drip))
        .route("/never", any(async || std::future::pending::<()>().await))
        .route("/long", any(async || "x".repeat(1000)))
        .route("/slow", any(slow))
        .route("/echo-back", any(echo_back))
        .route(
            "/packed",
            any(async || ([("content-encoding", "gzip")], vec![0x1f_u8; 5000])),
        )
        .route("/headers", any(async || [("x-much", "x".repeat(40_000))]))
        .route(
            "/cookies",
            any(async || [("set-cookie", "a=b"), ("keep-alive", "timeout=5")]),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Pieces with pauses, each shorter than the settings allow, together longer.
async fn slow() -> ServerBody {
    ServerBody::from_stream(stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(60)).await;
        Some((Ok::<_, Infallible>("x"), ()))
    }))
}

/// Repeats what it was sent in headers and body, divided into pieces as the query says.
async fn echo_back(request: Request) -> impl IntoResponse {
    let size = request.uri().query().unwrap_or_default();
    let size: usize = size.parse().unwrap();
    let sent = request.headers().get("authorization").cloned();
    let sent = sent.unwrap_or_else(|| HeaderValue::from_static("nothing"));
    let text = sent.as_bytes().to_vec();
    let body = [b"you sent: ".as_slice(), &text, b" and ", &text].concat();
    let pieces: Vec<_> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    let pieces = pieces.into_iter().map(Ok::<_, Infallible>);
    let headers = [("x-you-sent", sent.clone()), ("set-cookie", sent)];
    (headers, ServerBody::from_stream(stream::iter(pieces)))
}

/// Says what came: method, headers and body.
async fn echo(request: Request) -> impl IntoResponse {
    let (head, body) = request.into_parts();
    let mut lines = vec![head.method.to_string()];
    lines.extend(
        head.headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())),
    );
    let body = body.collect().await.unwrap().to_bytes();
    lines.push(String::from_utf8(body.to_vec()).unwrap());
    lines.join("\n")
}

struct Scene {
    outbound: Outbound,
    policy: EgressPolicy,
    server: SocketAddr,
    plugin: PluginName,
}

impl Scene {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    /// With a server that is on the operator's list, and granted by address and by name.
    async fn with(config: Config) -> Self {
        let server = server().await;
        let config = Config {
            allow_private: vec![server],
            ..config
        };
        let outbound = Outbound::new(config).unwrap();
        let hosts = [server.to_string(), format!("localhost:{}", server.port())];
        Self {
            outbound,
            policy: policy(&hosts),
            server,
            plugin: "shop".parse().unwrap(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server)
    }

    fn redirect(&self, status: u16, to: &str) -> String {
        let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        self.url(&format!("/redirect?status={status}&to={to}"))
    }

    async fn send(
        &self,
        request: http::Request<Bytes>,
        injections: &[Injection],
    ) -> Result<http::Response<Body>, Error> {
        let (mut budget, allowance) = (self.outbound.budget(), soon());
        let sender = Sender {
            injections,
            ..self.sender(&allowance)
        };
        self.outbound.send(sender, request, &mut budget).await
    }

    fn sender<'a>(&'a self, allowance: &'a Allowance) -> Sender<'a> {
        Sender {
            plugin: &self.plugin,
            policy: &self.policy,
            injections: &[],
            allowance,
            patience: Patience::default(),
            depth: 1,
        }
    }

    async fn get(&self, url: &str) -> Result<http::Response<Body>, Error> {
        self.send(get(url), &[]).await
    }

    async fn refusal(&self, url: &str) -> String {
        self.get(url)
            .await
            .map_or_else(|error| error.code.into_owned(), |_| "ok".to_owned())
    }
}

fn policy(hosts: &[String]) -> EgressPolicy {
    let rule = |host: &String| EgressRule {
        host: host.clone(),
        methods: vec![],
    };
    EgressPolicy::new(hosts.iter().map(rule).collect())
}

fn soon() -> Allowance {
    until(Instant::now() + Duration::from_secs(10))
}

fn until(deadline: Instant) -> Allowance {
    Allowance::new(
        deadline,
        Duration::from_secs(10),
        Quota::new(64 << 20),
        Arc::default(),
    )
}

fn get(url: &str) -> http::Request<Bytes> {
    http::Request::get(url).body(Bytes::new()).unwrap()
}

async fn text(response: http::Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_listed_server_is_reached_by_address_and_by_name() {
    let scene = Scene::start().await;
    let by_name = format!("http://localhost:{}/echo", scene.server.port());
    for url in [scene.url("/echo"), by_name] {
        let response = scene.get(&url).await.unwrap();
        assert_eq!(response.status(), Status::OK);
        assert!(text(response).await.starts_with("GET\n"));
    }
}

#[tokio::test]
async fn an_address_inside_is_refused_however_it_is_written() {
    let server = server().await;
    let (outbound, port) = (Outbound::new(Config::default()).unwrap(), server.port());
    let open = Config {
        allow_http: true,
        ..Config::default()
    };
    let with_http = Outbound::new(open).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "①②⑦.0.0.1",
        "0",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "[fd00::1]",
        "[fe80::1]",
        "10.0.0.1",
        "100.64.0.1",
        "localhost",
        "LOCALHOST.",
        "192.168.0.1",
    ] {
        // Even to a plugin that was granted it.
        let policy = policy(&[format!("{host}:{port}")]);
        for (outbound, scheme) in [(&outbound, "https"), (&with_http, "http")] {
            let url = format!("{scheme}://{host}:{port}/echo");
            // Some of these cannot even be written as the address of a request.
            let Ok(request) = http::Request::get(url.as_str()).body(Bytes::new()) else {
                continue;
            };
            let (plugin, mut budget) = ("shop".parse().unwrap(), outbound.budget());
            let sender = Sender {
                plugin: &plugin,
                policy: &policy,
                injections: &[],
                allowance: &soon(),
                patience: Patience::default(),
                depth: 1,
            };
            let sent = outbound.send(sender, request, &mut budget).await;
            let error = sent.unwrap_err();
            let wanted = if host.to_lowercase().starts_with("localhost") {
                (Kind::Unavailable, "outbound.name_forbidden")
            } else {
                (Kind::Denied, "outbound.address_forbidden")
            };
            assert_eq!((error.kind, &*error.code), wanted, "{url}");
            assert!(!error.message.contains("127"), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_listed_address_is_not_a_door_to_its_neighbours() {
    let scene = Scene::start().await;
    let other = server().await;
    let hosts = ["localhost", "127.0.0.1", "[::1]", "1.1.1.1"];
    let ports = [scene.server.port(), other.port()];
    let all = hosts
        .iter()
        .flat_map(|host| ports.map(|port| format!("{host}:{port}")));
    let scene = Scene {
        policy: policy(&all.collect::<Vec<_>>()),
        ..scene
    };
    for (url, code) in [
        (format!("http://{other}/echo"), "outbound.scheme_forbidden"),
        (
            format!("https://{other}/echo"),
            "outbound.address_forbidden",
        ),
        (
            format!("http://[::1]:{}/echo", ports[0]),
            "outbound.address_forbidden",
        ),
        // Only listed addresses are reached without encryption.
        (
            format!("http://1.1.1.1:{}/echo", ports[0]),
            "outbound.address_forbidden",
        ),
        (scene.url("/echo"), "ok"),
    ] {
        assert_eq!(scene.refusal(&url).await, code, "{url}");
    }
}

#[tokio::test]
async fn what_is_not_granted_or_no_url_is_refused_before_anything_is_sent() {
    let scene = Scene::start().await;
    let server = scene.server;
    for (url, code) in [
        (
            "https://example.com/".to_owned(),
            "outbound.host_not_granted",
        ),
        (
            format!("http://me:secret@{server}/echo"),
            "outbound.url_invalid",
        ),
        (format!("http://me@{server}/echo"), "outbound.url_invalid"),
        (format!("ftp://{server}/echo"), "outbound.url_invalid"),
        ("/echo".to_owned(), "outbound.url_invalid"),
    ] {
        assert_eq!(scene.refusal(&url).await, code, "{url}");
    }
    for method in [Method::CONNECT, Method::TRACE] {
        let mut request = get(&scene.url("/echo"));
        *request.method_mut() = method;
        let error = scene.send(request, &[]).await.unwrap_err();
        assert_eq!(error.code, "outbound.method_forbidden");
    }
}

#[tokio::test]
async fn headers_of_the_connection_and_forged_origins_do_not_pass() {
    let scene = Scene::start().await;
    let mut request = http::Request::post(scene.url("/echo"));
    for (name, value) in [
        ("x-fine", "yes"),
        ("authorization", "Bearer own"),
        ("host", "evil.example"),
        ("connection", "x-named, keep-alive"),
        ("x-named", "no"),
        ("transfer-encoding", "chunked"),
        ("content-length", "999"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "no"),
        ("forwarded", "for=1.1.1.1"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("gantry-depth", "0"),
    ] {
        request = request.header(name, value);
    }
    let request = request.body(Bytes::from_static(b"hello")).unwrap();
    let seen = text(scene.send(request, &[]).await.unwrap()).await;
    let mut lines: Vec<&str> = seen.lines().collect();
    lines.sort_unstable();
    let host = format!("host: {}", scene.server);
    let wanted = [
        "POST",
        "accept: */*",
        "authorization: Bearer own",
        "content-length: 5",
        "gantry-depth: 1",
        "hello",
        &host,
        "x-fine: yes",
    ];
    assert_eq!(lines, wanted);
    let response = scene.get(&scene.url("/cookies")).await.unwrap();
    assert!(response.headers().contains_key("set-cookie"));
    assert!(!response.headers().contains_key("keep-alive"));
}

#[tokio::test]
async fn an_injected_secret_goes_to_its_host_only_and_wins_over_the_plugin() {
    let scene = Scene::start().await;
    let secret = |host: &str, name: &'static str| {
        let name = http::HeaderName::from_static(name);
        Injection::new(host, name, "Bearer ", b"s3cret").unwrap()
    };
    let host = scene.server.to_string();
    let here = secret(&host, "authorization");
    let elsewhere = secret("api.example.com", "x-api-key");
    let request = http::Request::get(scene.url("/echo"));
    let request = request
        .header("authorization", "mine")
        .header("x-api-key", "mine");
    let request = request.body(Bytes::new()).unwrap();
    let seen = text(
        scene
            .send(request, &[here.clone(), elsewhere])
            .await
            .unwrap(),
    )
    .await;
    assert!(seen.contains("authorization: Bearer s3cret\n"), "{seen}");
    assert!(
        !seen.contains("authorization: mine") && seen.contains("x-api-key: mine"),
        "{seen}"
    );
    // The same server by another name is another host.
    let by_name = format!("http://localhost:{}/echo", scene.server.port());
    let request = http::Request::get(scene.redirect(307, &by_name));
    let request = request
        .header("cookie", "a")
        .header("x-my-token", "b")
        .header("x-fine", "c");
    let request = request.body(Bytes::new()).unwrap();
    let seen = text(
        scene
            .send(request, std::slice::from_ref(&here))
            .await
            .unwrap(),
    )
    .await;
    for leak in ["s3cret", "authorization", "cookie", "x-my-token"] {
        assert!(!seen.contains(leak), "{leak} in {seen}");
    }
    assert!(seen.contains("x-fine: c"), "{seen}");
    let refused = scene
        .send(get("https://api.example.com/"), &[here])
        .await
        .unwrap_err();
    assert!(!format!("{refused:?}").contains("s3cret"));
}

#[tokio::test]
async fn every_hop_of_a_redirect_is_checked() {
    let scene = Scene::start().await;
    let hop = async |to: &str| scene.refusal(&scene.redirect(302, to)).await;
    for (to, code) in [
        ("/echo".to_owned(), "ok"),
        (scene.redirect(301, "/echo"), "ok"),
        (
            "https://example.com/".to_owned(),
            "outbound.host_not_granted",
        ),
        (
            "http://169.254.169.254/latest/meta-data".to_owned(),
            "outbound.host_not_granted",
        ),
        (format!("//localhost:{}/echo", scene.server.port()), "ok"),
        (
            format!("http://[::1]:{}/echo", scene.server.port()),
            "outbound.host_not_granted",
        ),
        (
            format!("http://me:pw@{}/echo", scene.server),
            "outbound.url_invalid",
        ),
        ("file:///etc/passwd".to_owned(), "outbound.url_invalid"),
        ("gopher://localhost".to_owned(), "outbound.url_invalid"),
    ] {
        assert_eq!(hop(&to).await, code, "{to}");
    }
    let mut long = scene.url("/echo");
    for _ in 0..5 {
        long = scene.redirect(302, &long);
    }
    assert_eq!(scene.refusal(&long).await, "ok");
    let too_long = scene.redirect(302, &long);
    assert_eq!(
        scene.refusal(&too_long).await,
        "outbound.too_many_redirects"
    );
}

#[tokio::test]
async fn a_redirect_keeps_or_drops_the_body_as_browsers_do() {
    let scene = Scene::start().await;
    for (status, wanted) in [
        (301, "GET"),
        (302, "GET"),
        (303, "GET"),
        (307, "POST"),
        (308, "POST"),
        (300, ""),
        (304, ""),
    ] {
        let request = http::Request::post(scene.redirect(status, "/echo"));
        let request = request.header("content-type", "text/plain");
        let response = scene
            .send(request.body(Bytes::from_static(b"body")).unwrap(), &[])
            .await;
        let response = response.unwrap();
        if wanted.is_empty() {
            assert_eq!(response.status().as_u16(), status);
            continue;
        }
        let seen = text(response).await;
        assert!(seen.starts_with(wanted), "{status}: {seen}");
        for part in ["body", "content-type"] {
            assert_eq!(seen.contains(part), wanted == "POST", "{status}: {seen}");
        }
    }
    let none = Scene::with(Config {
        redirects_max: 0,
        ..Config::default()
    })
    .await;
    let response = none.get(&none.redirect(302, "/echo")).await.unwrap();
    assert_eq!(response.status(), Status::FOUND);
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let scene = Scene::with(Config {
        response_bytes_max: 1 << 20,
        ..Config::default()
    })
    .await;
    let response = scene.get(&scene.url("/bomb")).await.unwrap();
    let mut body = response.into_body();
    let mut bytes = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => bytes += frame.into_data().unwrap().len(),
            Err(error) => break error,
        }
    };
    assert!(bytes <= 1 << 20);
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Limit, "outbound.response_too_large")
    );
    assert!(body.frame().await.is_none());
    let scene = Scene::with(Config {
        response_bytes_max: 999,
        ..Config::default()
    })
    .await;
    assert_eq!(
        scene.refusal(&scene.url("/long")).await,
        "outbound.response_too_large"
    );
    assert_eq!(
        scene.refusal(&scene.url("/headers")).await,
        "outbound.headers_too_large"
    );
}

#[tokio::test]
async fn what_takes_too_long_is_given_up() {
    let config = Config {
        first_byte_ms_max: 50,
        total_ms_max: 200,
        ..Config::default()
    };
    let scene = Scene::with(config).await;
    assert_eq!(
        scene.refusal(&scene.url("/never")).await,
        "outbound.timeout"
    );
    let response = scene.get(&scene.url("/drip")).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Timeout, "outbound.timeout")
    );
    let (mut budget, past) = (scene.outbound.budget(), until(Instant::now()));
    let (sender, request) = (scene.sender(&past), get(&scene.url("/never")));
    let sent = scene.outbound.send(sender, request, &mut budget).await;
    assert_eq!(sent.unwrap_err().code, "outbound.timeout");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let scene = Scene::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let config = Config {
        allow_private: vec![nobody],
        ..Config::default()
    };
    let outbound = Outbound::new(config).unwrap();
    let scene = Scene {
        outbound,
        policy: policy(&[nobody.to_string()]),
        ..scene
    };
    let error = scene.get(&format!("http://{nobody}/")).await.unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Unavailable, "outbound.connect_failed")
    );
}

#[tokio::test]
async fn a_request_too_large_is_not_sent() {
    let scene = Scene::with(Config {
        request_bytes_max: 10,
        ..Config::default()
    })
    .await;
    let request = http::Request::post(scene.url("/echo")).body(Bytes::from_static(b"01234567890"));
    let error = scene.send(request.unwrap(), &[]).await.unwrap_err();
    assert_eq!(error.code, "outbound.request_too_large");
    let request = http::Request::get(scene.url("/echo")).header("x-much", "x".repeat(40_000));
    let error = scene
        .send(request.body(Bytes::new()).unwrap(), &[])
        .await
        .unwrap_err();
    assert_eq!(error.code, "outbound.headers_too_large");
}

#[tokio::test]
async fn a_plugin_has_so_many_requests_in_flight_and_others_are_not_touched() {
    let scene = Scene::with(Config {
        in_flight_max: 2,
        ..Config::default()
    })
    .await;
    let url = scene.url("/drip");
    let first = scene.get(&url).await.unwrap();
    let _second = scene.get(&url).await.unwrap();
    let error = scene.get(&url).await.unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Limit, "outbound.too_many_in_flight")
    );
    let other = Scene {
        plugin: "blog".parse().unwrap(),
        outbound: scene.outbound.clone(),
        policy: scene.policy.clone(),
        server: scene.server,
    };
    other.get(&url).await.unwrap();
    drop(first);
    scene.get(&url).await.unwrap();
}

#[tokio::test]
async fn a_call_has_a_budget_over_all_its_requests() {
    let config = Config {
        requests_per_call_max: 3,
        response_bytes_per_call_max: 2500,
        ..Config::default()
    };
    let scene = Scene::with(config).await;
    let allowance = soon();
    let mut budget = scene.outbound.budget();
    for wanted in ["ok", "ok", "outbound.budget_exhausted"] {
        let request = get(&scene.url("/long"));
        let sender = scene.sender(&allowance);
        let sent = scene.outbound.send(sender, request, &mut budget).await;
        let code = match sent {
            Ok(response) => text(response).await.len().to_string().replace("1000", "ok"),
            Err(error) => error.code.into_owned(),
        };
        assert_eq!(code, wanted);
    }
    let mut budget = scene.outbound.budget();
    let redirected = scene.redirect(302, &scene.redirect(302, &scene.redirect(302, "/echo")));
    let (sender, request) = (scene.sender(&allowance), get(&redirected));
    let sent = scene.outbound.send(sender, request, &mut budget).await;
    assert_eq!(sent.unwrap_err().code, "outbound.budget_exhausted");
}

#[tokio::test]
async fn a_plugin_that_waits_less_than_the_settings_allow_waits_less() {
    let scene = Scene::start().await;
    let allowance = soon();
    let short = Some(Duration::from_millis(50));
    let patience = Patience {
        first_byte: short,
        between_bytes: None,
    };
    let sender = Sender {
        patience,
        ..scene.sender(&allowance)
    };
    let (mut budget, request) = (scene.outbound.budget(), get(&scene.url("/never")));
    let sent = scene.outbound.send(sender, request, &mut budget).await;
    assert_eq!(sent.unwrap_err().code, "outbound.timeout");
    let patience = Patience {
        first_byte: None,
        between_bytes: short,
    };
    let sender = Sender { patience, ..sender };
    let request = get(&scene.url("/drip"));
    let sent = scene.outbound.send(sender, request, &mut budget).await;
    let error = sent.unwrap().into_body().collect().await.unwrap_err();
    assert_eq!(error.code, "outbound.timeout");
}

#[tokio::test]
async fn a_body_may_neither_pause_for_long_nor_go_on_for_long() {
    for (read_ms_max, total_ms_max, path) in [(50, 60_000, "/drip"), (60_000, 300, "/slow")] {
        let config = Config {
            read_ms_max,
            total_ms_max,
            ..Config::default()
        };
        let scene = Scene::with(config).await;
        let began = std::time::Instant::now();
        let response = scene.get(&scene.url(path)).await.unwrap();
        let error = response.into_body().collect().await.unwrap_err();
        assert_eq!(error.code, "outbound.timeout", "{path}");
        assert!(began.elapsed() < Duration::from_secs(5), "{path}");
    }
}

#[tokio::test]
async fn nothing_is_unpacked_here() {
    let scene = Scene::start().await;
    let mut request = get(&scene.url("/packed"));
    let accepted = HeaderValue::from_static("gzip, br");
    request
        .headers_mut()
        .insert(header::ACCEPT_ENCODING, accepted);
    let response = scene.send(request, &[]).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 5000, "what came is what the plugin gets");
}

#[tokio::test]
async fn a_plugin_has_so_many_requests_and_bytes_in_a_minute() {
    for (requests, bytes, wanted) in [
        (3, 1_000_000, ["ok", "ok", "ok", "outbound.rate_exceeded"]),
        (
            100,
            2600,
            [
                "ok",
                "ok",
                "outbound.rate_exceeded",
                "outbound.rate_exceeded",
            ],
        ),
    ] {
        let config = Config {
            requests_per_minute_max: requests,
            bytes_per_minute_max: bytes,
            ..Config::default()
        };
        let mut scene = Scene::with(config).await;
        for wanted in wanted {
            let code = match scene.get(&scene.url("/long")).await {
                Ok(response) => {
                    let body = response.into_body().collect().await;
                    body.map_or_else(|error| error.code.into_owned(), |_| "ok".to_owned())
                }
                Err(error) => error.code.into_owned(),
            };
            assert_eq!(code, wanted);
        }
        scene.plugin = "other".parse().unwrap();
        assert_eq!(scene.refusal(&scene.url("/long")).await, "ok");
    }
}

/// A server that counts the connections made to it.
async fn counting(address: SocketAddr) -> (SocketAddr, Arc<AtomicU64>) {
    let connections = Arc::new(AtomicU64::new(0));
    let count = connections.clone();
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let app = Router::new().fallback(async || "hello");
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, connections)
}

fn loopback(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], port))
}

#[tokio::test]
async fn connections_are_kept_for_their_plugin_alone_and_not_below_a_wildcard() {
    let (server, connections) = counting(loopback(1, 0)).await;
    let config = Config {
        allow_private: vec![server],
        ..Config::default()
    };
    let resolver: Resolver = Arc::new(move |_| Box::pin(async move { Ok(vec![server.ip()]) }));
    let outbound = Outbound::of(config, resolver, None).unwrap();
    let port = server.port();
    let policy = policy(&[
        format!("one.example:{port}"),
        format!("*.many.example:{port}"),
    ]);
    let allowance = soon();
    for (plugin, host, wanted) in [
        ("ann", "one.example", 1),
        ("ann", "one.example", 1),
        ("bob", "one.example", 2),
        ("ann", "one.example", 2),
        ("ann", "a.many.example", 3),
        ("ann", "a.many.example", 4),
    ] {
        let sender = Sender {
            plugin: &plugin.parse().unwrap(),
            policy: &policy,
            injections: &[],
            allowance: &allowance,
            patience: Patience::default(),
            depth: 1,
        };
        let request = get(&format!("http://{host}:{port}/"));
        let mut budget = outbound.budget();
        let answer = outbound.send(sender, request, &mut budget).await.unwrap();
        assert_eq!(text(answer).await, "hello");
        // The connection is given back a moment after the body is over.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(
            connections.load(Ordering::Relaxed),
            wanted,
            "{plugin} {host}"
        );
    }
}

#[tokio::test]
async fn a_name_that_changes_its_meaning_leads_nowhere_else() {
    let (server, here) = counting(loopback(1, 0)).await;
    // The same port on an address that is not on the list.
    let (inside, there) = counting(loopback(2, server.port())).await;
    let config = Config {
        allow_private: vec![server],
        allow_http: true,
        ..Config::default()
    };
    let metadata: IpAddr = "169.254.169.254".parse().unwrap();
    let mapped: IpAddr = "::ffff:127.0.0.2".parse().unwrap();
    let translated: IpAddr = "64:ff9b::7f00:2".parse().unwrap();
    let (good, bad) = (server.ip(), inside.ip());
    let answers = [
        (vec![good], "ok"),
        (vec![bad], "outbound.name_forbidden"),
        (vec![bad, good], "ok"),
        (vec![good, bad], "ok"),
        (
            vec![metadata, bad, mapped, translated],
            "outbound.name_forbidden",
        ),
        (vec![], "outbound.name_forbidden"),
        (vec![mapped], "outbound.name_forbidden"),
    ];
    let turn = Arc::new(AtomicU64::new(0));
    let (next, said) = (turn.clone(), answers.clone());
    let resolver: Resolver = Arc::new(move |_| {
        let answer = said[next.load(Ordering::Relaxed) as usize].0.clone();
        Box::pin(async move { Ok(answer) })
    });
    let outbound = Outbound::of(config, resolver, None).unwrap();
    let name = format!("rebind.example:{}", server.port());
    let policy = policy(std::slice::from_ref(&name));
    let allowance = soon();
    for (number, (addresses, wanted)) in answers.into_iter().enumerate() {
        turn.store(number as u64, Ordering::Relaxed);
        let sender = Sender {
            // Each time another, so that no connection is there already.
            plugin: &format!("plugin{number}").parse().unwrap(),
            policy: &policy,
            injections: &[],
            allowance: &allowance,
            patience: Patience::default(),
            depth: 1,
        };
        let request = get(&format!("http://{name}/"));
        let mut budget = outbound.budget();
        let sent = outbound.send(sender, request, &mut budget).await;
        let code = sent.map_or_else(|error| error.code.into_owned(), |_| "ok".to_owned());
        assert_eq!(code, wanted, "{addresses:?}");
    }
    assert_eq!(here.load(Ordering::Relaxed), 3);
    assert_eq!(there.load(Ordering::Relaxed), 0, "nobody went inside");
}

/// What the host logs on this thread meanwhile, down to the last detail.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_injected_secret_comes_back_in_no_answer_error_or_log() {
    use proptest::{
        strategy::{Strategy as _, ValueTree as _},
        test_runner::TestRunner,
    };
    let captured = Captured::default();
    let log = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || log.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let scene = Scene::start().await;
            let mut runner = TestRunner::deterministic();
            for _ in 0..50 {
                let secret = "[!-)+-~]{8,64}".new_tree(&mut runner).unwrap().current();
                let size = (1_usize..90).new_tree(&mut runner).unwrap().current();
                let host = scene.server.to_string();
                let injection =
                    Injection::new(&host, header::AUTHORIZATION, "Bearer ", secret.as_bytes());
                let injections = [injection.unwrap()];
                let visible = async |url: String| match scene.send(get(&url), &injections).await {
                    Ok(answer) => format!("{:?} {}", answer.headers().clone(), text(answer).await),
                    Err(error) => format!("{error:?} {error}"),
                };
                let echo = scene.url(&format!("/echo-back?{size}"));
                let echoed = visible(echo.clone()).await;
                assert!(echoed.contains("you sent: Bearer ****"), "{echoed}");
                let mut seen = vec![echoed];
                // Sent on, it was sent too; where there is nobody, somebody might repeat the request.
                for url in [
                    scene.redirect(302, &echo),
                    scene.redirect(302, &format!("https://evil.example/?{secret}")),
                    scene.redirect(302, "http://["),
                    scene.url("/headers"),
                    scene.url("/nowhere"),
                    format!("https://{host}/"),
                ] {
                    seen.push(visible(url).await);
                }
                for text in &seen {
                    assert!(!text.contains(&secret), "{secret} in {text}");
                }
                let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
                // The tests' own server logs too, and it has seen the secret.
                assert!(!log.contains(&secret), "{secret} in the log");
                captured.0.lock().unwrap().clear();
            }
        });
    });
}
