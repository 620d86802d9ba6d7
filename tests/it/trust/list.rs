//! The list of keys: who may change it, and what a change does.

use std::fs;

use gantry::plugins::trust::{Config, Policy};
use gantry_harness::TestHost;
use serde_json::{Value, json};

use super::{API, Desk, failed, hello, live_error, strict, toml_of, version};
use crate::cli::succeeded;

#[tokio::test]
async fn a_key_that_is_revoked_takes_what_it_signed_with_it_at_once() {
    let (host, desk) = (strict().start().await, Desk::new());
    for name in ["lost.key", "new.key"] {
        desk.keygen(&host, name).await;
        let public = format!("{name}.pub");
        let add = ["trust", "add", &public, "--owner", "Ann", "--plugin", "*"];
        succeeded(&desk.run(&host, &add).await);
    }
    let admin = host.admin();
    let bundle = desk.signed(&host, "1.0.0", "hello_v1", "lost.key").await;
    let deployed = admin.upload("", bundle).await.assert_status(201);
    let deployed: Value = deployed.json();
    let id = deployed["deployment"]["signed_by"].as_str().unwrap();
    assert_eq!(version(&host).await, "1");

    let told = failed(&desk.run(&host, &["trust", "revoke", id]).await);
    assert!(told.contains("--yes"), "{told}");
    assert_eq!(version(&host).await, "1");
    let revoked = desk.run(&host, &["trust", "revoke", id, "--yes"]).await;
    succeeded(&revoked);
    let told = String::from_utf8_lossy(&revoked.stderr).into_owned();
    assert!(told.contains("hello answers no more"), "{told}");
    host.get("/hello/")
        .await
        .assert_problem(404, "route.not_found");
    let host = host.restart().await;
    host.get("/hello/")
        .await
        .assert_problem(404, "route.not_found");
    let told = live_error(&host, "hello").await;
    assert!(told.as_str().unwrap().contains("revoked"), "{told}");

    let again = desk.signed(&host, "1.0.0", "hello_v1", "new.key").await;
    host.admin().upload("", again).await.assert_status(201);
    assert_eq!(version(&host).await, "1");
    // Going back to what the lost key signed is refused, and leaves the good one live.
    let answer = host.admin().roll_back("hello").await;
    answer.assert_problem(422, "deploy.not_live");
    assert_eq!(version(&host).await, "1");
    assert_eq!(live_error(&host, "hello").await, Value::Null);
    host.stop().await;
}

#[tokio::test]
async fn a_host_that_only_warns_says_what_strictness_would_stop() {
    let desk = Desk::new();
    let host = TestHost::build()
        .with(|config| config.plugins.signatures = Policy::Warn)
        .start()
        .await;
    fs::write(desk.path("hello.gantry"), hello("1.0.0", "hello_v1")).unwrap();
    let deployed = desk.run(&host, &["plugin", "deploy", "hello.gantry"]).await;
    succeeded(&deployed);
    let told = String::from_utf8_lossy(&deployed.stderr).into_owned();
    assert!(
        told.contains("warning: the plugin `hello` is not signed"),
        "{told}"
    );
    let shown = succeeded(&desk.run(&host, &["trust", "status"]).await);
    assert!(
        shown.contains("signatures warn") && shown.contains("trust.unsigned"),
        "{shown}"
    );

    desk.keygen(&host, "me.key").await;
    let add = [
        "trust",
        "add",
        "me.key.pub",
        "--owner",
        "Ann",
        "--plugin",
        "hello",
    ];
    succeeded(&desk.run(&host, &add).await);
    let signed = ["plugin", "deploy", "hello.gantry", "--sign-key", "me.key"];
    let deployed = desk.run(&host, &signed).await;
    succeeded(&deployed);
    assert!(!String::from_utf8_lossy(&deployed.stderr).contains("warning"));
    let shown = succeeded(&desk.run(&host, &["trust", "status"]).await);
    assert!(!shown.contains("trust.unsigned"), "{shown}");
    host.stop().await;
}

#[tokio::test]
async fn the_list_is_changed_by_those_who_may_and_says_what_is_wrong() {
    let desk = Desk::new();
    let before = TestHost::start().await;
    let (fixed, key) = (
        desk.keygen(&before, "fixed.key").await,
        desk.keygen(&before, "me.key").await,
    );
    before.stop().await;
    let keys = vec![toml_of(&format!(
        "key = \"{fixed}\"\nowner = \"Ann\"\nplugins = [\"*\"]"
    ))];
    let host = TestHost::build()
        .with(|config| {
            config.plugins.trust = Config {
                keys,
                ..Config::default()
            }
        })
        .start()
        .await;
    let admin = host.admin();
    let path = format!("{API}/trust/keys");
    let body = |key: &str, owner: &str, plugins: &[&str]| json!({ "public_key": key, "owner": owner, "plugins": plugins });
    for (request, status, code) in [
        (
            body("ed25519:AAAA", "Bob", &["*"]),
            422,
            "trust.key_invalid",
        ),
        (body(&key, "", &["*"]), 422, "trust.key_invalid"),
        (body(&key, "Bob", &[]), 422, "trust.key_invalid"),
        (body(&key, "Bob", &["Not A Name"]), 422, "trust.key_invalid"),
        (body(&fixed, "Bob", &["*"]), 409, "trust.in_settings"),
    ] {
        let answer = admin.post(&path, &request).await;
        answer.assert_problem(status, code);
    }
    let added: Value = admin
        .post(&path, &body(&key, "Bob", &["shop"]))
        .await
        .assert_status(201)
        .json();
    admin
        .post(&path, &body(&key, "Bob", &["shop"]))
        .await
        .assert_problem(409, "trust.key_exists");
    let own = format!("{path}/{}", added["id"].as_str().unwrap());
    let scope = json!({ "plugins": ["shop", "bank"], "expires_at": "2001-01-01T00:00:00Z" });
    admin
        .put(&own, &scope)
        .await
        .assert_problem(422, "trust.key_invalid");
    let scope = json!({ "plugins": ["shop", "bank"] });
    admin.put(&own, &scope).await.assert_status(200);
    let listed: Value = admin.get(&path).await.assert_status(200).json();
    let of = |owner: &str| {
        let items = listed["items"].as_array().unwrap().iter();
        items
            .clone()
            .find(|key| key["owner"] == owner)
            .unwrap()
            .clone()
    };
    assert_eq!(of("Bob")["plugins"], json!(["shop", "bank"]));
    assert_eq!(of("Ann")["is_in_settings"], true);
    let settings = format!("{path}/{}", of("Ann")["id"].as_str().unwrap());
    admin
        .delete(&settings)
        .await
        .assert_problem(409, "trust.in_settings");
    admin.delete(&own).await.assert_status(200);
    admin
        .delete(&own)
        .await
        .assert_problem(404, "trust.key_not_found");

    let role = json!({ "name": "ci", "permissions": ["platform.deploy", "platform.read", "platform.grant"] });
    admin
        .post(&format!("{API}/roles"), &role)
        .await
        .assert_status(201);
    let ci = host.user("ci@example.com", &["ci"]).await;
    ci.get(&path).await.assert_status(200);
    ci.post(&path, &body(&key, "Eve", &["*"]))
        .await
        .assert_problem(403, "auth.permission_missing");
    host.stop().await;
}
