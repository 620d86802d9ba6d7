//! Accounts that people open themselves, with mail that arrives at a real server.

use std::time::{Duration, Instant};

use gantry::auth::Registration;
use gantry_harness::SmtpServer;

use super::*;

async fn host_with(server: &SmtpServer, registration: Registration) -> TestHost {
    TestHost::build()
        .with(|config| {
            server.serve(config);
            config.auth.registration = registration;
            config.auth.service_name = "Example".to_owned();
            config.auth.confirm_link = "https://example.com/confirm?code={code}".to_owned();
        })
        .start()
        .await
}

async fn register(host: &TestHost, email: &str) -> Answer {
    let body = json!({ "email": email, "password": PASSWORD });
    host.post("/api/auth/register", &body).await
}

async fn confirm(host: &TestHost, code: &str) -> Answer {
    let body = json!({ "code": code });
    host.post("/api/auth/register/confirm", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_opened_by_whoever_can_read_the_mail() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server, Registration::Confirmed).await;
    register(&host, " Ann@Example.org ")
        .await
        .assert_status(202);
    let mail = server.wait_for(1).await.remove(0);
    assert_eq!(mail.to, "ann@example.org");
    assert_eq!(mail.subject, "Confirm your e-mail address for Example");
    assert!(mail.whole.contains("https://example.com/confirm?code=gc_"));
    assert!(mail.whole.contains("Auto-Submitted: auto-generated"));
    // Until then there is no account.
    let login = json!({ "email": "ann@example.org", "password": PASSWORD });
    host.post("/api/auth/login", &login)
        .await
        .assert_problem(401, "auth.credentials_wrong");
    let user: Value = confirm(&host, &mail.code()).await.assert_status(201).json();
    assert_eq!(user["email"], "ann@example.org");
    assert_eq!(user["roles"], json!([]));
    log_in(&host, "ann@example.org", PASSWORD).await;
    // Once is enough.
    confirm(&host, &mail.code())
        .await
        .assert_problem(422, "auth.code_wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_tells_nobody_which_addresses_have_an_account() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server, Registration::Confirmed).await;
    host.user("ann@example.com", &[]).await;
    let mut answers = Vec::new();
    for email in ["ann@example.com", "nobody@example.com"] {
        let began = Instant::now();
        let answer = register(&host, email).await.assert_status(202);
        let took = began.elapsed();
        // On the beat, whatever was to be done.
        assert!(took >= Duration::from_millis(249), "{took:?}");
        let mut headers = answer.headers.clone();
        for own in ["x-request-id", "date", "ratelimit"] {
            headers.remove(own);
        }
        answers.push((headers, answer.body.clone()));
    }
    assert_eq!(answers[0], answers[1]);
    let mails = server.wait_for(2).await;
    let to = |email: &str| mails.iter().find(|mail| mail.to == email).unwrap();
    assert_eq!(
        to("ann@example.com").subject,
        "You have an account at Example"
    );
    assert!(!to("ann@example.com").whole.contains("gc_"));
    assert!(to("nobody@example.com").whole.contains("gc_"));
    // The password of somebody's account is not changed by whoever registers it again.
    log_in(&host, "ann@example.com", PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_is_not_written_to_again_and_again() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server, Registration::Confirmed).await;
    for _ in 0..6 {
        register(&host, "ann@example.org").await.assert_status(202);
    }
    server.wait_for(3).await;
    register(&host, "bob@example.org").await.assert_status(202);
    let mails = server.wait_for(4).await;
    let to_ann = mails.iter().filter(|mail| mail.to == "ann@example.org");
    assert_eq!(to_ann.count(), 3);
    assert_eq!(mails.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_cannot_be_guessed_and_are_good_for_one_thing() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = TestHost::build()
        .with(|config| {
            server.serve(config);
            config.auth.registration = Registration::Confirmed;
            config.auth.account_failures_free = 7;
        })
        .start()
        .await;
    register(&host, "ann@example.org").await.assert_status(202);
    let code = server.wait_for(1).await.remove(0).code();
    let reset = json!({ "code": code, "new_password": PASSWORD });
    host.post("/api/auth/password/reset/confirm", &reset)
        .await
        .assert_problem(422, "auth.code_wrong");
    for text in ["", "gc_", "x", &"g".repeat(3000)] {
        confirm(&host, text)
            .await
            .assert_problem(422, "auth.code_wrong");
    }
    // The right code with another secret: after five tries it is worth nothing, and whoever tries has to wait.
    let mut wrong = code.clone().into_bytes();
    let last = wrong.len() - 5;
    wrong[last] = if wrong[last] == b'A' { b'B' } else { b'A' };
    let wrong = String::from_utf8(wrong).unwrap();
    let mut codes = Vec::new();
    for _ in 0..7 {
        codes.push(confirm(&host, &wrong).await.code());
    }
    assert_eq!(codes[0], "auth.code_wrong");
    assert_eq!(codes[6], "auth.too_many_attempts");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    confirm(&host, &code)
        .await
        .assert_problem(422, "auth.code_wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_open_at_once_where_the_operator_lets_them_and_nowhere_else() {
    let host = TestHost::start().await;
    register(&host, "ann@example.org")
        .await
        .assert_problem(403, "auth.registration_off");
    let host = TestHost::build()
        .with(|config| config.auth.registration = Registration::Open)
        .start()
        .await;
    register(&host, "ann")
        .await
        .assert_problem(422, "auth.email_invalid");
    let short = json!({ "email": "ann@example.org", "password": "short" });
    host.post("/api/auth/register", &short)
        .await
        .assert_problem(422, "auth.password_too_short");
    register(&host, "ann@example.org").await.assert_status(202);
    let body = log_in(&host, "ann@example.org", PASSWORD).await;
    assert_eq!(body["user"]["roles"], json!([]));
    let again = json!({ "email": "ann@example.org", "password": "another password" });
    host.post("/api/auth/register", &again)
        .await
        .assert_status(202);
    log_in(&host, "ann@example.org", PASSWORD).await;
    // Without mail there is no other way to a new password than an administrator.
    let reset = json!({ "email": "ann@example.org" });
    host.post("/api/auth/password/reset", &reset)
        .await
        .assert_problem(403, "auth.reset_off");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_begin_with_the_roles_of_the_settings_or_not_at_all() {
    let api = "/_gantry/api/v1";
    let host = TestHost::build()
        .with(|config| {
            config.auth.registration = Registration::Open;
            config.auth.registration_roles = vec!["customer".parse().unwrap()];
        })
        .start()
        .await;
    let idle = async || -> Value {
        let status = host.admin().get(&format!("{api}/status")).await;
        status.assert_status(200).json::<Value>()["idle_settings"].clone()
    };
    // Nobody has made the role yet.
    let told = "`auth.registration_roles`: there is no role `customer`; make it with `gantry role create customer`";
    assert_eq!(idle().await, json!([told]));
    let refused = register(&host, "ann@example.org").await;
    assert!(refused.header("retry-after").is_some());
    refused.assert_problem(503, "auth.roles_missing");

    let role = json!({ "name": "customer", "permissions": [] });
    let made = host.admin().post(&format!("{api}/roles"), &role).await;
    made.assert_status(201);
    assert_eq!(idle().await, json!([]));
    let path = format!("{api}/roles/customer");
    let kept = host.admin().delete(&path).await;
    let kept = kept.assert_problem(409, "auth.role_in_use");
    assert!(
        kept.text().contains("auth.registration_roles"),
        "{}",
        kept.text()
    );
    register(&host, "ann@example.org").await.assert_status(202);
    let body = log_in(&host, "ann@example.org", PASSWORD).await;
    assert_eq!(body["user"]["roles"], json!(["customer"]));
    host.stop().await;
}
