//! Providers that are away, slow or talkative, and such as have new keys.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_fails_nobody_else() {
    let Some(mut server) = OidcServer::start().await else {
        return;
    };
    let shop = provider(&server, "shop", &json!({ "may_sign_up": true }));
    let build = || {
        let shop = shop.clone();
        TestHost::build().with(move |config| {
            with_providers(config, vec![shop]);
            config.auth.provider_timeout_ms = 1000;
        })
    };
    // Found by discovery too large or too late, and then not asked at once again.
    for mood in ["huge=1", "slow_ms=5000"] {
        server.be(mood).await;
        let host = build().start().await;
        let began = Instant::now();
        for _ in 0..3 {
            host.get("/api/auth/oauth/shop")
                .await
                .assert_problem(503, "auth.provider_unavailable");
        }
        assert!(
            began.elapsed().as_millis() < 3000,
            "{mood}: {:?}",
            began.elapsed()
        );
        host.user("ann@example.com", &[]).await;
    }
    server.be("").await;
    let host = build().start().await;
    let mut ann = Person::new(&host);
    for (mood, wanted) in [
        ("slow_ms=5000", "auth.provider_unavailable"),
        ("huge=1", "auth.provider_unavailable"),
    ] {
        let address = ann.begin("shop", "").await;
        let callback = ann.log_in_there(&address, ANN).await;
        server.be(mood).await;
        let end = ann.come_back(&callback).await;
        assert_eq!(end, format!("/welcome?login_error={wanted}"), "{mood}");
        server.be("").await;
    }
    let address = ann.begin("shop", "").await;
    let callback = ann.log_in_there(&address, ANN).await;
    server.die().await;
    let end = ann.come_back(&callback).await;
    assert_eq!(end, "/welcome?login_error=auth.provider_unavailable");
    // What is known of it stays good; people learn there that it is away.
    ann.begin("shop", "").await;
    server.go_on().await;
    ann.there.clear();
    // It has other keys now.
    assert_eq!(ann.log_in("shop", "", ANN).await, "/welcome");
    assert_eq!(ann.is().await.as_deref(), Some("ann@example.com"));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_found_when_a_token_names_them_and_not_looked_for_all_the_time() {
    let Some(mut server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop"]).await;
    let mut ann = Person::new(&host);
    assert_eq!(ann.log_in("shop", "", ANN).await, "/welcome");
    let looked = Instant::now();
    server.go_on().await;
    ann.there.clear();
    assert_eq!(ann.log_in("shop", "", ANN).await, "/welcome");
    assert_eq!(host.app().auth.count_users(), 1);
    // Again within ten seconds: the host does not look a second time. On a busy machine it may be later than that.
    server.go_on().await;
    ann.there.clear();
    let end = ann.log_in("shop", "", ANN).await;
    if looked.elapsed().as_secs() < 9 {
        assert_eq!(end, "/welcome?login_error=auth.provider_refused");
    }
}
