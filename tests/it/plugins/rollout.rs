//! New versions come on little by little, and go away by themselves if they do worse.

use std::time::{Duration, Instant};

use bytes::Bytes;
use gantry::plugins::rollout::Spread;
use gantry_harness::{Answer, Client, Process, TestHost, guests::guest, pack};
use http::Method;
use serde_json::{Value, json};

use crate::manifests;

pub(super) const API: &str = "/_gantry/api/v1";

/// A bundle of `hello` in some version, made of some guest.
pub(super) fn hello(version: &str, name: &str) -> Bytes {
    with(version, name, "")
}

pub(super) fn with(version: &str, name: &str, more: &str) -> Bytes {
    let manifest = manifests::with("hello", more);
    let manifest = manifest.replace("version = \"1.0.0\"", &format!("version = \"{version}\""));
    pack(&manifest, &guest(name), &[])
}

/// A host with `hello` 1.0.0 and a canary of 2.0.0.
async fn with_canary(percent: u32, canary: &str) -> TestHost {
    let host = TestHost::build()
        .with(|config| config.plugins.rollout.spread = Spread::Requests)
        .start()
        .await;
    host.admin()
        .upload("", hello("1.0.0", "hello-v1"))
        .await
        .assert_status(201);
    let query = format!("canary={percent}&note=try+it");
    let answer = host.admin().upload(&query, hello("2.0.0", canary)).await;
    let answer: Value = answer.assert_status(201).json();
    assert_eq!(answer["state"], "canary", "{answer}");
    assert_eq!(answer["weight_percent"], percent, "{answer}");
    host
}

/// How many of so many requests the canary answered.
pub(super) async fn by_canary(client: &Client, requests: usize) -> usize {
    let mut count = 0;
    for _ in 0..requests {
        let answer = client.get("/hello/").await.assert_status(200);
        count += usize::from(answer.header("x-version") == Some("2"));
    }
    count
}

async fn asking_for(client: &Client, version: &str) -> Answer {
    let request = client.request(Method::GET, "/hello/");
    client
        .send(request.header("x-gantry-version", version))
        .await
}

pub(super) async fn status(client: &Client) -> Value {
    let path = format!("{API}/plugins/hello/status");
    client.get(&path).await.assert_status(200).json()
}

/// The history: what, by whom, why. The newest first.
pub(super) async fn history(client: &Client) -> Vec<(String, String, String)> {
    let path = format!("{API}/plugins/hello/history");
    let page: Value = client.get(&path).await.assert_status(200).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            (
                text(&item["kind"]),
                text(&item["by"]),
                text(&item["reason"]),
            )
        })
        .collect()
}

pub(super) async fn post(client: &Client, what: &str, body: Value) -> Answer {
    client
        .post(&format!("{API}/plugins/hello/{what}"), &body)
        .await
}

