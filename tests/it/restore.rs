//! An instance that was put back is an instance like new: no request finds anything of an earlier one.

use gantry_harness::{TestHost, guests::guest};
use serde_json::{Value, json};

use crate::manifests;

/// What the hoarder finds in each of a row of calls, each with a token of its own, when it looks for the token before.
async fn hoard(host: &TestHost) -> Vec<Value> {
    let mut found = Vec::new();
    for call in 0..50_u32 {
        let token = |call: u32| format!("token-{call:05}-of-somebody");
        let wanted: Vec<u8> = token(call.saturating_sub(1)).bytes().map(|b| !b).collect();
        let ask = json!({ "token": token(call), "wanted": wanted });
        let answer = host.post("/hoarder/", &ask).await.assert_status(200);
        let answer: Value = answer.json();
        if call > 0 {
            assert_eq!(answer["in_memory"], 0, "call {call}: {answer}");
            assert_eq!(answer["first"], token(call), "call {call}");
        }
        found.push(json!({ "calls": answer["calls"], "kept": answer["kept"] }));
    }
    found
}

async fn reused(host: &TestHost) -> u64 {
    let text = host.admin().get("/metrics").await.assert_status(200).text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("gantry_instances_reused_total "))
        .unwrap();
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hoards_finds_nothing_of_earlier_requests() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("hoarder"), guest("hoarder"))
        .await;
    let found = hoard(&host).await;
    assert!(reused(&host).await >= 40, "the instance was kept");

    let without = TestHost::build()
        .with(|config| config.runtime.kept_instances_max = 0)
        .start()
        .await;
    without
        .deploy(&manifests::open("hoarder"), guest("hoarder"))
        .await;
    let expected = hoard(&without).await;
    assert_eq!(reused(&without).await, 0);
    assert_eq!(found, expected, "as if each instance were new");
    assert!(
        expected
            .iter()
            .all(|found| *found == json!({ "calls": 1, "kept": 0 }))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_trapped_is_not_used_again() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("panic"), guest("panic")).await;
    for _ in 0..5 {
        host.get("/panic/")
            .await
            .assert_problem(502, "plugin.trapped");
    }
    assert_eq!(reused(&host).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_memory_grew_is_not_used_again() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let body = json!({ "text": "x".repeat(500_000) });
    for _ in 0..5 {
        host.post("/echo/raw", &body).await.assert_status(200);
    }
    assert_eq!(reused(&host).await, 0);
    host.post("/echo/raw", &json!({})).await.assert_status(200);
    host.post("/echo/raw", &json!({})).await.assert_status(200);
    assert_eq!(reused(&host).await, 1, "the one before had not grown");
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_have_the_numbers_that_they_have_in_a_new_instance() {
    let host = TestHost::start().await;
    let manifest = manifests::with("handles", "[capabilities]\nkv = [\"state\"]");
    host.deploy(&manifest, guest("handles")).await;
    let ask = async |query: &str| -> (Vec<u32>, u64) {
        let before = reused(&host).await;
        let answer = host.get(&format!("/handles/?{query}")).await;
        let numbers = answer.assert_status(200).json();
        (numbers, reused(&host).await - before)
    };
    let (new, _) = ask("open=3").await;
    // What is let go of last first, is found again in the same order.
    for closed in ["open=3&close=210", "open=0", "open=1&close=0"] {
        ask(closed).await;
        assert_eq!(ask("open=3&close=210").await, (new.clone(), 1), "{closed}");
    }
    // Any other order could be told from the numbers.
    for left in [
        "open=3&close=000",
        "open=3&close=100",
        "open=2&forget=1",
        "open=1&forget=1",
    ] {
        ask(left).await;
        assert_eq!(ask("open=3&close=210").await, (new.clone(), 0), "{left}");
    }
}
