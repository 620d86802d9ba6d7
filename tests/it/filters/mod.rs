//! Filters before and behind the routes of plugins: who stands where, what they may change, and what their failure costs.

mod bodies;
mod hostile;
mod places;

use gantry::plugins::filters::{OnFailure, OperatorFilter};
use gantry_harness::{Answer, TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use crate::manifests;

/// The manifest of a filter with these settings, each with a default.
fn filter(name: &str, settings: &[(&str, &str)], more: &str) -> String {
    let settings: String = settings
        .iter()
        .map(|(key, value)| {
            format!("[config.properties.{key}]\ntype = \"string\"\ndefault = \"{value}\"\n")
        })
        .collect();
    format!(
        "schema = 1\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n\
         [component]\npath = \"plugin.wasm\"\n{more}\n{settings}"
    )
}

/// A plugin with an open route for each of these paths and filters, and these filters around all.
fn filtered(name: &str, routes: &[(&str, &str)], around: &str) -> String {
    let routes: String = routes
        .iter()
        .map(|(path, filters)| {
            format!(
                "[[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"{path}\"\nauth = \"public\"\n\
                 filters = [{filters}]\n"
            )
        })
        .collect();
    format!(
        "schema = 1\nfilters = [{around}]\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n\
         [component]\npath = \"plugin.wasm\"\n{routes}"
    )
}

async fn deploy_mark(host: &TestHost, name: &str) {
    let manifest = filter(name, &[("mark", name)], "");
    host.deploy(&manifest, guest("filter-mark")).await;
}

fn of_operator(filter: &str) -> OperatorFilter {
    OperatorFilter {
        filter: filter.to_owned(),
        on_failure: filter.starts_with("plugin:").then_some(OnFailure::Closed),
        ..OperatorFilter::default()
    }
}

/// A header of the request as it reached the plugin `echo`.
fn arrived(answer: &Answer, name: &str) -> Option<String> {
    let body: Value = answer.json();
    let headers = body["headers"].as_array().unwrap().clone();
    let mut values = headers.iter().filter(|header| header[0] == name);
    values
        .next()
        .map(|header| header[1].as_str().unwrap().to_owned())
}

const CLOSED_MARK: &str = "{ use = \"plugin:mark\", on_failure = \"closed\" }";

#[tokio::test(flavor = "multi_thread")]
async fn requests_meet_filters_from_the_outside_in_and_answers_from_the_inside_out() {
    let host = TestHost::build();
    let host = host.with(|config| {
        config.plugins.filters = vec![
            of_operator("security-headers"),
            of_operator("plugin:operator"),
            OperatorFilter {
                mount: Some("/elsewhere".to_owned()),
                ..of_operator("plugin:nobody")
            },
        ];
    });
    let host = host.start().await;
    for name in ["operator", "author", "route"] {
        deploy_mark(&host, name).await;
    }
    let around = "{ use = \"headers\", request = { set = { x-rule = \"in\" }, remove = [\"x-unwanted\"] }, \
                  response = { set = { x-rule = \"out\" }, remove = [\"x-content\"] } }, \
                  { use = \"plugin:author\", on_failure = \"closed\" }";
    let own = "{ use = \"plugin:route\", on_failure = \"open\" }";
    let manifest = filtered("echo", &[("/own", own), ("/{*rest}", "")], around);
    host.deploy(&manifest, guest("echo")).await;

    let request = host
        .request(Method::GET, "/echo/own")
        .header("x-unwanted", "1");
    let answer = host.send(request).await.assert_status(200);
    assert_eq!(
        arrived(&answer, "x-in").as_deref(),
        Some(">operator>author>route")
    );
    assert_eq!(answer.header("x-out"), Some("<route<author<operator"));
    assert_eq!(arrived(&answer, "x-rule").as_deref(), Some("in"));
    assert_eq!(arrived(&answer, "x-unwanted"), None);
    assert_eq!(answer.header("x-rule"), Some("out"));
    assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));

    let answer = host.get("/echo/other").await.assert_status(200);
    assert_eq!(
        arrived(&answer, "x-in").as_deref(),
        Some(">operator>author")
    );
    assert_eq!(answer.header("x-out"), Some("<author<operator"));

    // Whoever answers a request ends its way: those outside see the answer, those inside see nothing.
    // Nobody gets past by writing the path in another way that means the same.
    for path in ["turned-back", "turned%2Dback", "%74urned-%62ack"] {
        let answer = host.get(&format!("/echo/{path}")).await.assert_status(200);
        assert_eq!(answer.text(), "turned back by operator", "{path}");
        assert_eq!(answer.header("x-out"), None);
        assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_filter_passes_those_outside_of_it() {
    let host = TestHost::start().await;
    deploy_mark(&host, "inner").await;
    let around = "{ use = \"headers\", response = { set = { x-outer = \"1\" } } }, \
                  { use = \"plugin:inner\", on_failure = \"closed\" }";
    let inside = "{ use = \"headers\", response = { set = { x-inner = \"1\" } } }";
    let manifest = filtered("echo", &[("/{*rest}", inside)], around);
    host.deploy(&manifest, guest("echo")).await;
    let answer = host.get("/echo/turned-back").await.assert_status(200);
    assert_eq!(answer.text(), "turned back by inner");
    assert_eq!(answer.header("x-outer"), Some("1"));
    assert_eq!(answer.header("x-inner"), None);
    assert_eq!(answer.header("x-out"), None, "not its own answer either");
    let answer = host.get("/echo/x").await.assert_status(200);
    assert_eq!(answer.header("x-inner"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_own_filters_do_what_they_are_told() {
    let host = TestHost::build();
    let host = host.with(|config| {
        config.plugins.filters = vec![
            OperatorFilter {
                body_bytes_max: Some(10),
                mount: Some("/small".to_owned()),
                ..of_operator("body-limit")
            },
            OperatorFilter {
                host: Some("shop.example.com".to_owned()),
                ..of_operator("security-headers")
            },
        ];
    });
    let host = host.start().await;
    for name in ["small", "large"] {
        host.deploy(&manifests::open(name), guest("echo")).await;
    }
    let post = |path: &str| {
        let request = host.request(Method::POST, path).body("eleven byte");
        host.send(request)
    };
    post("/small/raw")
        .await
        .assert_problem(413, "request.body_too_large");
    let answer = post("/large/raw").await.assert_status(200);
    assert_eq!(answer.text(), "eleven byte");
    assert_eq!(
        answer.header("permissions-policy"),
        None,
        "another host name"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_filters_do_is_measured_and_booked_on_them() {
    let host = TestHost::start().await;
    deploy_mark(&host, "mark").await;
    let manifest = filtered("echo", &[("/{*rest}", "")], CLOSED_MARK);
    host.deploy(&manifest, guest("echo")).await;
    for _ in 0..3 {
        host.get("/echo/x").await.assert_status(200);
    }
    let metrics = host.admin().get("/metrics").await.text();
    for direction in ["request", "response"] {
        let calls = format!(
            "gantry_filter_duration_seconds_count{{direction=\"{direction}\",filter=\"plugin:mark\"}} 3"
        );
        assert!(metrics.contains(&calls), "{calls}\n{metrics}");
        let booked = format!(
            "gantry_invocation_cpu_seconds_total{{plugin=\"mark\",route=\"{direction}-filter\"}}"
        );
        assert!(metrics.contains(&booked), "{booked}\n{metrics}");
    }
    let log = host.access_log().await;
    let line = log
        .lines()
        .rev()
        .find(|line| line.contains("/echo/x"))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["plugin.name"], "echo", "{line}");
    assert_eq!(line["status"], json!(200), "{line}");
}