/// Waits until the host has taken the canary back.
async fn until_taken_back(admin: &Client) {
    let began = Instant::now();
    while status(admin).await["versions"].as_array().unwrap().len() > 1 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{}",
            status(admin).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_answers_its_part_of_the_requests_until_it_is_promoted() {
    let host = with_canary(10, "hello-v2").await;
    let admin = host.admin();
    assert_eq!(by_canary(&host, 100).await, 10);
    let answer = host.get("/hello/").await;
    assert_eq!(answer.header("x-gantry-version"), Some("1.0.0"));
    let told = status(&admin).await;
    let [stable, canary] = &told["versions"].as_array().unwrap()[..] else {
        panic!("{told}")
    };
    let facts = |version: &Value| {
        let requests = version["requests"].as_u64().unwrap();
        (
            version["version"].clone(),
            version["weight_percent"].clone(),
            requests,
        )
    };
    assert_eq!(facts(stable), (json!("1.0.0"), json!(90), 91));
    assert_eq!(facts(canary), (json!("2.0.0"), json!(10), 10));
    assert!(canary["p50_ms"].as_f64().unwrap() > 0.0, "{told}");

    let path = format!("{API}/plugins/hello/canary");
    let more = json!({ "weight_percent": 50, "reason": "it looks well" });
    admin.put(&path, &more).await.assert_status(200);
    assert_eq!(by_canary(&host, 100).await, 50);
    let all = json!({ "weight_percent": 100 });
    admin
        .put(&path, &all)
        .await
        .assert_problem(400, "rollout.weight_invalid");

    let promoted = post(&admin, "promote", json!({ "reason": "it is well" })).await;
    let promoted: Value = promoted.assert_status(200).json();
    assert_eq!(promoted["state"], "live");
    assert_eq!(by_canary(&host, 20).await, 20);
    let answer = host.get("/hello/").await;
    assert_eq!(
        answer.header("x-gantry-version"),
        None,
        "there is no choice any more"
    );
    post(&admin, "promote", json!({}))
        .await
        .assert_problem(404, "rollout.not_found");
    post(&admin, "rollback", json!({ "reason": "it was not" }))
        .await
        .assert_status(200);
    assert_eq!(by_canary(&host, 20).await, 0);

    let who = history(&admin).await;
    let what: Vec<&str> = who.iter().map(|(kind, ..)| &**kind).collect();
    assert_eq!(
        what,
        [
            "rolled-back",
            "promoted",
            "canary-weight",
            "canary-started",
            "deployed"
        ]
    );
    let why: Vec<&str> = who.iter().map(|(.., reason)| &**reason).collect();
    assert_eq!(
        why,
        ["it was not", "it is well", "it looks well", "try it", ""]
    );
    assert!(
        who.iter().all(|(_, by, _)| by.starts_with("gk_")),
        "{who:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_keeps_the_version_it_has_met() {
    let host = TestHost::build()
        .with(|config| {
            let proxies = json!(["127.0.0.1"]);
            config.gateway.trusted_proxies = serde_json::from_value(proxies).unwrap();
        })
        .start()
        .await;
    let admin = host.admin();
    for (query, version, name) in [
        ("", "1.0.0", "hello-v1"),
        ("canary=50", "2.0.0", "hello-v2"),
    ] {
        admin
            .upload(query, hello(version, name))
            .await
            .assert_status(201);
    }
    let by_canary = async |client: &Client, number: u32| {
        let request = client.request(Method::GET, "/hello/");
        let request = request.header("x-forwarded-for", format!("192.0.2.{number}"));
        let answer = client.send(request).await.assert_status(200);
        answer.header("x-version") == Some("2")
    };
    let mut has_canary = Vec::new();
    for number in 0..60 {
        let first = by_canary(&host, number).await;
        assert_eq!(by_canary(&host, number).await, first, "caller {number}");
        has_canary.extend(first.then_some(number));
    }
    assert!((12..48).contains(&has_canary.len()), "{has_canary:?}");
    // A user is the same one everywhere.
    let user = host.user("ann@example.com", &[]).await;
    let first = by_canary(&user, 0).await;
    for number in 1..20 {
        assert_eq!(by_canary(&user, number).await, first);
    }
    let host = host.restart().await;
    let path = format!("{API}/plugins/hello/canary");
    let more = json!({ "weight_percent": 70 });
    let admin = host.admin();
    admin.put(&path, &more).await.assert_status(200);
    for number in has_canary {
        assert!(by_canary(&host, number).await, "caller {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_can_choose_its_version_by_header() {
    let host = with_canary(0, "hello-v2").await;
    assert_eq!(by_canary(&host, 50).await, 0, "nobody else gets it");
    for (wanted, expected) in [
        ("canary", "2"),
        ("2.0.0", "2"),
        ("stable", "1"),
        ("1.0.0", "1"),
        ("no such version", "1"),
    ] {
        let answer = asking_for(&host, wanted).await.assert_status(200);
        assert_eq!(answer.header("x-version"), Some(expected), "{wanted}");
    }
    let host = TestHost::build()
        .with(|config| config.plugins.rollout.header = "x-try".parse().unwrap())
        .start()
        .await;
    for (query, version, name) in [("", "1.0.0", "hello-v1"), ("canary=0", "2.0.0", "hello-v2")] {
        host.admin()
            .upload(query, hello(version, name))
            .await
            .assert_status(201);
    }
    assert_eq!(
        asking_for(&host, "canary").await.header("x-version"),
        Some("1")
    );
    let request = host
        .request(Method::GET, "/hello/")
        .header("x-try", "canary");
    assert_eq!(host.send(request).await.header("x-version"), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_is_taken_back_and_the_history_says_why() {
    let host = with_canary(50, "trap").await;
    let admin = host.admin();
    for _ in 0..60 {
        host.get("/hello/").await;
    }
    until_taken_back(&admin).await;
    assert_eq!(by_canary(&host, 20).await, 0, "all are well");
    let (kind, by, reason) = history(&admin).await.swap_remove(0);
    assert_eq!((&*kind, &*by), ("rolled-back", "gantry"));
    assert!(
        reason.contains("100.0 % of its") && reason.contains("0.0 %"),
        "{reason}"
    );
    // A rollback does not go to a version that was never more than a canary.
    admin
        .upload("", hello("3.0.0", "hello-v2"))
        .await
        .assert_status(201);
    post(&admin, "rollback", json!({})).await.assert_status(200);
    assert_eq!(by_canary(&host, 20).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_is_slow_is_taken_back() {
    let host = with_canary(50, "slow").await;
    let ask = || host.get("/hello/?ms=300");
    let answers = futures_util::future::join_all((0..60).map(|_| ask())).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    until_taken_back(&host.admin()).await;
    let (kind, by, reason) = history(&host.admin()).await.swap_remove(0);
    assert_eq!((&*kind, &*by), ("rolled-back", "gantry"));
    assert!(reason.contains("median of its latency"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_have_a_canary_taken_back_by_asking_for_it() {
    // With weight 0 it is met by nobody but those who ask for it. What they meet is shown, and left to people.
    for (weight, is_shown) in [(1, false), (0, true)] {
        let host = with_canary(weight, "trap").await;
        for _ in 0..60 {
            let answer = asking_for(&host, "canary").await;
            // After a while those who make it crash are kept away from it.
            let is_crash = ["plugin.trapped", "plugin.held_off"].contains(&&*answer.code());
            assert!(is_crash, "{}", answer.text());
        }
        // Longer than it takes to be judged.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let told = status(&host.admin()).await;
        assert_eq!(told["versions"].as_array().unwrap().len(), 2, "{told}");
        let requests = told["versions"][1]["requests"].as_u64().unwrap();
        assert_eq!(requests > 0, is_shown, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_still_there_after_a_restart_and_after_a_sudden_death() {
    let host = with_canary(20, "hello-v2").await;
    let host = host.restart().await;
    assert_eq!(by_canary(&host, 50).await, 10);

    let server = Process::start("[plugins.rollout]\nspread = \"requests\"").await;
    server
        .upload("", hello("1.0.0", "hello-v1"))
        .await
        .assert_status(201);
    server
        .upload("canary=20", hello("2.0.0", "hello-v2"))
        .await
        .assert_status(201);
    let server = server.kill_and_restart().await;
    assert_eq!(by_canary(&server, 50).await, 10);
    post(&server, "promote", json!({})).await.assert_status(200);
    let server = server.kill_and_restart().await;
    assert_eq!(by_canary(&server, 20).await, 20);
    assert_eq!(history(&server).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_changes_reach_the_canary_and_another_version_takes_its_place() {
    let host = with_canary(10, "hello-v2").await;
    let admin = host.admin();
    let name = "hello".parse().unwrap();
    let mount = gantry::plugins::Mount::new(None, "/moved").unwrap();
    host.plugins()
        .set_mount(&name, mount, false, "test")
        .await
        .unwrap();
    let request = host
        .request(Method::GET, "/moved/")
        .header("x-gantry-version", "canary");
    assert_eq!(host.send(request).await.header("x-version"), Some("2"));
    admin
        .upload("canary=5&mount=/hello", hello("3.0.0", "hello-v2"))
        .await
        .assert_problem(422, "deploy.canary_moves");
    // Taking it back is what a rollback means while there is one.
    post(&admin, "rollback", json!({})).await.assert_status(200);
    assert_eq!(
        status(&admin).await["versions"].as_array().unwrap().len(),
        1
    );
    admin
        .upload("canary=5", hello("3.0.0", "trap"))
        .await
        .assert_status(201);
    admin
        .upload("", hello("4.0.0", "hello-v2"))
        .await
        .assert_status(201);
    let told = status(&admin).await;
    assert_eq!(told["versions"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["versions"][0]["version"], "4.0.0");
    admin
        .delete(&format!("{API}/plugins/hello"))
        .await
        .assert_status(204);
    admin
        .get(&format!("{API}/plugins/hello/history"))
        .await
        .assert_problem(404, "plugin.not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_canaries_come_and_go() {
    let host = TestHost::start().await;
    let admin = host.admin();
    admin
        .upload("", hello("1.0.0", "hello-v1"))
        .await
        .assert_status(201);
    let client = host.on_a_connection_of_its_own();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let load = tokio::spawn(async move {
        let mut stopped = std::pin::pin!(stopped);
        let mut count = 0;
        while futures_util::poll!(&mut stopped).is_pending() {
            client.get("/hello/").await.assert_status(200);
            count += 1;
        }
        count
    });
    for turn in 0..20 {
        let canary = hello("2.0.0", ["hello-v1", "hello-v2"][turn % 2]);
        admin.upload("canary=50", canary).await.assert_status(201);
        let end = ["promote", "rollback"][turn / 2 % 2];
        post(&admin, end, json!({})).await.assert_status(200);
    }
    stop.send(()).unwrap();
    assert!(load.await.unwrap() > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replaced_has_its_time_to_finish_and_no_more() {
    let host = TestHost::build()
        .with(|config| config.plugins.rollout.drain_s = 1)
        .start()
        .await;
    let admin = host.admin();
    admin
        .upload("", hello("1.0.0", "slow"))
        .await
        .assert_status(201);
    let ask = |ms: u32| {
        let client = host.on_a_connection_of_its_own();
        tokio::spawn(async move { client.get(&format!("/hello/?ms={ms}")).await })
    };
    let (short, long) = (ask(500), ask(9000));
    host.until_in_progress(2).await;
    let began = Instant::now();
    admin
        .upload("", hello("2.0.0", "hello-v2"))
        .await
        .assert_status(201);
    short.await.unwrap().assert_status(200);
    long.await.unwrap().assert_problem(504, "plugin.retired");
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
    // A change of settings replaces what was loaded as well, but not what is kept.
    assert_eq!(by_canary(&host, 5).await, 5);
}
