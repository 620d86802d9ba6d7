//! Access tokens of others: here, of another host.

use gantry::auth::Issuer;
use gantry_harness::guests::guest;

use super::*;

const MANIFEST: &str = r#"
schema = 1
[plugin]
name = "echo"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[permission]]
name = "read"
description = "Look"
[[route]]
method = "GET"
path = "/required"
permissions = ["read"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_trusted_issuer_opens_what_its_roles_may_and_nothing_of_accounts() {
    let login = TestHost::build()
        .with(|config| {
            config.auth.issuer = "https://login.example".to_owned();
            config.auth.audience = "shop".to_owned();
        })
        .start()
        .await;
    let keys = format!("http://{}/.well-known/jwks.json", login.app().address);
    let issuer = |audience: &str| -> Issuer {
        let issuer = json!({
            "issuer": "https://login.example", "jwks_url": keys, "audience": audience,
            "roles": ["customer"],
        });
        serde_json::from_value(issuer).unwrap()
    };
    let shop = TestHost::build()
        .with(|config| config.auth.issuers = vec![issuer("shop")])
        .start()
        .await;
    let bank = TestHost::build()
        .with(|config| config.auth.issuers = vec![issuer("bank")])
        .start()
        .await;
    let stranger = TestHost::start().await;
    login.user("ann@example.com", &[]).await;
    let token = log_in(&login, "ann@example.com", PASSWORD).await;
    let token = token["access_token"].as_str().unwrap();
    for host in [&shop, &bank, &stranger] {
        host.deploy(MANIFEST, guest("echo")).await;
        let auth = &host.app().auth;
        let role = "customer".parse().unwrap();
        auth.create_role(role, &["echo:read"]).await.unwrap();
    }
    let ann = shop.with_token(token);
    let began = std::time::Instant::now();
    // The keys are fetched beside the requests.
    let seen = loop {
        let answer = ann.get("/echo/required").await;
        if answer.status.as_u16() == 200 || began.elapsed().as_secs() > 10 {
            break answer.assert_status(200).json::<Value>();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(seen["principal"]["kind"], "user");
    assert_eq!(seen["principal"]["roles"], json!(["customer"]));
    let id = seen["principal"]["id"].as_str().unwrap();
    assert!(id.starts_with("ext_"), "{id}");
    ann.get("/api/auth/me").await.assert_status(200);
    ann.get("/api/auth/sessions")
        .await
        .assert_problem(401, "auth.token_invalid");
    ann.get("/_gantry/api/v1/users")
        .await
        .assert_problem(403, "auth.permission_missing");
    for host in [&bank, &stranger] {
        host.with_token(token)
            .get("/echo/required")
            .await
            .assert_problem(401, "auth.token_invalid");
    }
}
