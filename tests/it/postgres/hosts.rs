//! Two hosts on the same rows: what one does is so on the other.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use gantry::plugins::{DeployError, GrantMode};
use gantry_harness::{Answer, Client};

use super::*;

pub(super) const API: &str = "/_gantry/api/v1";
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn first(database: &PostgresDatabase) -> TestHost {
    let host = TestHost::build().with(|config| {
        database.serve(config);
        config.db.shared = true;
    });
    host.start().await
}

/// One more host, with the keys of another one.
pub(super) async fn next(database: &PostgresDatabase, other: &TestHost) -> TestHost {
    let host = TestHost::build().with(|config| {
        database.serve(config);
        config.db.shared = true;
        let (from, to) = (other.data_dir().join("keys"), config.data_dir.join("keys"));
        std::fs::create_dir_all(&to).unwrap();
        for name in ["master.key", "access-token.key"] {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    });
    host.start().await
}

/// Asks until the answer has this status, for some seconds.
pub(super) async fn until(client: &Client, path: &str, status: u16) -> Answer {
    let began = Instant::now();
    loop {
        let answer = client.get(path).await;
        if answer.status.as_u16() == status || began.elapsed() > PATIENCE {
            return answer.assert_status(status);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(super) fn with(host: &TestHost, tokens: &Value) -> Client {
    host.with_token(tokens["access_token"].as_str().unwrap())
}

async fn refresh(host: &TestHost, tokens: &Value) -> Answer {
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    host.post("/api/auth/refresh", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_the_same_on_both_and_what_is_revoked_on_one_is_refused_on_the_other() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = first(&database).await;
    let b = next(&database, &a).await;
    let admin = a.admin();

    // Who was made on one logs in on the other without waiting.
    a.user("ann@example.com", &[]).await;
    let ann = log_in(&b, "ann@example.com").await;
    for host in [&a, &b] {
        until(&with(host, &ann), "/api/auth/me", 200).await;
    }

    // Fifty exchanges of one token, on both: one successor.
    let hosts = [&a, &b];
    let tries = (0..50).map(|index| refresh(hosts[index % 2], &ann));
    let mut successors = BTreeSet::new();
    for answer in join_all(tries).await {
        let tokens: Value = answer.assert_status(200).json();
        successors.insert(tokens["refresh_token"].as_str().unwrap().to_owned());
    }
    assert_eq!(successors.len(), 1);

    // A session that ends on one.
    let path = format!("/api/auth/sessions/{}", ann["session"].as_str().unwrap());
    with(&a, &ann).delete(&path).await.assert_status(204);
    let refused = until(&with(&b, &ann), "/api/auth/me", 401).await;
    refused.assert_problem(401, "auth.token_revoked");
    refresh(&b, &ann).await.assert_status(401);

    // An account that is disabled on one.
    let ann = log_in(&a, "ann@example.com").await;
    until(&with(&b, &ann), "/api/auth/me", 200).await;
    let id = ann["user"]["id"].as_str().unwrap().parse().unwrap();
    b.app().auth.set_disabled(id, true).await.unwrap();
    until(&with(&a, &ann), "/api/auth/me", 401).await;

    // A key, and the role that it has.
    let role = json!({ "name": "watcher", "permissions": ["platform.read"] });
    let made = admin.post(&format!("{API}/roles"), &role).await;
    made.assert_status(201);
    let new = json!({ "name": "till", "roles": ["watcher"] });
    let made = admin.post(&format!("{API}/api-keys"), &new).await;
    let made: Value = made.assert_status(201).json();
    let till = b.with_token(made["token"].as_str().unwrap());
    let plugins = format!("{API}/plugins");
    until(&till, &plugins, 200).await;
    // Where nobody has come with it, it is said, too, when it was used.
    let began = Instant::now();
    loop {
        let keys: Value = admin.get(&format!("{API}/api-keys")).await.json();
        let mut keys = keys["items"].as_array().unwrap().iter();
        let shown = keys.find(|key| key["id"] == made["id"]).unwrap();
        if shown["last_used_at"].is_string() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{shown}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let narrower = json!({ "permissions": [] });
    let request = admin.request(
        http::Method::PUT,
        &format!("{API}/roles/watcher/permissions"),
    );
    let request = request.header("content-type", "application/json");
    let set = admin.send(request.body(narrower.to_string())).await;
    assert!(set.status.is_success(), "{}", set.text());
    until(&till, &plugins, 403).await;
    let path = format!("{API}/api-keys/{}", made["id"].as_str().unwrap());
    let revoked = admin.delete(&path).await;
    assert!(revoked.status.is_success(), "{}", revoked.text());
    until(&till, &plugins, 401).await;

    // Both have written to one chain.
    for host in [&a, &b] {
        let said = verify(host, &database).await;
        assert!(said.starts_with("ok: "), "{said}");
    }
    a.stop().await;
    let b = b.restart().await;
    b.get("/readyz").await.assert_status(200);
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_on_one_is_live_on_the_other() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = first(&database).await;
    a.deploy(&manifests::open("hello"), guest("hello-v1")).await;
    let b = next(&database, &a).await;
    // What was live before, and what comes later, from either.
    b.get("/hello/").await.assert_status(200);
    b.deploy(&manifests::open("hello"), guest("hello-v2")).await;
    let began = Instant::now();
    while a.get("/hello/").await.header("x-version") != Some("2") {
        assert!(began.elapsed() < PATIENCE, "it is not live on the other");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    a.deploy_folder("examples/kv-counter", "/counter").await;
    until(&b, "/counter/pages", 200).await;

    // Counts of many at once lose nothing, wherever they are counted.
    let hosts = [&a, &b];
    let visits = (0..100).map(|index| async move {
        let host = hosts[index % 2];
        let answer = host.post("/counter/pages/home/visits", &json!(null)).await;
        answer.assert_status(200).json::<Value>()["visits"]
            .as_i64()
            .unwrap()
    });
    let counts: BTreeSet<i64> = join_all(visits).await.into_iter().collect();
    assert_eq!(counts, (1..=100).collect());

    // What is taken back, and what is given again.
    let grants = format!("{API}/plugins/kv-counter/grants");
    let before: Value = a.admin().get(&grants).await.assert_status(200).json();
    let none = a.admin().put(&grants, &json!({ "grants": [] })).await;
    none.assert_status(200);
    until(&b, "/counter/pages", 502).await;
    let given = json!({ "grants": before["grants"] });
    a.admin().post(&grants, &given).await.assert_status(200);
    until(&b, "/counter/pages", 200).await;

    // What both log is numbered together.
    for host in hosts {
        host.app().logs.flush().await;
    }

    // What would be on one host only is refused.
    let sql = "[capabilities]\nsql = [\"main\"]\n";
    let manifest = manifests::with("notes", sql);
    let refused = b.try_deploy(&manifest, guest("hello-v1"), GrantMode::AllAsked);
    match refused.await {
        Err(DeployError::Mistakes(mistakes)) => {
            let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            assert!(said.join("\n").contains("db.shared"), "{said:?}");
        }
        other => panic!("{other:?}"),
    }

    a.plugins()
        .remove(&"hello".parse().unwrap(), true, "test")
        .await
        .unwrap();
    until(&b, "/hello/", 404).await;
    let said = verify(&b, &database).await;
    assert!(said.starts_with("ok: "), "{said}");
    b.stop().await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_share_does_not_come_to_those_that_do() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = first(&database).await;
    let alone = TestHost::build().with(|config| database.serve(config));
    let error = alone.try_start().await.err().unwrap();
    let said = format!("{error:#}");
    assert!(said.contains("db.shared"), "{said}");
    // And one with other keys does not read what these have sealed.
    let stranger = TestHost::build().with(|config| {
        database.serve(config);
        config.db.shared = true;
    });
    let error = stranger.try_start().await.err().unwrap();
    let said = format!("{error:#}");
    assert!(said.contains("copy the folder `keys/`"), "{said}");
    a.stop().await;
}
