//! Answers that are thrown away before their time.

use serde_json::{Value, json};

use super::*;

async fn purge(client: &Client, what: Value) -> u64 {
    let answer = client.post("/_gantry/api/v1/cache/purge", &what).await;
    answer.assert_status(200).json::<Value>()["entries"]
        .as_u64()
        .unwrap()
}

async fn is_kept(host: &TestHost, path: &str) -> bool {
    let answer = host.get(path).await.assert_status(200);
    status(&answer).contains("hit")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_throws_away_by_tag_route_path_and_plugin() {
    let host = counted("{ ttl = \"60s\", tags = [\"all\"] }").await;
    let admin = host.admin();
    let paths = [
        "/counted/items/7",
        "/counted/items/7?page=2",
        "/counted/items/8?headers=cache-tag:dear,%20red",
        "/counted/else?headers=cache-tag:red",
    ];
    for (what, thrown) in [
        (json!({ "tag": "red" }), &[2, 3][..]),
        (json!({ "tag": "dear" }), &[2]),
        (json!({ "tag": "green" }), &[]),
        (json!({ "tag": "all" }), &[0, 1, 2, 3]),
        (json!({ "route": "/items/{id}" }), &[0, 1, 2]),
        (json!({ "path": "/counted/items/7" }), &[0, 1]),
        (json!({}), &[0, 1, 2, 3]),
    ] {
        for path in paths {
            host.get(path).await.assert_status(200);
            assert!(is_kept(&host, path).await, "{path}");
        }
        let mut what = what;
        what["plugin"] = "counted".into();
        assert_eq!(
            purge(&admin, what.clone()).await,
            thrown.len() as u64,
            "{what}"
        );
        for (index, path) in paths.iter().enumerate() {
            assert_eq!(
                is_kept(&host, path).await,
                !thrown.contains(&index),
                "{what} {path}"
            );
        }
    }
    let answer = host.get(paths[2]).await;
    assert_eq!(answer.header("cache-tag"), None, "tags are the host's");
    let shown: Value = admin
        .get("/_gantry/api/v1/cache")
        .await
        .assert_status(200)
        .json();
    assert_eq!(shown["plugins"][0]["plugin"], "counted", "{shown}");
    assert_eq!(shown["plugins"][0]["entries"], 4, "{shown}");
    for (what, status, code) in [
        (
            json!({ "plugin": "counted", "tag": "a b" }),
            422,
            "cache.purge_invalid",
        ),
        (
            json!({ "plugin": "counted", "tag": "a", "path": "/" }),
            422,
            "cache.purge_invalid",
        ),
        (json!({ "plugin": "nobody" }), 404, "plugin.not_found"),
    ] {
        let answer = admin.post("/_gantry/api/v1/cache/purge", &what).await;
        answer.assert_problem(status, code);
    }
    let what = json!({ "plugin": "counted" });
    host.post("/_gantry/api/v1/cache/purge", &what)
        .await
        .assert_problem(401, "auth.required");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_something_does_not_get_what_was_there_before() {
    let host = counted("{ ttl = \"60s\" }").await;
    let first = host.get("/counted/items/7?page=2").await.text();
    host.get("/counted/items/8").await;
    let failed = host
        .post("/counted/items/7?fail=conflict", &json!(null))
        .await;
    assert_eq!(status(&failed.assert_status(409)), "gantry; fwd=method");
    assert!(
        is_kept(&host, "/counted/items/7?page=2").await,
        "nothing was changed"
    );
    host.post("/counted/items/7", &json!(null))
        .await
        .assert_status(200);
    let second = host.get("/counted/items/7?page=2").await;
    assert_ne!(second.text(), first);
    assert!(is_kept(&host, "/counted/items/8").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_has_the_parameters_of_the_path() {
    let host = TestHost::start().await;
    let manifest = manifest("counted", "public", "{ ttl = \"60s\", tags = [\"t\"] }");
    let manifest = manifest.replacen("tags = [\"t\"]", "tags = [\"item:{id}\"]", 1);
    host.deploy(&manifest, guest("counted")).await;
    for path in ["/counted/items/7", "/counted/items/8"] {
        host.get(path).await;
    }
    let what = json!({ "plugin": "counted", "tag": "item:7" });
    assert_eq!(purge(&host.admin(), what).await, 1);
    assert!(!is_kept(&host, "/counted/items/7").await);
    assert!(is_kept(&host, "/counted/items/8").await);
    // What makes no tag cannot be thrown away by one, and so is not kept.
    host.get("/counted/items/a,b").await;
    let answer = host.get("/counted/items/a,b").await;
    assert_eq!(status(&answer), "gantry; fwd=uri-miss; detail=tags");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_made_while_it_is_thrown_away_is_not_kept() {
    let host = counted("{ ttl = \"60s\" }").await;
    let slow = host.get("/counted/a?ms=3000");
    let purge = async {
        host.until_in_progress(1).await;
        purge(
            &host.admin(),
            json!({ "plugin": "counted", "path": "/counted/a" }),
        )
        .await
    };
    let (answer, _) = tokio::join!(slow, purge);
    assert_eq!(status(&answer), "gantry; fwd=uri-miss; detail=purged");
    assert!(!is_kept(&host, "/counted/a?ms=3000").await);
    assert!(is_kept(&host, "/counted/a?ms=3000").await);
}
