//! Values that are kept for a while, used by the example `cache-rates`.

use gantry::plugins::GrantMode;
use gantry_harness::{TestHost, guests};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_costly_is_made_once_until_its_tag_is_purged_and_answers_go_with_it() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/cache-rates", "/rates").await;
    let convert = async || {
        let answer = host.get("/rates/convert/EUR?amount=10").await;
        answer.assert_status(200).json::<Value>()
    };
    assert_eq!(convert().await, json!({ "amount": 11.0, "asked": 1 }));
    assert_eq!(convert().await["asked"], 1);
    for way in ["gantry; fwd=uri-miss; stored", "gantry; hit; ttl=59"] {
        let answer = host.get("/rates/rates/EUR").await.assert_status(200);
        let told = answer.header("cache-status").unwrap();
        assert!(
            told == way || told.starts_with("gantry; hit") == way.contains("hit"),
            "{told}"
        );
    }
    let thrown = host
        .post("/rates/rates", &json!(null))
        .await
        .assert_status(200);
    assert_eq!(thrown.json::<Value>(), json!({ "thrown_away": 2 }));
    let answer = host.get("/rates/rates/EUR").await.assert_status(200);
    assert_eq!(
        answer.header("cache-status"),
        Some("gantry; fwd=uri-miss; stored")
    );
    assert_eq!(convert().await["asked"], 2);
    let forgotten = host.delete("/rates/rates").await.assert_status(200);
    assert_eq!(forgotten.json::<Value>(), json!({ "thrown_away": 2 }));
    assert_eq!(convert().await["asked"], 3);
    let used = host
        .admin()
        .get("/_gantry/api/v1/plugins/cache-rates/usage")
        .await
        .text();
    assert!(used.contains("\"cache\""), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_without_the_grant_cannot_open_the_cache() {
    let host = TestHost::start().await;
    host.deploy_folder("examples/cache-rates", "/rates").await;
    let plugin = "cache-rates".parse().unwrap();
    host.plugins()
        .set_grants(&plugin, &Default::default(), "test")
        .await
        .unwrap();
    let refused = host.get("/rates/convert/EUR?amount=10").await;
    refused.assert_problem(502, "capability.not_granted");

    let manifest =
        std::fs::read_to_string(guests::root().join("examples/cache-rates/plugin.toml")).unwrap();
    let manifest = manifest.replace("cache = [\"rates\"]\n", "").replace(
        "../../target/wasm32-wasip2/guest/cache_rates.wasm",
        "plugin.wasm",
    );
    let error = host
        .try_deploy(
            &manifest,
            guests::component("cache-rates"),
            GrantMode::AllAsked,
        )
        .await;
    let error = format!("{:?}", error.unwrap_err());
    assert!(error.contains("gantry:cache/store"), "{error}");
}
