//! Plugins as they were built and packed for each release, on today's host: what was deployed once must keep running.
//! `tests/golden` says how they were made.

use bytes::Bytes;
use gantry_harness::{Client, TestHost, guests};
use http::Method;
use serde_json::{Value, json};

/// The releases whose plugins must run. None goes before its major version does.
fn releases() -> Vec<String> {
    let entries = std::fs::read_dir(guests::root().join("tests/golden")).unwrap();
    let folders = entries.map(Result::unwrap);
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    let releases: Vec<String> = names
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    assert!(!releases.is_empty(), "this test looks in the wrong place");
    releases
}

/// A host with a plugin of this release, uploaded as an operator does.
async fn with_plugin(release: &str, name: &str) -> TestHost {
    let host = TestHost::start().await;
    let path = format!("tests/golden/{release}/{name}.gantry");
    let bundle = std::fs::read(guests::root().join(&path));
    let bundle: Bytes = bundle
        .unwrap_or_else(|error| panic!("{path}: {error}"))
        .into();
    host.admin()
        .upload("grant=all", bundle)
        .await
        .assert_status(201);
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_every_release_still_answer() {
    for release in releases() {
        let host = with_plugin(&release, "hello").await;
        let answer = host.get("/hello/hello/Ann").await.assert_status(200);
        assert_eq!(answer.text(), "Hello, Ann!");
        host.get("/hello/hello")
            .await
            .assert_problem(404, "route.not_found");
        host.stop().await;

        let host = with_plugin(&release, "kv-counter").await;
        let visits = "/kv-counter/pages/home/visits";
        for count in 1..=2 {
            let answer = host.post(visits, &json!(null)).await.assert_status(200);
            assert_eq!(answer.json::<Value>()["visits"], count);
        }
        host.delete("/kv-counter/pages/home")
            .await
            .assert_problem(401, "auth.required");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transformations_of_every_release_still_answer() {
    for release in releases() {
        let host = with_plugin(&release, "transform-csv").await;
        let rows = json!([{ "name": "Ann", "n": 1 }]);
        let csv = "/transform-csv/csv?columns=name,n";
        let answer = host.post(csv, &rows).await.assert_status(200);
        assert_eq!(answer.text(), "name,n\r\nAnn,1\r\n");
        let answer = host
            .post("/transform-csv/csv", &json!({ "no": "list" }))
            .await;
        assert_eq!(answer.code(), "transform.invalid_input");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_the_standards_of_every_release_still_answer() {
    for release in releases() {
        let host = with_plugin(&release, "wasi-http").await;
        let answer = post(&host, "/wasi-http/upload", "some text").await;
        assert_eq!(answer, "You asked for /upload with 9 bytes\n");
        host.stop().await;

        let host = with_plugin(&release, "wasi-http-03").await;
        assert_eq!(
            post(&host, "/wasi-http-03/x", "some text").await,
            "SOME TEXT"
        );
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_of_every_release_finds_every_service_as_it_was() {
    for release in releases() {
        // Its tests are run as it is deployed: there, another server answers.
        let host = with_plugin(&release, "all-services").await;
        host.admin()
            .set_secret("all-services", "key", "sesame")
            .await;
        for (method, path, told) in [
            (Method::GET, "config", json!({ "motto": "keep it" })),
            (
                Method::GET,
                "context",
                json!({ "trigger": "http", "route": "/context", "has_id": true, "has_time": true }),
            ),
            (Method::GET, "identity", json!({ "kind": null })),
            (Method::POST, "kv", json!({ "visits": 1 })),
            (Method::POST, "kv", json!({ "visits": 2 })),
            (Method::GET, "log", json!({ "told": true })),
            (Method::GET, "secrets", json!({ "key": "sesame" })),
            // The first was written by its hook when it was deployed.
            (
                Method::POST,
                "sql",
                json!({ "texts": ["migrated", "asked"] }),
            ),
            (Method::GET, "tokens", json!({ "subject": "ann" })),
        ] {
            let request = host.request(method, &format!("/all-services/{path}"));
            let answer = host.send(request).await.assert_status(200);
            assert_eq!(answer.json::<Value>(), told, "{release}: {path}");
        }
        let user = host.user("ann@example.com", &[]).await;
        let answer = user.get("/all-services/identity").await.assert_status(200);
        assert_eq!(answer.json::<Value>(), json!({ "kind": "user" }));
        host.stop().await;
    }
}

async fn post(client: &Client, path: &str, body: &'static str) -> String {
    let request = client.request(Method::POST, path).body(body);
    client.send(request).await.assert_status(200).text()
}
