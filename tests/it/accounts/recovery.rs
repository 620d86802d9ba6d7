//! Passwords that are changed, or were forgotten.

use gantry_harness::{Mail, SmtpServer};

use super::*;

const NEW: &str = "an entirely new one";

async fn host_with(server: &SmtpServer) -> TestHost {
    let host = TestHost::build().with(|config| server.serve(config));
    let host = host.start().await;
    host.user("ann@example.com", &[]).await;
    host
}

async fn ask(host: &TestHost, email: &str) -> Answer {
    let body = json!({ "email": email });
    host.post("/api/auth/password/reset", &body).await
}

async fn set(host: &TestHost, code: &str, password: &str) -> Answer {
    let body = json!({ "code": code, "new_password": password });
    host.post("/api/auth/password/reset/confirm", &body).await
}

async fn newest(server: &SmtpServer, count: usize) -> Mail {
    server.wait_for(count).await.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_can_read_the_mail_sets_a_new_password_and_all_sessions_end() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server).await;
    let before = log_in(&host, "ann@example.com", PASSWORD).await;
    ask(&host, "ann@example.com").await.assert_status(202);
    // Before the second is asked for: which of two arrives first is not said.
    let first = server.wait_for(1).await.remove(0);
    ask(&host, "ann@example.com").await.assert_status(202);
    let second = newest(&server, 2).await;
    assert_eq!(first.subject, "Set a new password for Gantry");
    // Asking changes nothing.
    with(&host, &before)
        .get("/api/auth/me")
        .await
        .assert_status(200);
    set(&host, &second.code(), "short")
        .await
        .assert_problem(422, "auth.password_too_short");
    set(&host, &second.code(), NEW).await.assert_status(204);
    for used in [first, second] {
        set(&host, &used.code(), "yet another one")
            .await
            .assert_problem(422, "auth.code_wrong");
    }
    with(&host, &before)
        .get("/api/auth/me")
        .await
        .assert_problem(401, "auth.token_revoked");
    refresh(&host, &before["refresh_token"])
        .await
        .assert_status(401);
    let old = json!({ "email": "ann@example.com", "password": PASSWORD });
    host.post("/api/auth/login", &old).await.assert_status(401);
    log_in(&host, "ann@example.com", NEW).await;
    // Which of those that arrive within a moment is the last is not said.
    let mails = server.wait_for(3).await;
    let is_told = |mail: &Mail| mail.subject == "Your password for Gantry was changed";
    assert!(mails.iter().any(is_told), "{}", mails.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_a_reset_tells_nobody_which_addresses_have_an_account() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server).await;
    let mut answers = Vec::new();
    for email in ["nobody@example.com", "ann@example.com"] {
        let answer = ask(&host, email).await.assert_status(202);
        let mut headers = answer.headers.clone();
        for own in ["x-request-id", "date", "ratelimit"] {
            headers.remove(own);
        }
        answers.push((headers, answer.body.clone()));
    }
    assert_eq!(answers[0], answers[1]);
    let mails = server.wait_for(1).await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].to, "ann@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_used_many_times_at_once_counts_once() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = host_with(&server).await;
    ask(&host, "ann@example.com").await.assert_status(202);
    let code = newest(&server, 1).await.code();
    let passwords: Vec<String> = (0..4).map(|at| format!("{NEW} {at}")).collect();
    let tries = passwords.iter().map(|password| set(&host, &code, password));
    let answers = futures_util::future::join_all(tries).await;
    let done: Vec<usize> = (0..4)
        .filter(|&at| answers[at].status.as_u16() == 204)
        .collect();
    assert_eq!(done.len(), 1);
    log_in(&host, "ann@example.com", &passwords[done[0]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_old_password_changes_it_and_stays_logged_in_here_only() {
    let host = TestHost::start().await;
    host.user("ann@example.com", &[]).await;
    let here = log_in(&host, "ann@example.com", PASSWORD).await;
    let there = log_in(&host, "ann@example.com", PASSWORD).await;
    let client = with(&host, &here);
    let change = |old: &str, new: &str| json!({ "old_password": old, "new_password": new });
    client
        .post("/api/auth/password", &change("wrong wrong", NEW))
        .await
        .assert_problem(401, "auth.credentials_wrong");
    client
        .post("/api/auth/password", &change(PASSWORD, "short"))
        .await
        .assert_problem(422, "auth.password_too_short");
    host.post("/api/auth/password", &change(PASSWORD, NEW))
        .await
        .assert_problem(401, "auth.required");
    let next: Value = client
        .post("/api/auth/password", &change(PASSWORD, NEW))
        .await
        .assert_status(200)
        .json();
    for ended in [&here, &there] {
        with(&host, ended)
            .get("/api/auth/me")
            .await
            .assert_problem(401, "auth.token_revoked");
    }
    with(&host, &next)
        .get("/api/auth/me")
        .await
        .assert_status(200);
    log_in(&host, "ann@example.com", NEW).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_the_old_password_is_slowed() {
    let host = TestHost::start().await;
    host.user("ann@example.com", &[]).await;
    let here = log_in(&host, "ann@example.com", PASSWORD).await;
    let client = with(&host, &here);
    let wrong = json!({ "old_password": "wrong wrong", "new_password": NEW });
    for _ in 0..5 {
        client
            .post("/api/auth/password", &wrong)
            .await
            .assert_problem(401, "auth.credentials_wrong");
    }
    client
        .post("/api/auth/password", &wrong)
        .await
        .assert_problem(429, "auth.too_many_attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_told_when_a_session_was_copied() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = TestHost::build()
        .with(|config| {
            server.serve(config);
            config.auth.refresh_grace_ms = 0;
        })
        .start()
        .await;
    host.user("ann@example.com", &[]).await;
    let first = log_in(&host, "ann@example.com", PASSWORD).await;
    refresh(&host, &first["refresh_token"])
        .await
        .assert_status(200);
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    refresh(&host, &first["refresh_token"])
        .await
        .assert_problem(401, "auth.refresh_reused");
    refresh(&host, &first["refresh_token"])
        .await
        .assert_problem(401, "auth.refresh_invalid");
    let mails = server.wait_for(1).await;
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].subject, "You were logged out of Gantry");
    assert_eq!(mails[0].to, "ann@example.com");
}
