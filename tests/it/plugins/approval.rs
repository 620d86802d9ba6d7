//! Upgrades that ask for more than was granted, and wait until somebody agrees.

use std::time::Duration;

use gantry::plugins::rollout::Spread;
use gantry_harness::{Answer, Client, TestHost};
use serde_json::{Value, json};

use super::rollout::{API, by_canary, hello, history, post, status, with};

/// Agrees to the upgrade that waits, whatever it asks for.
async fn approve(client: &Client, reason: &str) -> Answer {
    let waits = client.get(&format!("{API}/plugins/hello/approval")).await;
    let waits: Value = waits.json();
    let agreed = json!({ "deployment": waits["deployment"], "reason": reason });
    match waits["deployment"].as_str() {
        Some(_) => post(client, "approval", agreed).await,
        None => client.get(&format!("{API}/plugins/hello/approval")).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_asks_for_more_waits_until_somebody_who_may_grants_it() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let asks = "[capabilities]\nkv = [\"data\"]\n";
    admin
        .upload("", hello("1.0.0", "hello-v1"))
        .await
        .assert_status(201);
    for (name, permissions) in [
        ("deployer", ["platform.deploy", "platform.read"]),
        ("granter", ["platform.grant", "platform.read"]),
    ] {
        let role = json!({ "name": name, "permissions": permissions });
        admin
            .post(&format!("{API}/roles"), &role)
            .await
            .assert_status(201);
    }
    let deployer = host.user("deployer@example.com", &["deployer"]).await;
    let granter = host.user("granter@example.com", &["granter"]).await;
    let asked = deployer
        .upload("note=for+carts", with("2.0.0", "hello-v2", asks))
        .await;
    let asked: Value = asked.assert_status(202).json();
    assert_eq!(asked["state"], "pending-approval", "{asked}");
    assert_eq!(asked["missing"], json!(["kv:data"]));
    assert_eq!(by_canary(&host, 10).await, 0, "the old one serves");

    // It waits through a restart, and what it was made of is kept.
    let host = host.restart().await;
    host.plugins().clean_up(Duration::ZERO).await.unwrap();
    let (admin, deployer, granter) = (host.admin(), deployer.at(&host), granter.at(&host));
    let told = status(&deployer).await;
    assert_eq!(told["approval"]["version"], "2.0.0", "{told}");
    assert_eq!(told["approval"]["reason"], "for carts");
    assert_eq!(by_canary(&host, 10).await, 0);
    for client in [&deployer, &granter] {
        approve(client, "")
            .await
            .assert_problem(403, "auth.permission_missing");
    }
    let agree = || approve(&admin, "they may");
    let (one, other) = tokio::join!(agree(), agree());
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert!(
        statuses[0] == 200 && statuses[1] >= 404,
        "one of two agrees: {statuses:?}"
    );
    assert_eq!(by_canary(&host, 10).await, 10);
    let grants: Value = admin
        .get(&format!("{API}/plugins/hello/grants"))
        .await
        .json();
    assert_eq!(grants, json!({ "grants": ["kv:data"], "missing": [] }));
    let gone = json!({ "deployment": asked["deployment"]["id"] });
    post(&admin, "approval", gone)
        .await
        .assert_problem(404, "approval.not_found");
    let who = history(&admin).await;
    let what: Vec<(&str, &str)> = who.iter().map(|(kind, _, why)| (&**kind, &**why)).collect();
    let expected = [
        ("deployed", "for carts"),
        ("approved", "they may"),
        ("approval-asked", "for carts"),
        ("deployed", ""),
    ];
    assert_eq!(what, expected);
    assert_eq!(who[0].1, who[2].1, "who deployed it");
    assert!(who[1].1.starts_with("gk_"), "who agreed: {who:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_refused_or_overtaken_and_gets_no_more_than_was_shown() {
    let host = TestHost::build()
        .with(|config| config.plugins.rollout.spread = Spread::Requests)
        .start()
        .await;
    let admin = host.admin();
    let asks = |labels: &str| format!("[capabilities]\nkv = [{labels}]\n");
    let first = with("1.0.0", "hello-v1", &asks("\"data\""));
    // The first deployment has nothing that could go on serving.
    admin
        .upload("", first.clone())
        .await
        .assert_problem(422, "deploy.invalid");
    admin.upload("grant=all", first).await.assert_status(201);
    let more = with("2.0.0", "hello-v2", &asks("\"data\", \"more\""));
    admin
        .upload("canary=10", more.clone())
        .await
        .assert_status(202);
    let path = format!("{API}/plugins/hello/approval");
    admin
        .delete(&format!("{path}?reason=no"))
        .await
        .assert_status(204);
    admin
        .get(&path)
        .await
        .assert_problem(404, "approval.not_found");
    assert_eq!(by_canary(&host, 20).await, 0);

    // What it had is taken back while it waits: that was not shown, so it waits on.
    admin
        .upload("canary=10", more.clone())
        .await
        .assert_status(202);
    admin
        .delete(&format!("{API}/plugins/hello/grants/kv:data"))
        .await
        .assert_status(204);
    let waits: Value = approve(&admin, "").await.assert_status(200).json();
    assert_eq!(waits["state"], "pending-approval", "{waits}");
    assert_eq!(by_canary(&host, 20).await, 0);
    let told: Value = admin.get(&path).await.assert_status(200).json();
    assert_eq!(told["missing"], json!(["kv:data", "kv:more"]), "{told}");
    assert_eq!(told["weight_percent"], 10);
    let live: Value = approve(&admin, "").await.assert_status(200).json();
    assert_eq!(live["state"], "canary", "as it was meant to be: {live}");
    assert_eq!(by_canary(&host, 20).await, 2);

    let most = with("3.0.0", "hello-v2", &asks("\"data\", \"more\", \"most\""));
    admin.upload("", most).await.assert_status(202);
    admin.upload("", more).await.assert_status(201);
    admin
        .get(&path)
        .await
        .assert_problem(404, "approval.not_found");
    // An upload that is wrong in another way does not wait.
    let wrong = with(
        "4.0.0",
        "undeclared-kv",
        "[capabilities]\nhttp = [{ host = \"a.example\" }]\n",
    );
    admin
        .upload("", wrong)
        .await
        .assert_problem(422, "deploy.invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_slipped_under_an_agreement_after_it_was_looked_at() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let approval = format!("{API}/plugins/hello/approval");
    let asks =
        |version: &str, what: &str| with(version, "hello-v2", &format!("[capabilities]\n{what}\n"));
    admin
        .upload("", hello("1.0.0", "hello-v1"))
        .await
        .assert_status(201);
    let little = asks("2.0.0", "kv = [\"data\"]");
    admin.upload("", little).await.assert_status(202);
    let shown: Value = admin.get(&approval).await.assert_status(200).json();
    assert_eq!(shown["missing"], json!(["kv:data"]));
    // While somebody reads what was shown, another one takes its place and asks for more.
    let much = asks(
        "2.0.1",
        "http = [{ host = \"evil.example\", reason = \"a test\" }]",
    );
    admin.upload("", much).await.assert_status(202);
    let agreed = json!({ "deployment": shown["deployment"] });
    post(&admin, "approval", agreed)
        .await
        .assert_problem(409, "approval.changed");
    // To agree without saying to what is no way around it.
    post(&admin, "approval", json!({})).await.assert_status(422);
    assert_eq!(by_canary(&host, 10).await, 0, "the old one serves");
    let grants: Value = admin
        .get(&format!("{API}/plugins/hello/grants"))
        .await
        .json();
    assert_eq!(grants["grants"], json!([]));
    let waits: Value = admin.get(&approval).await.assert_status(200).json();
    assert_eq!(waits["missing"], json!(["http:evil.example"]));
}
