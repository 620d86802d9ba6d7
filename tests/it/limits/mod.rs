//! Rate limits as clients and operators meet them.

mod shared;
mod trace;

use std::time::{Duration, Instant};

use gantry::limits::{Algorithm, KeyKind};
use gantry::plugins::limits::LimitOverride;
use gantry_harness::{Answer, Client, TestHost, guests::guest};
use http::Method;
use serde_json::Value;

/// A manifest of the guest that answers everything, with these routes.
fn manifest(routes: &str) -> String {
    format!(
        "schema = 1\n[plugin]\nname = \"echo\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n{routes}"
    )
}

/// A route that is open to everybody.
fn route(path: &str, limits: &str) -> String {
    format!(
        "[[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"{path}\"\nauth = \"public\"\nlimits = [{limits}]\n"
    )
}

async fn host_with(routes: &str) -> TestHost {
    let host = TestHost::start().await;
    host.deploy(&manifest(routes), guest("echo")).await;
    host
}

/// How many of so many requests are let through; the others are refused for a limit.
async fn let_through(client: &Client, path: &str, count: usize) -> usize {
    let mut passed = 0;
    for _ in 0..count {
        passed += usize::from(passes(client.get(path).await));
    }
    passed
}

fn passes(answer: Answer) -> bool {
    match answer.status.as_u16() {
        200 => true,
        _ => {
            answer.assert_problem(429, "limit.quota_exceeded");
            false
        }
    }
}

