//! Settings of a plugin: what the operator says, completed with the author's defaults.

use gantry::plugins::{DeployError, GrantMode};
use gantry_harness::{TestHost, guests::guest};
use serde_json::{Value, json};

use crate::manifests;

fn manifest(schema: &str) -> String {
    manifests::with("echo", &format!("[config.properties.greeting]\n{schema}\n"))
}

async fn greeting(host: &TestHost) -> Value {
    host.get("/echo/").await.assert_status(200).json::<Value>()["config"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_reach_the_plugin_and_those_that_do_not_fit_are_refused() {
    let host = TestHost::start().await;
    let text = manifest("type = \"string\"\nmaxLength = 20\ndefault = \"Hello\"");
    host.deploy(&text, guest("echo")).await;
    let admin = host.admin();
    assert_eq!(greeting(&host).await, "Hello", "the author's default");
    admin
        .set_config("echo", &json!({ "greeting": "Salut" }))
        .await
        .assert_status(200);
    assert_eq!(greeting(&host).await, "Salut");

    for (values, reason) in [
        (json!({ "greeting": 7 }), "/greeting"),
        (json!({ "greeting": "x".repeat(21) }), "/greeting"),
        (json!({ "greting": "Hi" }), "did you mean `greeting`"),
    ] {
        let answer = admin
            .set_config("echo", &values)
            .await
            .assert_problem(422, "config.invalid");
        assert!(answer.text().contains(reason), "{}", answer.text());
        assert_eq!(greeting(&host).await, "Salut");
    }
    let host = host.restart().await;
    assert_eq!(greeting(&host).await, "Salut", "settings survive a restart");
    host.deploy(&text, guest("echo")).await;
    assert_eq!(greeting(&host).await, "Salut", "and a new version");

    let narrower = manifest("type = \"string\"\nenum = [\"Hello\"]\ndefault = \"Hello\"");
    let refused = host
        .try_deploy(&narrower, guest("echo"), GrantMode::AllAsked)
        .await;
    assert!(
        matches!(refused, Err(DeployError::Config(_))),
        "{refused:?}"
    );
    assert_eq!(
        greeting(&host).await,
        "Salut",
        "the old version serves with the old settings"
    );
    host.admin()
        .set_config("echo", &json!({}))
        .await
        .assert_status(200);
    assert_eq!(greeting(&host).await, "Hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_not_stopped_by_a_setting_that_only_the_newer_version_knows() {
    let host = TestHost::start().await;
    let old = manifest("type = \"string\"\ndefault = \"Hello\"");
    let new = format!("{old}[config.properties.tone]\ntype = \"string\"\ndefault = \"warm\"\n");
    host.deploy(&old, guest("echo")).await;
    host.deploy(&new, guest("echo")).await;
    let values = json!({ "greeting": "Salut", "tone": "cool" });
    host.admin()
        .set_config("echo", &values)
        .await
        .assert_status(200);
    host.roll_back("echo").await.unwrap();
    assert_eq!(greeting(&host).await, "Salut");
    let host = host.restart().await;
    assert_eq!(greeting(&host).await, "Salut");
    host.deploy(&new, guest("echo")).await;
    let kept = host
        .admin()
        .get("/_gantry/api/v1/plugins/echo/config")
        .await
        .json::<Value>();
    assert_eq!(
        kept["values"], values,
        "the newer one finds its setting again"
    );
}
