//! Filters stand before files as before every route.

use gantry::plugins::GrantMode;
use gantry::plugins::filters::{OnFailure, OperatorFilter};
use gantry_harness::{TestHost, guests::guest, pack};
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
async fn filters_see_the_heads_of_files() {
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
    host.stop().await;
}

/// A filter that shouts answers, and so is handed their bodies.
const SHOUT: &str = "schema = 1\n[plugin]\nname = \"shout\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                     [filter]\nresponse_body_max = \"1KiB\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_deployment_puts_a_filter_that_wants_bodies_before_files() {
    let host = TestHost::start().await;
    let around = "{ use = \"plugin:shout\", on_failure = \"closed\" }";
    host.deploy(SHOUT, guest("filter-shout")).await;
    let refused = host
        .try_deploy(&manifest(around), guest("hello-v1"), GrantMode::AllAsked)
        .await;
    let told = format!("{:?}", refused.unwrap_err());
    assert!(told.contains("wants to see bodies"), "{told}");
    assert!(told.contains("line: "), "it says where: {told}");
    host.get("/gallery/papers")
        .await
        .assert_problem(404, "route.not_found");

    // Routes of the same plugin may have it.
    let own = manifest("").replacen(
        "auth = \"public\"",
        &format!("auth = \"public\"\nfilters = [{around}]"),
        1,
    );
    host.deploy(&own, guest("hello-v1")).await;
    host.get("/gallery/papers").await.assert_status(200);

    // Nor does a filter become one that does.
    let meek = filter("meek", "");
    let loud = filter("meek", "[filter]\nresponse_body_max = \"1KiB\"\n");
    host.deploy(&meek, guest("filter-mark")).await;
    let around = around.replace("shout", "meek");
    host.deploy(&manifest(&around), guest("hello-v1")).await;
    let bundle = pack(&loud, &guest("filter-mark"), &[]);
    let refused = host.admin().upload("grant=all", bundle).await;
    let told = refused
        .assert_problem(409, "deploy.files_behind_filter")
        .text();
    assert!(
        told.contains("`meek`") && told.contains("`gallery`"),
        "{told}"
    );
    host.get("/gallery/papers").await.assert_status(200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_put_one_before_files_keep_the_files_closed() {
    let host = TestHost::start().await;
    let ann = host.user("ann@example.com", &[]).await;
    host.deploy(SHOUT, guest("filter-shout")).await;
    host.deploy(&manifest(""), guest("hello-v1")).await;
    let url = sent(&ann, "/gallery/papers", "text/plain", "x").await;
    let host = host
        .restart_as(|config| {
            config.plugins.filters = vec![OperatorFilter {
                filter: "plugin:shout".to_owned(),
                on_failure: Some(OnFailure::Closed),
                ..OperatorFilter::default()
            }];
        })
        .await;
    let ann = ann.at(&host);
    host.get(&url)
        .await
        .assert_problem(501, "filter.files_flow");
    let refused = send(&ann, "/gallery/papers", "text/plain", "x").await;
    refused.assert_problem(501, "filter.files_flow");
    // Nothing more with files comes behind it.
    let other = manifest("").replace("\"gallery\"", "\"more\"");
    let bundle = pack(&other, &guest("hello-v1"), &[]);
    let refused = host.admin().upload("grant=all", bundle).await;
    refused.assert_problem(409, "deploy.files_behind_filter");
    let host = host
        .restart_as(|config| config.plugins.filters.clear())
        .await;
    let page: Value = host.get("/gallery/papers").await.assert_status(200).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    host.stop().await;
}
