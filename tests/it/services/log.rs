//! What plugins log, found again by the id of the request.

use gantry_harness::{TestHost, guests::guest};
use serde_json::Value;

use crate::manifests;

async fn logs(host: &TestHost, query: &str) -> Vec<Value> {
    host.app().logs.flush().await;
    let path = format!("/_gantry/api/v1/plugins/log-flood/logs?{query}");
    let page = host
        .admin()
        .get(&path)
        .await
        .assert_status(200)
        .json::<Value>();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_found_by_the_id_that_the_caller_was_told() {
    let host = TestHost::start().await;
    let deployed = host
        .deploy(&manifests::open("log-flood"), guest("log-flood"))
        .await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = host.get("/log-flood/breaks").await.assert_status(200);
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    for id in &ids {
        let found = logs(&host, &format!("request_id={id}")).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let line = &found[0];
        assert_eq!(
            (&line["level"], &line["request_id"]),
            (&"error".into(), &id.as_str().into())
        );
        assert_eq!(line["deployment"], deployed.deployment.id.to_string());
        assert!(
            line["message"].as_str().unwrap().starts_with("forged"),
            "{line}"
        );
    }
    assert_eq!(logs(&host, "level=error").await.len(), 3);
    assert!(logs(&host, "level=critical").await.is_empty());
    let host = host.restart().await;
    assert_eq!(
        logs(&host, &format!("request_id={}", ids[1])).await.len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_prints_and_why_it_failed_is_in_its_log_under_the_request() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("log-flood"), guest("panic"))
        .await;
    let answer = host
        .get("/log-flood/")
        .await
        .assert_problem(502, "plugin.trapped");
    let id = answer.header("x-request-id").unwrap();
    let found = logs(&host, &format!("request_id={id}")).await;
    let text = Value::from(found).to_string();
    assert!(
        text.contains("panicked at"),
        "the author finds the reason: {text}"
    );
}
