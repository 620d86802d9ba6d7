//! Filters that fail or misbehave: what it costs is declared, and what is the host's stays the host's.

use std::time::{Duration, Instant};

use gantry_harness::{TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use super::{arrived, filter, filtered};
use crate::manifests;

const LIMITS: &str = "[limits]\ncpu = \"50ms\"\nwall = \"300ms\"\nmemory = \"8MiB\"\n";

/// A host with the filter that misbehaves around two routes, on one of which it may fail.
async fn host_with(more: &str) -> TestHost {
    let host = TestHost::build();
    let host = host
        .with(|config| config.plugins.defaults.queue_max = 0)
        .start()
        .await;
    let more = format!("[capabilities]\nkv = [\"data\"]\n{more}");
    let manifest = filter("abuse", &[("before", ""), ("after", "")], &more);
    host.deploy(&manifest, guest("filter-abuse")).await;
    let of = |on_failure| format!("{{ use = \"plugin:abuse\", on_failure = \"{on_failure}\" }}");
    let routes = [
        ("/closed/{*rest}", of("closed")),
        ("/open/{*rest}", of("open")),
    ];
    let routes = routes.each_ref().map(|(path, filters)| (*path, &**filters));
    host.deploy(&filtered("echo", &routes, ""), guest("echo"))
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    host
}

async fn misbehave(host: &TestHost, before: &str, after: &str) {
    let settings = json!({ "before": before, "after": after });
    let set = host.admin().set_config("abuse", &settings).await;
    set.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_fails_shuts_a_closed_route_and_leaves_an_open_one_as_it_is() {
    let host = host_with(LIMITS).await;
    let mut failures = 0;
    for (way, status, code) in [
        ("trap", 502, "filter.failed"),
        ("loop", 504, "filter.deadline_exceeded"),
        ("sleep", 504, "filter.deadline_exceeded"),
        ("memory", 502, "filter.failed"),
        ("denied", 502, "filter.failed"),
        ("many-headers", 502, "filter.failed"),
        ("large-header", 502, "filter.failed"),
        ("split-header", 502, "filter.failed"),
        ("body", 502, "filter.failed"),
    ] {
        for (before, after) in [(way, ""), ("", way)] {
            misbehave(&host, before, after).await;
            let refused = host.get("/echo/closed/x").await;
            let refused = refused.assert_problem(status, code);
            let detail = refused.json::<Value>()["detail"]
                .as_str()
                .unwrap()
                .to_owned();
            assert!(detail.contains("the filter `abuse`"), "{way}: {detail}");
            assert_eq!(refused.header("set-cookie"), None, "{way}");
            let answer = host.get("/echo/open/x").await.assert_status(200);
            let body: Value = answer.json();
            assert_eq!(body["path"], "/open/x", "{way}");
            assert_eq!(answer.header("set-cookie"), None, "{way}");
            assert!(answer.headers.len() < 20, "{way}: {answer:?}");
            failures += 1;
        }
    }
    let metrics = host.admin().get("/metrics").await.text();
    for direction in ["request", "response"] {
        let counted = format!(
            "gantry_filter_failures_total{{direction=\"{direction}\",filter=\"plugin:abuse\"}} {failures}"
        );
        assert!(metrics.contains(&counted), "{counted}\n{metrics}");
    }
    // The author of the filter finds why, under the id of the request.
    host.app().logs.flush().await;
    let admin = host.admin();
    let log = admin
        .get("/_gantry/api/v1/plugins/abuse/logs?limit=200")
        .await;
    let log = log.assert_status(200).text();
    assert!(log.contains("processor time"), "{log}");
    host.get("/neighbour/").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_has_places_and_time_of_its_own() {
    let host = host_with(&format!("{LIMITS}concurrency = 1\n")).await;
    misbehave(&host, "sleep", "").await;
    let began = Instant::now();
    let ask = |path: &'static str| {
        let client = host.on_a_connection_of_its_own();
        async move { client.get(path).await }
    };
    let (first, second, third) = tokio::join!(
        ask("/echo/closed/x"),
        ask("/echo/closed/x"),
        ask("/neighbour/")
    );
    third.assert_status(200);
    let mut codes = [first.code(), second.code()];
    codes.sort();
    assert_eq!(codes, ["filter.deadline_exceeded", "filter.unavailable"]);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_sees_no_credentials_and_cannot_forge_what_the_host_says() {
    let host = host_with("").await;
    misbehave(&host, "spoof", "spoof").await;
    let user = host.user("ann@example.com", &[]).await;
    let answer = user.get("/echo/closed/x").await.assert_status(200);
    assert_eq!(arrived(&answer, "x-secrets-seen").as_deref(), Some("0"));
    for name in [
        "authorization",
        "x-api-key",
        "x-forwarded-for",
        "x-request-id",
    ] {
        assert_eq!(arrived(&answer, name), None, "{name}");
    }
    let seen = arrived(&answer, "host").unwrap();
    assert!(seen.starts_with("127.0.0.1"), "{seen}");
    let body: Value = answer.json();
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
    assert_eq!(body["client_address"], "127.0.0.1");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    for name in ["ratelimit", "ratelimit-policy", "strict-transport-security"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_cannot_change_how_messages_are_framed() {
    let host = host_with("").await;
    misbehave(&host, "framing", "framing").await;
    for body in ["", "a body of the client"] {
        let request = host.request(Method::POST, "/echo/closed/x").body(body);
        let answer = host.send(request).await.assert_status(200);
        let seen: Value = answer.json();
        assert_eq!(seen["body_bytes"], body.len());
        assert_eq!(arrived(&answer, "x-kept").as_deref(), Some("1"));
        for name in ["transfer-encoding", "connection", "upgrade"] {
            assert_eq!(arrived(&answer, name), None, "{name}");
            assert_eq!(answer.header(name), None, "{name}");
        }
        assert_ne!(arrived(&answer, "content-length").as_deref(), Some("1"));
        assert_eq!(answer.header("x-kept"), Some("1"));
        let length = answer.body.len().to_string();
        assert_eq!(answer.header("content-length"), Some(&*length));
    }
}
