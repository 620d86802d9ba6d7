//! What one host revokes, seen from another that takes its tokens.

use std::time::{Duration, Instant};

use gantry::auth::{Issuer, KeyState};
use gantry_harness::RedisServer;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn host(server: &RedisServer, name: &str, issuers: Vec<Issuer>) -> TestHost {
    let host = TestHost::build().with(|config| {
        server.serve(config);
        config.auth.issuer = name.to_owned();
        config.auth.issuers = issuers;
    });
    host.start().await
}

/// Asks until the answer has this status, for some seconds.
async fn until(client: &Client, status: u16) -> Answer {
    let began = Instant::now();
    loop {
        let answer = client.get("/api/auth/me").await;
        if answer.status.as_u16() == status || began.elapsed() > PATIENCE {
            return answer.assert_status(status);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn log_out(host: &TestHost, tokens: &Value) {
    let path = format!("/api/auth/sessions/{}", tokens["session"].as_str().unwrap());
    let answer = with(host, tokens).delete(&path).await;
    answer.assert_status(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_where_the_accounts_are_is_revoked_on_hosts_that_take_their_tokens() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    let login = host(&server, "login", Vec::new()).await;
    let issuer = json!({
        "issuer": "login", "audience": "gantry",
        "jwks_url": format!("http://{}/.well-known/jwks.json", login.app().address),
    });
    let shop = host(
        &server,
        "shop",
        vec![serde_json::from_value(issuer).unwrap()],
    )
    .await;
    login.user("ann@example.com", &[]).await;
    login.user("bob@example.com", &[]).await;
    login.user("dora@example.com", &[]).await;
    let ann = log_in(&login, "ann@example.com", PASSWORD).await;
    let ann_later = log_in(&login, "ann@example.com", PASSWORD).await;
    let bob = log_in(&login, "bob@example.com", PASSWORD).await;
    let dora = log_in(&login, "dora@example.com", PASSWORD).await;
    for tokens in [&ann, &ann_later, &bob] {
        until(&with(&shop, tokens), 200).await;
    }

    log_out(&login, &ann).await;
    let refused = until(&with(&shop, &ann), 401).await;
    refused.assert_problem(401, "auth.token_revoked");
    for tokens in [&ann_later, &bob] {
        until(&with(&shop, tokens), 200).await;
    }

    let id = bob["user"]["id"].as_str().unwrap();
    let user = id.parse().unwrap();
    login.app().auth.set_disabled(user, true).await.unwrap();
    until(&with(&shop, &bob), 401).await;
    login.app().auth.set_disabled(user, false).await.unwrap();
    let bob = log_in(&login, "bob@example.com", PASSWORD).await;
    until(&with(&shop, &bob), 200).await;

    // What cannot be told now is told later.
    server.die().await;
    log_out(&login, &ann_later).await;
    until(&with(&shop, &ann_later), 200).await;
    server.go_on().await;
    until(&with(&shop, &ann_later), 401).await;
    until(&with(&shop, &bob), 200).await;

    // A server that took over may be behind: what is told there comes before what was read of the other one.
    let stream = "gantry:auth:revoked";
    let session = bob["session"].as_str().unwrap();
    server.run(&["DEL", stream]).await;
    let told = ["XADD", stream, "5-1", "iss", "login", "sid", session];
    server.run(&told).await;
    until(&with(&shop, &bob), 401).await;

    // Also by a host that has not lived to tell it.
    login.user("carl@example.com", &[]).await;
    let carl = log_in(&login, "carl@example.com", PASSWORD).await;
    for tokens in [&carl, &dora] {
        until(&with(&shop, tokens), 200).await;
    }
    server.die().await;
    let id = |tokens: &Value| tokens["user"]["id"].as_str().unwrap().parse().unwrap();
    login
        .app()
        .auth
        .set_disabled(id(&carl), true)
        .await
        .unwrap();
    login.app().auth.delete_user(id(&dora)).await.unwrap();
    let login = login.restart().await;
    for tokens in [&carl, &dora] {
        until(&with(&shop, tokens), 200).await;
    }
    server.go_on().await;
    for tokens in [&carl, &dora] {
        until(&with(&shop, tokens), 401).await;
    }
    login.stop().await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revoked_key_has_signed_is_refused_on_hosts_that_take_its_tokens() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    let login = host(&server, "login", Vec::new()).await;
    // As seldom as can be: the keys are not fetched in time by themselves.
    let issuer = json!({
        "issuer": "login", "audience": "gantry", "refresh_s": 86_400,
        "jwks_url": format!("http://{}/.well-known/jwks.json", login.app().address),
    });
    let issuers = vec![serde_json::from_value(issuer).unwrap()];
    let shop = host(&server, "shop", issuers).await;
    login.user("ann@example.com", &[]).await;
    let ann = log_in(&login, "ann@example.com", PASSWORD).await;
    until(&with(&shop, &ann), 200).await;

    revoke_active_key(&login).await;
    let refused = until(&with(&shop, &ann), 401).await;
    refused.assert_problem(401, "auth.token_invalid");
    // What its successor signs is taken as soon as that was fetched.
    let next = refresh(&login, &ann["refresh_token"]).await;
    let next: Value = next.assert_status(200).json();
    until(&with(&shop, &next), 200).await;
    until(&with(&shop, &ann), 401).await;

    // Also if the host has not lived to tell it, and cannot be asked for its keys where it was.
    server.die().await;
    revoke_active_key(&login).await;
    let login = login.restart().await;
    until(&with(&shop, &next), 200).await;
    server.go_on().await;
    until(&with(&shop, &next), 401).await;
    login.stop().await;
    shop.stop().await;
}

async fn revoke_active_key(host: &TestHost) {
    let auth = &host.app().auth;
    let mut keys = auth.list_token_keys().into_iter();
    let active = keys.find(|key| key.state == KeyState::Active).unwrap();
    auth.revoke_token_key(active.id).await.unwrap();
}
