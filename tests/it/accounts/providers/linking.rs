//! Whose account it is: linking, and what is tried to get at the accounts of others.

use std::time::{SystemTime, UNIX_EPOCH};

use gantry::auth::Registration;
use gantry_harness::SmtpServer;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_links_a_login_that_then_opens_the_account_and_unlinks_it() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop"]).await;
    let ann = host.user("ann@example.com", &[]).await;
    let bob = host.user("bob@example.com", &[]).await;
    let mut browser = Person::new(&host);
    // Both have the address, and nobody has confirmed here that it is Ann's.
    let end = browser.log_in("shop", "", ANN).await;
    assert_eq!(end, "/welcome?login_error=auth.identity_not_linked");
    let path = "/api/auth/identities";
    let code = browser.login_code("shop", ANN).await;
    let link = |verifier: &str| json!({ "code": code, "code_verifier": verifier });
    host.post(path, &link(VERIFIER))
        .await
        .assert_problem(401, "auth.required");
    ann.post(path, &link(CHALLENGE))
        .await
        .assert_problem(422, "auth.code_wrong");
    let wrong = json!({ "code": code, "code_verifier": VERIFIER, "password": "wrong wrong" });
    ann.post(path, &wrong)
        .await
        .assert_problem(401, "auth.credentials_wrong");
    // The login with it is refused in the app, too; then it goes on with the same code.
    fetch_tokens(&host, &link(VERIFIER))
        .await
        .assert_problem(409, "auth.identity_not_linked");
    let linked: Value = ann
        .post(path, &link(VERIFIER))
        .await
        .assert_status(201)
        .json();
    assert_eq!(
        (&linked["provider"], &linked["email"]),
        (&json!("shop"), &json!("ann@example.com"))
    );
    ann.post(path, &link(VERIFIER))
        .await
        .assert_problem(422, "auth.code_wrong");
    assert_eq!(browser.log_in("shop", "", ANN).await, "/welcome");
    assert_eq!(browser.is().await.as_deref(), Some("ann@example.com"));

    // It is Ann's, and neither Bob's nor twice hers.
    for user in [&bob, &ann] {
        let code = browser.login_code("shop", ANN).await;
        let link = json!({ "code": code, "code_verifier": VERIFIER });
        user.post(path, &link)
            .await
            .assert_problem(409, "auth.identity_taken");
    }
    let listed: Value = bob.get(path).await.assert_status(200).json();
    assert_eq!(listed["items"], json!([]));
    let listed: Value = ann.get(path).await.assert_status(200).json();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    bob.delete(&format!("{path}/{id}"))
        .await
        .assert_problem(404, "auth.identity_not_found");
    // A page of others cannot link or unlink with Ann's cookies.
    let code = browser.login_code("shop", "eve:eve@example.com:yes").await;
    let link = json!({ "code": code, "code_verifier": VERIFIER });
    let forged = browser.request(Method::POST, path).json(&link);
    let forged = forged.header("origin", "https://evil.example");
    browser
        .send(forged)
        .await
        .assert_problem(403, "auth.csrf_refused");
    let forged = browser.request(Method::DELETE, &format!("{path}/{id}"));
    browser
        .send(forged)
        .await
        .assert_problem(403, "auth.csrf_refused");
    let own = browser.page(Method::DELETE, &format!("{path}/{id}"));
    browser.send(own).await.assert_status(204);
    let end = browser.log_in("shop", "", ANN).await;
    assert_eq!(end, "/welcome?login_error=auth.identity_not_linked");
    log_in(&host, "ann@example.com", PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_and_a_disabled_account_count_whichever_way_one_comes() {
    let Some(server) = OidcServer::start().await else {
        return;
    };
    let host = host_with(&server, &["shop"]).await;
    let ann = host.user("ann@example.com", &[]).await;
    let mut browser = Person::new(&host);
    let code = browser.login_code("shop", ANN).await;
    let link = json!({ "code": code, "code_verifier": VERIFIER });
    ann.post("/api/auth/identities", &link)
        .await
        .assert_status(201);
    let begin = json!({ "password": PASSWORD });
    let begun: Value = ann.post("/api/auth/totp", &begin).await.json();
    let secret = totp_rs::Secret::try_from_base32(begun["secret"].as_str().unwrap()).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    let code_of = |steps: i64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        totp.generate(now.as_secs().saturating_add_signed(steps * 30))
            .to_string()
    };
    let confirm = json!({ "code": code_of(-1) });
    let confirmed = ann.post("/api/auth/totp/confirm", &confirm).await;
    let recovery: Value = confirmed.assert_status(200).json();
    let recovery = recovery["recovery_codes"][0].as_str().unwrap().to_owned();

    // In a browser: a page asks for the code.
    let end = browser.log_in("shop", "", ANN).await;
    assert_eq!(end, "/welcome?login_error=auth.totp_required");
    assert_eq!(browser.is().await, None);
    let kept = browser.cookies["__Host-gantry-login"].clone();
    let path = "/api/auth/oauth/token";
    let nothing = browser.page(Method::POST, path).json(&json!({}));
    browser
        .send(nothing)
        .await
        .assert_problem(401, "auth.totp_required");
    let wrong = browser
        .page(Method::POST, path)
        .json(&json!({ "totp": "000000" }));
    browser
        .send(wrong)
        .await
        .assert_problem(401, "auth.totp_wrong");
    // Neither a page of others nor an app that has seen the cookie.
    let right = json!({ "totp": recovery });
    let forged = browser.request(Method::POST, path).json(&right);
    let forged = forged.header("origin", "https://evil.example");
    browser
        .send(forged)
        .await
        .assert_problem(403, "auth.csrf_refused");
    let stolen = json!({ "code": kept, "code_verifier": VERIFIER, "totp": recovery });
    fetch_tokens(&host, &stolen)
        .await
        .assert_problem(422, "auth.code_wrong");
    let page = browser.page(Method::POST, path).json(&right);
    let body: Value = browser.send(page).await.assert_status(200).json();
    assert_eq!(body["token_type"], "Cookie");
    assert_eq!(browser.is().await.as_deref(), Some("ann@example.com"));
    assert!(!browser.cookies.contains_key("__Host-gantry-login"));

    // In an app: the code stays good until there is one of the factor.
    let code = browser.login_code("shop", ANN).await;
    let login = json!({ "code": code, "code_verifier": VERIFIER });
    fetch_tokens(&host, &login)
        .await
        .assert_problem(401, "auth.totp_required");
    let login = json!({ "code": code, "code_verifier": VERIFIER, "totp": code_of(0) });
    fetch_tokens(&host, &login).await.assert_status(200);

    let auth = &host.app().auth;
    let user = auth.find_user_by_email("ann@example.com").await.unwrap();
    let code = browser.login_code("shop", ANN).await;
    auth.set_disabled(user.unwrap().id, true).await.unwrap();
    let end = browser.log_in("shop", "", ANN).await;
    assert_eq!(end, "/welcome?login_error=auth.account_disabled");
    let login = json!({ "code": code, "code_verifier": VERIFIER });
    fetch_tokens(&host, &login)
        .await
        .assert_problem(403, "auth.account_disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_nobody_has_verified_is_confirmed_by_mail_before_there_is_an_account() {
    let (Some(server), Some(mail)) = (OidcServer::start().await, SmtpServer::start().await) else {
        return;
    };
    let shop = provider(
        &server,
        "shop",
        &json!({ "may_sign_up": true, "links_by_email": true }),
    );
    let host = TestHost::build()
        .with(|config| {
            with_providers(config, vec![shop]);
            mail.serve(config);
        })
        .start()
        .await;
    host.user("ann@example.com", &[]).await;
    let mut eve = Person::new(&host);
    let mut ends = Vec::new();
    // Eve says to have Ann's address, and Bob's, who has no account. She learns nothing of either.
    for who in ["eve:ann@example.com:no", "eve:bob@example.com:no"] {
        eve.there.clear();
        ends.push(eve.log_in("shop", "", who).await);
    }
    assert_eq!(ends[0], "/welcome?login_error=auth.sign_up_pending");
    assert_eq!(ends[0], ends[1]);
    let arrived = mail.wait_for(2).await;
    let to = |address: &str| {
        let found = arrived.iter().find(|mail| mail.to.contains(address));
        found.unwrap().clone()
    };
    assert!(!to("ann@example.com").whole.contains("gc_"));
    let code = to("bob@example.com").code();
    assert!(to("bob@example.com").whole.contains("login at"));
    assert_eq!(host.app().auth.count_users(), 1);
    // Only who reads Bob's mail can go on.
    host.post("/api/auth/register/confirm", &json!({ "code": code }))
        .await
        .assert_status(201);
    let end = eve.log_in("shop", "", "eve:bob@example.com:no").await;
    assert_eq!(end, "/welcome");
    assert_eq!(eve.is().await.as_deref(), Some("bob@example.com"));
    host.post("/api/auth/register/confirm", &json!({ "code": code }))
        .await
        .assert_problem(422, "auth.code_wrong");
    // Bob did not know what he confirmed. Once he sets a password, Eve is out.
    let reset = json!({ "email": "bob@example.com" });
    host.post("/api/auth/password/reset", &reset)
        .await
        .assert_status(202);
    let code = mail.wait_for(3).await.last().unwrap().code();
    let reset = json!({ "code": code, "new_password": PASSWORD });
    host.post("/api/auth/password/reset/confirm", &reset)
        .await
        .assert_status(204);
    assert_eq!(eve.is().await, None);
    let end = eve.log_in("shop", "", "eve:bob@example.com:no").await;
    assert_eq!(end, "/welcome?login_error=auth.sign_up_pending");
    log_in(&host, "bob@example.com", PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_took_an_address_before_its_owner_came_is_out_when_the_owner_comes() {
    let (Some(server), Some(mail)) = (OidcServer::start().await, SmtpServer::start().await) else {
        return;
    };
    let shop = provider(&server, "shop", &json!({ "links_by_email": true }));
    let host = TestHost::build()
        .with(|config| {
            with_providers(config, vec![shop]);
            mail.serve(config);
            config.auth.registration = Registration::Open;
        })
        .start()
        .await;
    let register = json!({ "email": "ann@example.com", "password": PASSWORD });
    host.post("/api/auth/register", &register)
        .await
        .assert_status(202);
    // Eve has opened the account, and leaves a way in.
    let eve = with(&host, &log_in(&host, "ann@example.com", PASSWORD).await);
    let mut eves = Person::new(&host);
    let code = eves.login_code("shop", "eve:eve@example.com:yes").await;
    let link = json!({ "code": code, "code_verifier": VERIFIER });
    eve.post("/api/auth/identities", &link)
        .await
        .assert_status(201);
    // Ann's login does not walk into it.
    let mut ann = Person::new(&host);
    let end = ann.log_in("shop", "", ANN).await;
    assert_eq!(end, "/welcome?login_error=auth.identity_not_linked");
    // Ann gets the account back by mail.
    host.post(
        "/api/auth/password/reset",
        &json!({ "email": "ann@example.com" }),
    )
    .await
    .assert_status(202);
    let arrived = mail.wait_for(2).await;
    let code = arrived
        .iter()
        .find(|mail| mail.whole.contains("gc_"))
        .unwrap()
        .code();
    let reset = json!({ "code": code, "new_password": "battery staple horse" });
    host.post("/api/auth/password/reset/confirm", &reset)
        .await
        .assert_status(204);
    eve.get("/api/auth/identities").await.assert_status(401);
    let end = eves.log_in("shop", "", "eve:eve@example.com:yes").await;
    assert_eq!(end, "/welcome?login_error=auth.identity_unknown");
    // Both sides have verified the address now, and the operator lets that count.
    assert_eq!(ann.log_in("shop", "", ANN).await, "/welcome");
    assert_eq!(ann.is().await.as_deref(), Some("ann@example.com"));
    let listed = ann.page(Method::GET, "/api/auth/identities");
    let listed: Value = ann.send(listed).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}
