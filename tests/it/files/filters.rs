//! Filters stand before files as before every route.

use gantry_harness::{TestHost, guests::guest};
use serde_json::Value;

use super::{HEAD, noise, send, sent};

const FILES: &str = "[capabilities]\nblobs = [\"papers\", \"more\"]\n\
                     [[files]]\npath = \"/turned-back\"\nbucket = \"more\"\nread = { auth = \"public\" }\n\
                     [[files]]\npath = \"/papers\"\nbucket = \"papers\"\n\
                     read = { auth = \"public\" }\n";

fn manifest(around: &str) -> String {
    format!(
        "{}{FILES}",
        HEAD.replacen(
            "schema = 1",
            &format!("schema = 1\nfilters = [{around}]"),
            1
        )
    )
}

fn filter(name: &str, more: &str) -> String {
    format!(
        "schema = 1\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n{more}\n\
         [config.properties.mark]\ntype = \"string\"\ndefault = \"{name}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_see_the_heads_of_files_and_one_that_wants_bodies_stands_in_their_way() {
    let host = TestHost::start().await;
    let ann = host.user("ann@example.com", &[]).await;
    host.deploy(&filter("mark", ""), guest("filter-mark")).await;
    let around = "{ use = \"headers\", response = { set = { x-rule = \"out\" } } }, \
                  { use = \"body-limit\", body_bytes_max = \"1MiB\" }, \
                  { use = \"plugin:mark\", on_failure = \"closed\" }";
    host.deploy(&manifest(around), guest("hello-v1")).await;
    let bytes = noise(900 << 10);
    let url = sent(
        &ann,
        "/gallery/papers",
        "application/octet-stream",
        bytes.clone(),
    )
    .await;
    let got = host.get(&url).await.assert_status(200);
    assert!(got.body == bytes);
    assert_eq!(got.header("x-rule"), Some("out"));
    assert_eq!(got.header("x-out"), Some("<mark"));
    // The connection of a body that is refused is closed.
    let large = send(
        &ann.on_a_connection_of_its_own(),
        "/gallery/papers",
        "application/octet-stream",
        noise(2 << 20),
    )
    .await;
    large.assert_problem(413, "request.body_too_large");
    let back = host.get("/gallery/turned-back").await.assert_status(200);
    assert_eq!(back.text(), "turned back by mark");

    let shout = "schema = 1\n[plugin]\nname = \"shout\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                 [filter]\nresponse_body_max = \"1KiB\"\n";
    host.deploy(shout, guest("filter-shout")).await;
    let around = "{ use = \"plugin:shout\", on_failure = \"closed\" }";
    host.deploy(&manifest(around), guest("hello-v1")).await;
    host.get(&url)
        .await
        .assert_problem(501, "filter.files_flow");
    let refused = send(&ann, "/gallery/papers", "text/plain", "x").await;
    refused.assert_problem(501, "filter.files_flow");
    host.deploy(&manifest(""), guest("hello-v1")).await;
    let page: Value = host.get("/gallery/papers").await.assert_status(200).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    host.get(&url).await.assert_status(200);
    host.stop().await;
}
