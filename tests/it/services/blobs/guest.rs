//! Files, used by a plugin.

use gantry::plugins::GrantMode;
use gantry_harness::{TestHost, guests::guest};
use serde_json::{Value, json};

use crate::manifests;

const MORE: &str =
    "[capabilities]\nblobs = [\"data\", \"other\"]\n[limits]\ncpu = \"5s\"\nwall = \"20s\"";

async fn host() -> TestHost {
    let host = TestHost::start().await;
    for name in ["ann", "bob"] {
        let manifest = manifests::with(name, MORE);
        host.deploy(&manifest, guest("blobs-abuse")).await;
    }
    host
}

async fn ask(host: &TestHost, path: &str, body: &str) -> Value {
    let request = host.request(http::Method::POST, path).body(body.to_owned());
    let answer = host.send(request).await;
    answer.assert_status(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_keeps_files_finds_them_again_after_a_restart_and_nobody_elses() {
    let host = host().await;
    let kept = ask(&host, "/ann/described?kind=text/plain&name=a/b", "hello").await;
    let kept = kept["ok"].clone();
    assert_eq!(kept["size"], 5);
    assert_eq!(
        kept["sha256"],
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    );
    assert_eq!(
        (&kept["type"], &kept["owner"]),
        (&json!("text/plain"), &json!("ann"))
    );
    assert_eq!(kept["metadata"], json!({ "alt": "a picture" }));
    let host = host.restart().await;
    assert_eq!(ask(&host, "/ann/get?name=a/b", "").await["ok"], "hello");
    assert_eq!(ask(&host, "/ann/info?name=a/b", "").await["ok"], kept);
    assert_eq!(ask(&host, "/bob/get?name=a/b", "").await["ok"], Value::Null);
    assert_eq!(
        ask(&host, "/ann/get?name=a/b&label=other", "").await["ok"],
        Value::Null
    );
    for (path, code) in [
        ("/ann/first?name=a/b", "blobs.changed"),
        ("/ann/put?name=a/b&etag=0000", "blobs.changed"),
        ("/ann/delete?name=a/b&etag=0000", "blobs.changed"),
        ("/ann/put?name=a/b&kind=image/png", "blobs.type_mismatch"),
        ("/ann/put?name=..", "blobs.name_invalid"),
        ("/ann/cursor", "blobs.cursor_invalid"),
        ("/ann/list?count=0", "blobs.page_size_invalid"),
        ("/ann/long-link", "blobs.link_ttl_invalid"),
        ("/ann/get?label=letters", "capability.not_granted"),
    ] {
        assert_eq!(
            ask(&host, path, "hello again").await["code"],
            code,
            "{path}"
        );
    }
    assert_eq!(
        ask(&host, "/ann/get?name=a/b", "").await["ok"],
        "hello",
        "none of these changed it"
    );
    let etag = kept["etag"].as_str().unwrap();
    let replaced = ask(
        &host,
        &format!("/ann/put?name=a/b&etag={etag}"),
        "hello again",
    )
    .await;
    assert_ne!(replaced["ok"]["etag"], etag);
    let listed = ask(&host, "/ann/list?name=a&count=10", "").await["ok"].clone();
    assert_eq!(listed, json!({ "names": ["a/b"], "more": false }));

    // In pieces, of which there are many.
    let long = ask(&host, "/ann/stream?name=long&bytes=300000&count=10", "").await;
    assert_eq!(long["ok"]["size"], 3_000_000);
    assert_eq!(
        ask(&host, "/ann/read?name=long&at=2999999&bytes=10", "").await["ok"],
        1
    );
    assert_eq!(
        ask(&host, "/ann/read?name=long&at=3000000&bytes=10", "").await["ok"],
        0
    );
    assert_eq!(
        ask(&host, "/ann/forget?name=half&bytes=100", "").await["ok"],
        "dropped"
    );
    assert_eq!(
        ask(&host, "/ann/info?name=half", "").await["ok"],
        Value::Null
    );
    for (bytes, code) in [(9, "blobs.length_mismatch"), (11, "blobs.length_mismatch")] {
        let lie = ask(
            &host,
            &format!("/ann/lie?name=half&count=10&bytes={bytes}"),
            "",
        )
        .await;
        assert_eq!(lie["code"], code);
    }
    assert_eq!(ask(&host, "/ann/delete?name=long", "").await["ok"], true);
    assert_eq!(ask(&host, "/ann/delete?name=long", "").await["ok"], false);
    let used = host
        .admin()
        .get("/_gantry/api/v1/plugins/ann/usage")
        .await
        .text();
    assert!(used.contains("\"blobs\""), "{used}");
    let metrics = host.admin().get("/metrics").await.text();
    assert!(metrics.contains("gantry_blobs_bytes_total"), "{metrics}");

    // Links are paths of this host, for this plugin.
    let link = ask(&host, "/ann/link?name=a/b", "").await["ok"].clone();
    let link = link.as_str().unwrap().to_owned();
    assert!(
        link.starts_with("/_gantry/blobs/ann/data/a/b?access=GET&expires="),
        "{link}"
    );

    // What is removed with its data is gone, also for the next plugin of this name.
    let ann = "ann".parse().unwrap();
    host.plugins().remove(&ann, true, "test").await.unwrap();
    host.deploy(&manifests::with("ann", MORE), guest("blobs-abuse"))
        .await;
    assert_eq!(ask(&host, "/ann/get?name=a/b", "").await["ok"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_without_the_grant_cannot_open_the_bucket() {
    let host = host().await;
    let ann = "ann".parse().unwrap();
    let none = Default::default();
    host.plugins()
        .set_grants(&ann, &none, "test")
        .await
        .unwrap();
    let refused = ask(&host, "/ann/put", "hello").await;
    assert_eq!(refused["code"], "capability.not_granted");
    assert_eq!(ask(&host, "/bob/put", "hello").await["ok"]["size"], 5);

    let manifest = manifests::with("eve", "");
    let error = host
        .try_deploy(&manifest, guest("blobs-abuse"), GrantMode::AllAsked)
        .await;
    let error = format!("{:?}", error.unwrap_err());
    assert!(error.contains("gantry:blobs/store"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_the_example_are_there_when_they_are_whole() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/blobs-reports", "/r").await;
    let written = host.post("/r/reports/may?rows=2000", &json!(null)).await;
    let written: Value = written.assert_status(201).json();
    assert_eq!(written["content_type"], "text/csv");
    let listed: Value = host.get("/r/reports").await.assert_status(200).json();
    assert_eq!(listed, json!([written]));
    host.get("/r/reports/may/link").await.assert_status(200);
    host.delete("/r/reports/may").await.assert_status(204);
    host.get("/r/reports/may/link").await.assert_status(404);
}
