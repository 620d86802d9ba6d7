//! A module that was written with Extism's kit, in a host with everything around it.

use gantry_harness::{Answer, TestHost, guests};
use http::Method;
use serde_json::{Value, json};

use super::manifest;
use crate::services::remote::Remote;

async fn with_probe(host: &TestHost, exports: &[&str], more: &str) -> bool {
    let Some(module) = guests::extism_probe() else {
        return false;
    };
    host.deploy(&manifest("probe", exports, more), module).await;
    true
}

async fn call(host: &TestHost, export: &str, input: &str) -> Answer {
    let path = format!("/probe/{export}");
    let request = host.request(Method::POST, &path).body(input.to_owned());
    host.send(request).await
}

async fn log_of(host: &TestHost, answer: &Answer) -> Vec<Value> {
    host.app().logs.flush().await;
    let id = answer.header("x-request-id").unwrap();
    let path = format!("/_gantry/api/v1/plugins/probe/logs?request_id={id}");
    let page: Value = host.admin().get(&path).await.assert_status(200).json();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_call() {
    let host = TestHost::start().await;
    if !with_probe(&host, &["count_calls", "echo"], "").await {
        return;
    }
    for _ in 0..3 {
        assert_eq!(call(&host, "count_calls", "").await.text(), "1");
    }
    // Loaded out of the cache of machine code.
    let host = host.restart().await;
    let answer = call(&host, "echo", "ünïcode").await.assert_status(200);
    assert_eq!(answer.text(), "ünïcode");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_http_has_for_mistakes_of_the_client_is_the_status() {
    let host = TestHost::start().await;
    if !with_probe(&host, &["refuse", "fail", "panics"], "").await {
        return;
    }
    for (code, status) in [
        (400, 400),
        (422, 400),
        (403, 403),
        (404, 404),
        (409, 409),
        (429, 429),
    ] {
        let answer = call(&host, "refuse", &format!("{code} no such thing")).await;
        let problem = answer.assert_problem(status, "plugin.refused");
        assert!(
            problem.text().contains("no such thing"),
            "{}",
            problem.text()
        );
    }
    for (export, input) in [
        ("refuse", "1 a secret"),
        ("refuse", "500 a secret"),
        ("fail", "a secret"),
    ] {
        let answer = call(&host, export, input).await;
        let log = log_of(&host, &answer).await;
        let problem = answer.assert_problem(502, "plugin.failed");
        assert!(!problem.text().contains("a secret"), "{}", problem.text());
        assert!(
            log[0]["message"].as_str().unwrap().contains("a secret"),
            "{log:?}"
        );
    }
    let answer = call(&host, "panics", "oh no").await;
    let log = log_of(&host, &answer).await;
    answer.assert_problem(502, "plugin.trapped");
    let is_told = |line: &Value| line["message"].as_str().unwrap().contains("oh no");
    assert!(log.iter().any(is_told), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_logs_and_prints_is_in_its_log() {
    let host = TestHost::start().await;
    if !with_probe(&host, &["logs", "system"], "").await {
        return;
    }
    let answer = call(&host, "logs", "x").await.assert_status(200);
    let log = log_of(&host, &answer).await;
    let mut lines: Vec<_> = log
        .iter()
        .map(|line| {
            (
                line["level"].as_str().unwrap(),
                line["message"].as_str().unwrap(),
            )
        })
        .collect();
    lines.sort_unstable();
    let expected = [
        ("debug", "debug x"),
        ("error", "error x"),
        ("info", "info x"),
        ("trace", "trace x"),
        ("warn", "warn x"),
    ];
    assert_eq!(lines, expected);

    let answer = call(&host, "system", "").await.assert_status(200);
    let log = log_of(&host, &answer).await;
    for (level, message) in [
        ("info", "to standard output"),
        ("warn", "to standard error"),
    ] {
        let is_there = |line: &Value| line["level"] == level && line["message"] == message;
        assert!(log.iter().any(is_there), "{log:?}");
    }
    let found: Value = answer.json();
    let expected = json!({
        "time": true, "random": true,
        "arguments": false, "environment": false, "files": false, "a file": false, "new files": false,
    });
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_adds_a_secret_to_requests_of_a_module() {
    const SECRET: &str = "sk_live_extism";
    let remote = Remote::start().await;
    let allowed = vec![remote.address];
    let host = TestHost::build()
        .with(|config| config.services.outbound.allow_private = allowed)
        .start()
        .await;
    let address = remote.address;
    let capabilities = format!(
        "[capabilities]\nhttp = [{{ host = \"{address}\" }}]\n\
         secrets = [{{ label = \"stripe\", use = \"inject\", host = \"{address}\", header = \"authorization\", \
         prefix = \"Bearer \" }}]\n"
    );
    if !with_probe(&host, &["fetch"], &capabilities).await {
        return;
    }
    host.admin().set_secret("probe", "stripe", SECRET).await;
    let answer = call(&host, "fetch", &format!("POST {}", remote.url("/pay"))).await;
    let text = answer.assert_status(200).text();
    assert!(
        text.starts_with("200 ") && text.ends_with("hello from afar"),
        "{text}"
    );
    let head = remote.heads().pop().unwrap();
    assert!(
        head.contains(&format!("authorization: bearer {SECRET}")),
        "{head}"
    );
    assert!(
        head.starts_with("post /pay") && head.contains("x-from: extism"),
        "{head}"
    );
    assert!(!text.contains(SECRET), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_given_what_the_host_knows_and_no_credentials() {
    let Some(module) = guests::extism_probe() else {
        return;
    };
    let host = TestHost::start().await;
    let text = "schema = 1\n[plugin]\nname = \"probe\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                [extism]\nhandler = \"handle\"\n\
                [[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"/orders/{id}\"\nauth = \"optional\"\n";
    host.deploy(text, module).await;
    let ann = host.user("ann@example.com", &[]).await;
    let request = ann
        .request(Method::POST, "/probe/orders/7%208?a=1&b=%20")
        .header("x-custom", "1")
        .header("x-custom", "2")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body("some text");
    let answer = ann.send(request).await.assert_status(200);
    let id = answer.header("x-request-id").unwrap().to_owned();
    let record: Value = answer.json();
    for (pointer, expected) in [
        ("/method", json!("POST")),
        ("/path", json!("/orders/7%208")),
        ("/query", json!("a=1&b=%20")),
        ("/route", json!("/orders/{id}")),
        ("/params", json!({ "id": "7 8" })),
        ("/headers/x-custom", json!("1, 2")),
        ("/headers/cookie", json!("a=1; b=2")),
        ("/body", json!("some text")),
        ("/request_id", json!(id)),
        ("/client_address", json!("127.0.0.1")),
        ("/principal/kind", json!("user")),
        ("/principal/name", json!("ann@example.com")),
    ] {
        assert_eq!(
            record.pointer(pointer),
            Some(&expected),
            "{pointer}: {record}"
        );
    }
    assert_eq!(record.pointer("/headers/authorization"), None);
    assert_eq!(record.get("body_base64"), None);

    let request = host
        .request(Method::POST, "/probe/orders/1")
        .body(vec![0u8, 255]);
    let record: Value = host.send(request).await.assert_status(200).json();
    assert_eq!(record["body_base64"], "AP8=");
    assert_eq!(
        (record.get("body"), &record["principal"]),
        (None, &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_takes_over_from_a_component_and_back() {
    let Some(module) = guests::extism_probe() else {
        return;
    };
    let host = TestHost::start().await;
    host.deploy(&crate::manifests::open("probe"), guests::guest("hello-v1"))
        .await;
    host.deploy(&manifest("probe", &["echo"], ""), module).await;
    assert_eq!(call(&host, "echo", "module").await.text(), "module");
    let plugin: Value = host
        .admin()
        .get("/_gantry/api/v1/plugins/probe")
        .await
        .assert_status(200)
        .json();
    assert_eq!(plugin["entry"], "extism");
    host.roll_back("probe").await.unwrap();
    host.get("/probe/").await.assert_status(200);
    assert_ne!(call(&host, "echo", "module").await.text(), "module");
}
