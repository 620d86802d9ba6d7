//! Key-value stores, used by the example `kv-counter`.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use gantry::plugins::GrantMode;
use gantry_harness::{Client, TestHost, guests, guests::guest};
use serde_json::{Value, json};

use crate::manifests;

/// The example's manifest for a plugin of another name.
fn named(name: &str) -> String {
    let path = guests::root().join("examples/kv-counter/plugin.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.replace("name = \"kv-counter\"", &format!("name = \"{name}\""));
    text.replace(
        "../../target/wasm32-wasip2/guest/kv_counter.wasm",
        "plugin.wasm",
    )
}

async fn visit(client: &Client, plugin: &str, page: &str) -> i64 {
    let answer = client
        .post(&format!("/{plugin}/pages/{page}/visits"), &json!(null))
        .await;
    answer.assert_status(200).json::<Value>()["visits"]
        .as_i64()
        .unwrap()
}

async fn pages(client: &Client, plugin: &str) -> Value {
    client
        .get(&format!("/{plugin}/pages"))
        .await
        .assert_status(200)
        .json()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_many_at_once_lose_nothing_and_survive_a_restart() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/kv-counter", "/counter").await;
    let clients = (0..8).map(|_| async {
        let mut counts = Vec::new();
        for _ in 0..25 {
            counts.push(visit(&host, "counter", "home").await);
        }
        counts
    });
    let counts: BTreeSet<i64> = join_all(clients).await.into_iter().flatten().collect();
    assert_eq!(counts, (1..=200).collect(), "each count was answered once");
    assert_eq!(
        pages(&host, "counter").await,
        json!([{ "page": "home", "visits": 200 }])
    );
    let host = host.restart().await;
    assert_eq!(visit(&host, "counter", "home").await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_belongs_to_one_plugin_whatever_its_label_and_stays_with_it_through_versions() {
    let host = TestHost::start().await;
    let component = guests::component("kv-counter");
    for name in ["ann", "bob"] {
        host.deploy(&named(name), component.clone()).await;
    }
    visit(&host, "ann", "home").await;
    assert_eq!(pages(&host, "bob").await, json!([]));
    assert_eq!(visit(&host, "bob", "home").await, 1);
    host.deploy(&named("ann"), component.clone()).await;
    assert_eq!(
        visit(&host, "ann", "home").await,
        2,
        "a new version finds what the old one left"
    );
    let ann = "ann".parse().unwrap();
    host.plugins().remove(&ann, true, "test").await.unwrap();
    host.deploy(&named("ann"), component).await;
    assert_eq!(
        pages(&host, "ann").await,
        json!([]),
        "what was removed with its data is gone"
    );
    assert_eq!(visit(&host, "bob", "home").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_is_taken_back_works_from_the_next_request_on() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/kv-counter", "/counter").await;
    visit(&host, "counter", "home").await;
    let plugin = "kv-counter".parse().unwrap();
    let before = host.plugins().store().grants(&plugin).await.unwrap();
    host.plugins()
        .set_grants(&plugin, &Default::default(), "test")
        .await
        .unwrap();
    let refused = host.get("/counter/pages").await;
    refused.assert_problem(502, "capability.not_granted");
    host.plugins()
        .set_grants(&plugin, &before, "test")
        .await
        .unwrap();
    assert_eq!(visit(&host, "counter", "home").await, 2);
}

/// A component that knows only the standards uses the same stores.
#[tokio::test(flavor = "multi_thread")]
async fn the_standard_keyvalue_is_the_same_store_under_the_same_grants() {
    let host = TestHost::start().await;
    let manifest = manifests::with(
        "keyvalue-02",
        "[capabilities]\nkv = [\"main\"]\n[limits]\ncpu = \"5s\"\n\
         [config]\ntype = \"object\"\nproperties.greeting = { type = \"string\", default = \"hello\" }",
    );
    host.deploy(&manifest, guest("keyvalue-02")).await;
    for (path, expected) in [
        ("one", "Some(\"1\") true (None, false)"),
        ("count", "5 true"),
        (
            "many",
            "[Some((\"y\", Some(\"y\"))), None, Some((\"x\", Some(\"x\")))] true",
        ),
        ("pages", "2501 3 true true"),
        ("open/main", "opened"),
        ("open/other", "Error::AccessDenied"),
        ("config", "Ok(Some(\"hello\"))"),
    ] {
        let answer = host.get(&format!("/keyvalue-02/{path}")).await;
        assert_eq!(answer.assert_status(200).text(), expected, "{path}");
    }
    host.app().logs.flush().await;
    let admin = host.admin();
    let log = admin.get("/_gantry/api/v1/plugins/keyvalue-02/logs").await;
    assert!(log.text().contains("AccessDenied"), "{}", log.text());

    let without = manifests::open("without");
    let error = host
        .try_deploy(&without, guest("keyvalue-02"), GrantMode::AllAsked)
        .await;
    let error = format!("{:?}", error.unwrap_err());
    assert!(error.contains("wasi:keyvalue/store"), "{error}");
}
