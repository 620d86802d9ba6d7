//! What others try with logins at providers.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_once_and_only_in_the_browser_that_began_it() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop", "club"]).await;
    let mut ann = Person::new(&host);
    let address = ann.begin("shop", "").await;
    let callback = ann.log_in_there(&address, ANN).await;
    let (path, query) = callback.split_once('?').unwrap();

    // Ann's answer in a browser that has begun nothing, and in one that has begun its own.
    let mut eve = Person::new(&host);
    eve.open(&callback)
        .await
        .assert_problem(400, "auth.login_attempt_invalid");
    let hers = eve.begin("shop", "").await;
    eve.open(&callback)
        .await
        .assert_problem(400, "auth.login_attempt_invalid");
    // Eve's login, offered to Ann, so that Ann works in Eve's account.
    let eves = eve.log_in_there(&hers, "eve:eve@example.com:yes").await;
    ann.open(&eves)
        .await
        .assert_problem(400, "auth.login_attempt_invalid");
    assert_eq!(ann.is().await, None);
    for wrong in [
        String::new(),
        query.replace("state=", "state=x"),
        query.replace(parameter(&callback, "state"), ""),
        query.replace("state=", "other="),
        format!("{query}&state=x"),
    ] {
        let answer = ann.open(&format!("{path}?{wrong}")).await;
        assert_eq!(answer.status.as_u16(), 400, "{wrong}");
    }
    // The answer of one provider at the place of another.
    ann.open(&callback.replace("/shop/", "/club/"))
        .await
        .assert_problem(400, "auth.login_attempt_invalid");
    ann.open(&callback.replace("/shop/", "/none/"))
        .await
        .assert_problem(404, "auth.provider_not_found");

    // Eve's code with what Ann has begun: it was not asked for here.
    let mut other = ann.clone();
    let code = parameter(&callback, "code");
    let injected = callback.replace(code, parameter(&eves, "code"));
    let end = other.come_back(&injected).await;
    assert_eq!(end, "/welcome?login_error=auth.provider_refused");
    // That has ended this login, also for Ann, whose browser still has its cookie.
    ann.open(&callback)
        .await
        .assert_problem(400, "auth.login_attempt_invalid");
    assert_eq!(host.app().auth.count_users(), 0);

    let address = ann.begin("shop", "").await;
    let callback = ann.log_in_there(&address, ANN).await;
    let before = ann.clone();
    assert_eq!(ann.come_back(&callback).await, "/welcome");
    before
        .clone()
        .open(&callback)
        .await
        .assert_problem(400, "auth.login_attempt_invalid");
    // A code of the provider that was used, with a login of its own.
    let address = ann.begin("shop", "").await;
    let again = ann.log_in_there(&address, ANN).await;
    let replayed = again.replace(parameter(&again, "code"), parameter(&callback, "code"));
    let end = ann.come_back(&replayed).await;
    assert_eq!(end, "/welcome?login_error=auth.provider_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_that_lies_logs_nobody_in() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let lies = [
        "nonce",
        "no-nonce",
        "audience",
        "audiences",
        "party",
        "issuer",
        "expired",
        "future",
        "none",
        "secret",
        "key",
        "hash",
    ];
    let clients = lies.map(|lie| format!("lie-{lie}"));
    let mut clients: Vec<&str> = clients.iter().map(String::as_str).collect();
    clients.push("lie-nothing");
    let host = host_with(&server, &clients).await;
    let mut ann = Person::new(&host);
    for client in clients {
        let end = ann.log_in(client, "", ANN).await;
        if client == "lie-nothing" {
            assert_eq!(end, "/welcome");
            continue;
        }
        assert_eq!(
            end, "/welcome?login_error=auth.provider_refused",
            "{client}"
        );
        assert_eq!(ann.is().await, None, "{client}");
        assert_eq!(host.app().auth.count_users(), 0, "{client}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_of_another_provider_does_not_count_and_neither_does_a_refusal() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop"]).await;
    let mut ann = Person::new(&host);
    // Mixed up (RFC 9207): the provider says who it is, and this is somebody else, or says nothing.
    for other in ["iss=https%3A%2F%2Fevil.example", "other=x", "iss="] {
        let address = ann.begin("shop", "").await;
        let callback = ann.log_in_there(&address, ANN).await;
        let own = format!("iss={}", parameter(&callback, "iss"));
        let end = ann.come_back(&callback.replace(&own, other)).await;
        assert_eq!(end, "/welcome?login_error=auth.provider_refused", "{other}");
    }
    // Who cancels there comes back with that.
    ann.there.clear();
    let address = ann.begin("shop", "return_to=/app/cart").await;
    let callback = ann.log_in_there(&address, "").await;
    assert_eq!(parameter(&callback, "error"), "access_denied");
    let end = ann.come_back(&callback).await;
    assert_eq!(end, "/app/cart?login_error=auth.provider_denied");
    // What stands in the address is not repeated to anybody.
    let address = ann.begin("shop", "").await;
    let state = parameter(&address, "state");
    let iss = encoded(&server.issuer()).replace('/', "%2F");
    let callback = format!(
        "/api/auth/oauth/shop/callback?state={state}&iss={iss}&error=%3Cscript%3E&error_description=evil"
    );
    let end = ann.come_back(&callback).await;
    assert_eq!(end, "/welcome?login_error=auth.provider_refused");
    let address = ann.begin("shop", "").await;
    let state = parameter(&address, "state");
    let empty = format!("/api/auth/oauth/shop/callback?state={state}&iss={iss}");
    let end = ann.come_back(&empty).await;
    assert_eq!(end, "/welcome?login_error=auth.provider_refused");
    assert_eq!(host.app().auth.count_users(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_sent_only_where_the_operator_says() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop"]).await;
    let mut ann = Person::new(&host);
    for evil in [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "https:evil.example",
        "/app/..//evil.example",
        "/app/../admin",
        "/welcome/../admin",
        "/app/%2e%2e/admin",
        "/elsewhere",
        "welcome",
        "",
        "javascript:alert(1)",
        "/welcome%0d%0aset-cookie:x=y",
        // Only with a code, which is of no use to others.
        "com.example.app:/login",
    ] {
        let path = format!("/api/auth/oauth/shop?return_to={evil}");
        ann.open(&path)
            .await
            .assert_problem(422, "auth.return_not_allowed");
    }
    for evil in [
        "com.example.app:/login/x",
        "com.example.app:/",
        "com.evil.app:/login",
    ] {
        let path = format!("/api/auth/oauth/shop?code_challenge={CHALLENGE}&return_to={evil}");
        ann.open(&path)
            .await
            .assert_problem(422, "auth.return_not_allowed");
    }
    for wrong in ["", "x", VERIFIER.get(1..).unwrap(), "%2B"] {
        let path = format!("/api/auth/oauth/shop?code_challenge={wrong}");
        ann.open(&path)
            .await
            .assert_problem(422, "auth.challenge_invalid");
    }
    ann.open("/api/auth/oauth/shop?redirect_uri=https://evil.example")
        .await
        .assert_problem(400, "request.invalid_query");
    ann.open("/api/auth/oauth/none")
        .await
        .assert_problem(404, "auth.provider_not_found");
    // Who asks in the name of another host is sent back to this one.
    let request = ann
        .request(Method::GET, "/api/auth/oauth/shop")
        .header("host", "evil.example")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "host=evil.example");
    let answer = ann.send(request).await.assert_status(303);
    let address = answer.header("location").unwrap();
    assert!(
        parameter(address, "redirect_uri").starts_with("https%3A%2F%2Fshop.example%2F"),
        "{address}"
    );
}
