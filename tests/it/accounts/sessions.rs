//! Sessions over HTTP, as a user and an administrator see them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_until_its_user_logs_out() {
    let host = TestHost::start().await;
    host.user("ann@example.com", &[]).await;
    let first = log_in(&host, "ann@example.com", PASSWORD).await;
    assert_eq!(first["token_type"], "Bearer");
    assert_eq!(first["user"]["email"], "ann@example.com");
    let second: Value = refresh(&host, &first["refresh_token"])
        .await
        .assert_status(200)
        .json();
    assert_eq!(second["session"], first["session"]);
    with(&host, &second)
        .get("/api/auth/me")
        .await
        .assert_status(200);
    let out = json!({ "refresh_token": second["refresh_token"] });
    host.post("/api/auth/logout", &out).await.assert_status(204);
    // Twice is once.
    host.post("/api/auth/logout", &out).await.assert_status(204);
    for tokens in [&first, &second] {
        with(&host, tokens)
            .get("/api/auth/me")
            .await
            .assert_problem(401, "auth.token_revoked");
        refresh(&host, &tokens["refresh_token"])
            .await
            .assert_problem(401, "auth.refresh_invalid");
    }
    // The access token alone is enough, too.
    let third = log_in(&host, "ann@example.com", PASSWORD).await;
    let client = with(&host, &third);
    let request = client.request(http::Method::POST, "/api/auth/logout");
    client.send(request).await.assert_status(204);
    client.get("/api/auth/me").await.assert_status(401);
    host.post("/api/auth/logout", &json!({}))
        .await
        .assert_problem(401, "auth.required");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_exchanges_of_one_token_at_once_log_nobody_out() {
    let host = TestHost::start().await;
    host.user("ann@example.com", &[]).await;
    let first = log_in(&host, "ann@example.com", PASSWORD).await;
    let tries = (0..50).map(|_| refresh(&host, &first["refresh_token"]));
    let answers = futures_util::future::join_all(tries).await;
    let mut successors = std::collections::BTreeSet::new();
    for answer in answers {
        let tokens: Value = answer.assert_status(200).json();
        successors.insert(tokens["refresh_token"].as_str().unwrap().to_owned());
    }
    assert_eq!(successors.len(), 1);
    let successor = successors.pop_first().unwrap();
    refresh(&host, &successor.into()).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_refresh_token_is_noticed_when_it_is_used_again() {
    let host = TestHost::build()
        .with(|config| config.auth.refresh_grace_ms = 0)
        .start()
        .await;
    host.user("ann@example.com", &[]).await;
    let stolen = log_in(&host, "ann@example.com", PASSWORD).await;
    let next: Value = refresh(&host, &stolen["refresh_token"])
        .await
        .assert_status(200)
        .json();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    refresh(&host, &stolen["refresh_token"])
        .await
        .assert_problem(401, "auth.refresh_reused");
    refresh(&host, &next["refresh_token"])
        .await
        .assert_problem(401, "auth.refresh_invalid");
    with(&host, &next)
        .get("/api/auth/me")
        .await
        .assert_problem(401, "auth.token_revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_and_end_their_own_sessions_and_nobody_elses() {
    let host = TestHost::start().await;
    host.user("ann@example.com", &[]).await;
    let bob = host.user("bob@example.com", &[]).await;
    let here = log_in(&host, "ann@example.com", PASSWORD).await;
    let there = log_in(&host, "ann@example.com", PASSWORD).await;
    let (ann, elsewhere) = (with(&host, &here), with(&host, &there));
    let listed: Value = ann.get("/api/auth/sessions").await.json();
    let items = listed["items"].as_array().unwrap();
    // One is from the harness.
    assert_eq!(items.len(), 3);
    let current: Vec<&Value> = items
        .iter()
        .filter(|item| item["is_current"] == true)
        .collect();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["id"], here["session"]);
    let path = format!("/api/auth/sessions/{}", there["session"].as_str().unwrap());
    bob.delete(&path)
        .await
        .assert_problem(404, "auth.session_not_found");
    bob.delete("/api/auth/sessions/x")
        .await
        .assert_problem(404, "auth.session_not_found");
    host.delete(&path)
        .await
        .assert_problem(401, "auth.required");
    elsewhere.get("/api/auth/me").await.assert_status(200);
    ann.delete(&path).await.assert_status(204);
    elsewhere.get("/api/auth/me").await.assert_status(401);
    let third = log_in(&host, "ann@example.com", PASSWORD).await;
    ann.delete("/api/auth/sessions").await.assert_status(204);
    with(&host, &third)
        .get("/api/auth/me")
        .await
        .assert_status(401);
    ann.get("/api/auth/me").await.assert_status(200);
    bob.get("/api/auth/me").await.assert_status(200);
    // An API key has no sessions.
    host.admin()
        .get("/api/auth/sessions")
        .await
        .assert_problem(401, "auth.required");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_ends_sessions_at_once() {
    let host = TestHost::start().await;
    let ann = host.user("ann@example.com", &[]).await;
    let tokens = log_in(&host, "ann@example.com", PASSWORD).await;
    let id = tokens["user"]["id"].as_str().unwrap();
    let base = format!("/_gantry/api/v1/users/{id}/sessions");
    let admin = host.admin();
    ann.get(&base)
        .await
        .assert_problem(403, "auth.permission_missing");
    let listed: Value = admin.get(&base).await.assert_status(200).json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert_eq!(listed["items"][1]["id"], tokens["session"]);
    let one = format!("{base}/{}", tokens["session"].as_str().unwrap());
    admin.delete(&one).await.assert_status(204);
    admin
        .delete(&one)
        .await
        .assert_problem(404, "auth.session_not_found");
    with(&host, &tokens)
        .get("/api/auth/me")
        .await
        .assert_status(401);
    ann.get("/api/auth/me").await.assert_status(200);
    admin.delete(&base).await.assert_status(204);
    ann.get("/api/auth/me").await.assert_status(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_have_a_contract_and_can_be_off() {
    let host = TestHost::start().await;
    let contract: Value = host
        .get("/api/auth/openapi.json")
        .await
        .assert_status(200)
        .json();
    assert_eq!(contract["servers"][0]["url"], "/api/auth");
    assert!(contract["paths"]["/refresh"]["post"].is_object());

    let moved = TestHost::build()
        .with(|config| config.gateway.auth_mount = "/people/".to_owned())
        .start()
        .await;
    moved.get("/people/me").await.assert_status(401);
    moved
        .get("/api/auth/me")
        .await
        .assert_problem(404, "route.not_found");

    let off = TestHost::build()
        .with(|config| config.gateway.auth_mount = String::new())
        .start()
        .await;
    off.get("/api/auth/me")
        .await
        .assert_problem(404, "route.not_found");
    off.get("/.well-known/jwks.json").await.assert_status(200);
    off.admin()
        .get("/_gantry/api/v1/users")
        .await
        .assert_status(200);
}