async fn with_header(client: &Client, path: &str, name: &str, value: &str) -> Answer {
    let request = client.request(Method::GET, path).header(name, value);
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_algorithm_keeps_its_limit_and_tells_of_it() {
    let algorithms = ["token-bucket", "fixed-window", "sliding-window"];
    let routes = algorithms.map(|name| {
        let limit = format!("{{ limit = 3, window = \"24h\", algorithm = \"{name}\" }}");
        route(&format!("/{name}"), &limit)
    });
    let host = host_with(&routes.concat()).await;
    for name in algorithms {
        let path = format!("/echo/{name}");
        let first = host.get(&path).await.assert_status(200);
        assert_eq!(first.header("ratelimit-policy"), Some("\"ip\";q=3;w=86400"));
        assert!(
            first
                .header("ratelimit")
                .unwrap()
                .starts_with("\"ip\";r=2;t=")
        );
        assert_eq!(first.header("x-ratelimit-limit"), None);
        assert_eq!(let_through(&host, &path, 9).await, 2, "{name}");
        let refused = host.get(&path).await.assert_status(429);
        let problem: Value = refused.json();
        assert_eq!(problem["violated-policies"], serde_json::json!(["ip"]));
        let kind = "https://iana.org/assignments/http-problem-types#quota-exceeded";
        assert_eq!(problem["type"], kind);
        let told = refused.header("ratelimit").unwrap().rsplit("t=").next();
        assert_eq!(refused.header("retry-after"), told, "{name}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_draw_on_a_shared_limit_by_what_they_cost_and_all_limits_or_none_are_charged() {
    let shared = "name = \"units\", limit = 10, window = \"24h\"";
    let routes = [
        route(
            "/dear",
            &format!("{{ {shared}, cost = 4 }}, {{ limit = 3, window = \"24h\" }}"),
        ),
        route("/cheap", &format!("{{ {shared} }}")),
    ];
    let host = host_with(&routes.concat()).await;
    let dear = host.get("/echo/dear").await.assert_status(200);
    assert!(dear.header("ratelimit").unwrap().contains("\"units\";r=6"));
    host.get("/echo/dear").await.assert_status(200);
    for _ in 0..5 {
        let refused = host.get("/echo/dear").await.assert_status(429);
        // The other limit has one left, and keeps it.
        let left = refused.header("ratelimit").unwrap().to_owned();
        assert!(
            left.contains("\"units\";r=2") && left.contains("\"ip\";r=1"),
            "{left}"
        );
        let problem: Value = refused.json();
        assert_eq!(problem["violated-policies"], serde_json::json!(["units"]));
    }
    assert_eq!(let_through(&host, "/echo/cheap", 5).await, 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_route_with_limits_say_what_is_left_too() {
    let checked =
        "parameters = [{ in = \"query\", name = \"page\", schema = { type = \"integer\" } }]\n";
    let limit = "{ limit = 3, window = \"24h\" }";
    let host = host_with(&format!("{}{checked}", route("/x", limit))).await;
    for left in [2, 1] {
        let answer = host.get("/echo/x?page=one").await;
        let told = answer.header("ratelimit").unwrap().to_owned();
        assert!(told.contains(&format!("r={left};")), "{told}");
        assert!(answer.header("ratelimit-policy").unwrap().contains("q=3"));
        answer.assert_problem(400, "request.invalid_parameters");
    }
    let answer = host.get("/echo/x?page=1").await.assert_status(200);
    assert!(answer.header("ratelimit").unwrap().contains("r=0;"));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_limit_refuses_nobody_and_reports_whom_it_would_have() {
    let limits = "{ name = \"later\", limit = 1, window = \"24h\", shadow = true }";
    let host = host_with(&route("/x", limits)).await;
    for _ in 0..3 {
        let answer = host.get("/echo/x").await.assert_status(200);
        assert_eq!(answer.header("ratelimit"), None);
        assert_eq!(answer.header("ratelimit-policy"), None);
    }
    let log = host.access_log().await;
    let told = log.matches("\"shadow_limit\":\"later\"").count();
    assert_eq!(told, 2, "{log}");
    let metrics = host.admin().get("/metrics").await.text();
    let line = "gantry_route_limited_total{mode=\"shadow\",plugin=\"echo\",route=\"/x\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_in_progress_until_its_answer_is_over() {
    let host = TestHost::start().await;
    let manifest = "schema = 1\n[plugin]\nname = \"stream-02\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                    [[route]]\nmethod = \"GET\"\npath = \"/{*rest}\"\nauth = \"public\"\nlimits = [{ concurrent = 2 }]\n";
    host.deploy(manifest, guest("stream-02")).await;
    let begin = async || {
        let client = host.on_a_connection_of_its_own();
        let request = client.request(Method::GET, "/stream-02/events?n=100000");
        let mut answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.chunk().await.unwrap().is_some());
        answer
    };
    let first = begin().await;
    let _second = begin().await;
    let refused = host.get("/stream-02/x").await;
    let refused = refused.assert_problem(429, "limit.quota_exceeded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let policy = "\"ip-concurrent\";q=2;qu=\"concurrent-requests\"";
    assert_eq!(refused.header("ratelimit-policy"), Some(policy));
    assert_eq!(refused.header("ratelimit"), Some("\"ip-concurrent\";r=0"));

    drop(first);
    let began = Instant::now();
    while !passes(host.get("/stream-02/x").await) {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "no place is free"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Short answers are over when they are there, one after the other.
    assert_eq!(let_through(&host, "/stream-02/x", 20).await, 20);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_writes_into_headers_gives_it_no_other_count() {
    let by_user = "[[route]]\nmethod = \"GET\"\npath = \"/mine\"\nauth = \"optional\"\n\
                   limits = [{ limit = 3, window = \"24h\", key = \"user\" }]\n";
    let by_tenant = "{ name = \"tenant\", limit = 2, window = \"24h\", key = \"header\", header = \"x-tenant\" }, \
                     { limit = 6, window = \"24h\" }";
    let routes = [
        route("/address", "{ limit = 3, window = \"24h\" }"),
        by_user.to_owned(),
        route("/tenant", by_tenant),
    ];
    let host = host_with(&routes.concat()).await;
    let names = [
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "via",
    ];
    let mut passed = 0;
    for number in 0..10 {
        let address = format!("203.0.113.{number}");
        let name = names[number % names.len()];
        passed += usize::from(passes(
            with_header(&host, "/echo/address", name, &address).await,
        ));
    }
    assert_eq!(passed, 3);
    let mut passed = 0;
    for number in 0..10 {
        let name = ["x-user", "x-user-id", "x-gantry-user"][number % 3];
        passed += usize::from(passes(with_header(&host, "/echo/mine", name, "ann").await));
    }
    assert_eq!(passed, 3);

    // Who says another tenant each time comes as far as the limit beside it.
    let mut passed = 0;
    for number in 0..20 {
        let tenant = format!("t{}", number / 3);
        let answer = with_header(&host, "/echo/tenant", "x-tenant", &tenant).await;
        passed += usize::from(passes(answer));
    }
    assert_eq!(passed, 6);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_counts_by_a_header_or_by_the_value_of_an_expression() {
    let all = "{ limit = 1000, window = \"24h\" }";
    let tenant = "{ name = \"tenant\", limit = 2, window = \"24h\", key = \"header\", header = \"x-tenant\" }";
    let kind = "{ name = \"kind\", limit = 2, window = \"24h\", key = \"expression\", expression = \"params.kind\" }";
    let sub = "{ limit = 2, window = \"24h\", key = \"expression\", expression = \"claims.sub\" }";
    let routes = [
        route("/tenant", &format!("{tenant}, {all}")),
        route("/kinds/{kind}", &format!("{kind}, {all}")),
        format!("[[route]]\nmethod = \"GET\"\npath = \"/mine\"\nlimits = [{sub}]\n"),
    ];
    let host = host_with(&routes.concat()).await;
    for tenant in ["a", "b"] {
        let mut passed = 0;
        for _ in 0..4 {
            passed += usize::from(passes(
                with_header(&host, "/echo/tenant", "x-tenant", tenant).await,
            ));
        }
        assert_eq!(passed, 2, "{tenant}");
    }
    // Without the header, the address counts.
    assert_eq!(let_through(&host, "/echo/tenant", 4).await, 2);
    for kind in ["one", "two"] {
        assert_eq!(
            let_through(&host, &format!("/echo/kinds/{kind}"), 4).await,
            2,
            "{kind}"
        );
    }
    let ann = host.user("ann@example.com", &[]).await;
    let bob = host.user("bob@example.com", &[]).await;
    assert_eq!(let_through(&ann, "/echo/mine", 4).await, 2);
    assert_eq!(let_through(&bob, "/echo/mine", 4).await, 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_changes_what_authors_declare() {
    let change = |route: Option<&str>, name: &str| LimitOverride {
        plugin: "echo".parse().unwrap(),
        route: route.map(str::to_owned),
        name: name.to_owned(),
        add: false,
        off: false,
        limit: None,
        window_ms: None,
        burst: None,
        key: None,
        algorithm: None,
        cost: None,
        shadow: None,
        fail: None,
    };
    let overrides = vec![
        LimitOverride {
            limit: Some(2),
            ..change(Some("/low"), "ip")
        },
        LimitOverride {
            off: true,
            ..change(Some("/o*"), "ip")
        },
        LimitOverride {
            add: true,
            limit: Some(4),
            window_ms: Some(86_400_000),
            algorithm: Some(Algorithm::FixedWindow),
            key: Some(KeyKind::Route),
            ..change(None, "house")
        },
    ];
    let host = TestHost::build().with(|config| {
        config.plugins.limits = overrides;
        config.limits.legacy_headers = true;
    });
    let host = host.start().await;
    let mine = "{ limit = 100, window = \"24h\", burst = 50, cost = 3 }";
    let routes = ["/low", "/off", "/other"].map(|path| route(path, mine));
    host.deploy(&manifest(&routes.concat()), guest("echo"))
        .await;
    let first = host.get("/echo/low").await.assert_status(200);
    let policy = "\"ip\";q=2;w=86400, \"house\";q=4;w=86400";
    assert_eq!(first.header("ratelimit-policy"), Some(policy));
    // What costs more than there is takes all of it.
    assert_eq!(first.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining"), Some("0"));
    assert!(first.header("x-ratelimit-reset").is_some());
    assert_eq!(let_through(&host, "/echo/low", 9).await, 0);
    for path in ["/echo/off", "/echo/other"] {
        let first = host.get(path).await.assert_status(200);
        assert_eq!(
            first.header("ratelimit-policy"),
            Some("\"house\";q=4;w=86400")
        );
        assert_eq!(let_through(&host, path, 9).await, 3, "{path}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_values_gets_no_more_than_the_places_of_the_table() {
    let host = TestHost::build().with(|config| config.limits.entries_max = 8);
    let host = host.start().await;
    let limits = "{ name = \"tenant\", limit = 1, window = \"24h\", key = \"header\", header = \"x-tenant\" }, \
                  { limit = 1000000, window = \"24h\" }";
    host.deploy(&manifest(&route("/x", limits)), guest("echo"))
        .await;
    let mut passed = 0;
    for number in 0..200 {
        let answer = with_header(&host, "/echo/x", "x-tenant", &number.to_string()).await;
        passed += usize::from(passes(answer));
    }
    // A place each, and one that newcomers share in each of 8 shards.
    assert!((8..=16).contains(&passed), "{passed}");
    host.stop().await;
}
