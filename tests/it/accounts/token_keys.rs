//! The keys that sign access tokens change while people work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

const KEYS: &str = "/_gantry/api/v1/token-keys";

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_under_load_and_no_request_fails() {
    let host = TestHost::start().await;
    let ann = host.user("ann@example.com", &[]).await;
    let tokens = log_in(&host, "ann@example.com", PASSWORD).await;
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let work = async {
        let mut tokens = tokens;
        while !is_over.load(Ordering::Relaxed) {
            ann.get("/api/auth/me").await.assert_status(200);
            with(&host, &tokens)
                .get("/api/auth/me")
                .await
                .assert_status(200);
            tokens = refresh(&host, &tokens["refresh_token"])
                .await
                .assert_status(200)
                .json();
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let changes = async {
        let admin = host.admin();
        for at in 0..6 {
            let before = asked.load(Ordering::Relaxed);
            let algorithm = ["ES256", "EdDSA"][at % 2];
            let new = json!({ "algorithm": algorithm, "at_once": true });
            let key: Value = admin.post(KEYS, &new).await.assert_status(201).json();
            assert_eq!(
                (&key["state"], &key["algorithm"]),
                (&json!("active"), &json!(algorithm))
            );
            while asked.load(Ordering::Relaxed) < before + 3 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, changes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_stolen_is_revoked_and_people_stay_logged_in() {
    let host = TestHost::start().await;
    host.user("ann@example.com", &[]).await;
    let tokens = log_in(&host, "ann@example.com", PASSWORD).await;
    let ann = with(&host, &tokens);
    ann.get("/api/auth/me").await.assert_status(200);
    let admin = host.admin();
    let listed: Value = admin.get(KEYS).await.assert_status(200).json();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    ann.delete(&format!("{KEYS}/{id}"))
        .await
        .assert_problem(403, "auth.permission_missing");
    admin
        .delete(&format!("{KEYS}/unknown"))
        .await
        .assert_problem(404, "auth.token_key_not_found");
    admin
        .delete(&format!("{KEYS}/{id}"))
        .await
        .assert_status(204);
    ann.get("/api/auth/me")
        .await
        .assert_problem(401, "auth.token_invalid");
    let next: Value = refresh(&host, &tokens["refresh_token"])
        .await
        .assert_status(200)
        .json();
    with(&host, &next)
        .get("/api/auth/me")
        .await
        .assert_status(200);
    let shown: Value = host.get("/.well-known/jwks.json").await.json();
    assert_ne!(shown["keys"][0]["kid"], id.as_str());
}
