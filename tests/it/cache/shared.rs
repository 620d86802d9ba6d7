//! Several hosts with one shared server: what one throws away is gone for the others, and without the server each goes on.

use std::time::{Duration, Instant};

use gantry_harness::RedisServer;
use serde_json::{Value, json};

use super::*;

async fn host(redis: &RedisServer) -> TestHost {
    let host = TestHost::build()
        .with(|config| {
            redis.serve(config);
            config.cache.notice_ms = 200;
            config.cache.near_ms = 200;
        })
        .start()
        .await;
    let manifest = manifest("counted", "public", "{ ttl = \"60s\", tags = [\"all\"] }");
    host.deploy(&manifest, guest("counted")).await;
    host
}

async fn purge(host: &TestHost, what: Value) {
    let answer = host
        .admin()
        .post("/_gantry/api/v1/cache/purge", &what)
        .await;
    answer.assert_status(200);
}

fn is_hit(answer: &Answer) -> bool {
    status(answer).contains("hit")
}

/// Asks until the answer is as it should be, for some seconds.
async fn until(host: &TestHost, path: &str, holds: impl Fn(&Answer) -> bool) -> Answer {
    let began = Instant::now();
    loop {
        let answer = host.get(path).await.assert_status(200);
        if holds(&answer) {
            return answer;
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{}",
            status(&answer)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_host_throws_away_is_gone_on_the_other() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let (one, two) = (host(&redis).await, host(&redis).await);
    // Both have seen how far purges are.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for host in [&one, &two] {
        until(host, "/counted/a", is_hit).await;
    }
    let before = two.get("/counted/a").await.text();
    purge(&one, json!({ "plugin": "counted", "tag": "all" })).await;
    assert!(!is_hit(&one.get("/counted/a").await), "here at once");
    let after = until(&two, "/counted/a", |answer| answer.text() != before).await;
    assert!(!is_hit(&after), "there a moment later: {}", status(&after));
    // What another tag has stays.
    until(&two, "/counted/a", is_hit).await;
    let before = two.get("/counted/a").await.text();
    purge(&one, json!({ "plugin": "counted", "tag": "other" })).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(two.get("/counted/a").await.text(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_each_host_goes_on_by_itself_and_catches_up_later() {
    let Some(mut redis) = RedisServer::start().await else {
        return;
    };
    let (one, two) = (host(&redis).await, host(&redis).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    for host in [&one, &two] {
        until(host, "/counted/a", is_hit).await;
    }
    redis.die().await;
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < Duration::from_secs(2) {
        number += 1;
        // Those that are there, and those that are made now.
        for path in [
            "/counted/a".to_owned(),
            format!("/counted/while-away/{number}"),
        ] {
            for host in [&one, &two] {
                host.get(&path).await.assert_status(200);
            }
        }
    }
    until(&one, "/counted/a", is_hit).await;
    // Nobody can be told now.
    let before = two.get("/counted/a").await.text();
    purge(&one, json!({ "plugin": "counted", "tag": "all" })).await;
    assert!(!is_hit(&one.get("/counted/a").await));
    assert_eq!(two.get("/counted/a").await.text(), before);
    redis.go_on().await;
    until(&two, "/counted/a", |answer| answer.text() != before).await;
    until(&two, "/counted/a", is_hit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_outlives_a_host_unless_it_was_thrown_away_meanwhile() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let (one, two) = (host(&redis).await, host(&redis).await);
    // By one name, as behind a load balancer: a host that is started anew has another port.
    let ask = async |host: &TestHost, path: &str| {
        let request = host.request(Method::GET, path);
        host.send(request.header("host", "counted.example")).await
    };
    until(&one, "/counted/a", is_hit).await;
    // A host writes nothing there before it knows what was purged last; it asks once a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let kept = ask(&one, "/counted/b?ms=1").await.text();
    // Answers are written there behind the backs of their clients.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let one = one.restart().await;
    let again = ask(&one, "/counted/b?ms=1").await;
    assert!(is_hit(&again), "{}", status(&again));
    assert_eq!(again.text(), kept);
    // Another host throws away what only the server has by now.
    let path = "/counted/a";
    let kept = ask(&one, path).await.text();
    let one = one.restart().await;
    purge(&two, json!({ "plugin": "counted", "tag": "all" })).await;
    assert_ne!(ask(&one, path).await.text(), kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_plugin_are_the_same_on_all_hosts() {
    let Some(redis) = RedisServer::start().await else {
        return;
    };
    let (one, two) = (host(&redis).await, host(&redis).await);
    for host in [&one, &two] {
        host.deploy_folder("examples/cache-rates", "/rates").await;
        host.get("/rates/convert/XXX?amount=1")
            .await
            .assert_status(404);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let convert = async |host: &TestHost| {
        let answer = host
            .get("/rates/convert/EUR?amount=10")
            .await
            .assert_status(200);
        answer.json::<Value>()["asked"].as_i64().unwrap()
    };
    // Each host counts how often it was asked for a rate; the second finds that of the first.
    let before = convert(&two).await;
    let renewed = one.post("/rates/rates", &json!(null)).await;
    renewed.assert_status(200);
    assert_eq!(convert(&one).await, 2, "thrown away on both levels");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(convert(&two).await, before, "made by the other");
}
