//! Second factors over HTTP.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

/// The code of an app, computed with a program of others.
fn code_of(secret: &str, steps_ahead: i64) -> String {
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let at_s = now_s.saturating_add_signed(steps_ahead * 30);
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    totp.generate(at_s).to_string()
}

/// Ann with a second factor: her client, the secret and the recovery codes.
async fn ann_with_factor(host: &TestHost) -> (Client, String, Vec<String>) {
    let ann = host.user("ann@example.com", &[]).await;
    let begin = json!({ "password": PASSWORD });
    let begun: Value = ann
        .post("/api/auth/totp", &begin)
        .await
        .assert_status(200)
        .json();
    let secret = begun["secret"].as_str().unwrap().to_owned();
    let url = begun["url"].as_str().unwrap();
    assert!(
        url.starts_with("otpauth://totp/Gantry:ann%40example.com?"),
        "{url}"
    );
    // Begun is not confirmed.
    log_in(host, "ann@example.com", PASSWORD).await;
    let confirm = json!({ "code": code_of(&secret, -1) });
    let confirmed: Value = ann
        .post("/api/auth/totp/confirm", &confirm)
        .await
        .assert_status(200)
        .json();
    let codes = serde_json::from_value(confirmed["recovery_codes"].clone()).unwrap();
    (ann, secret, codes)
}

async fn try_code(host: &TestHost, code: &str) -> Answer {
    let login = json!({ "email": "ann@example.com", "password": PASSWORD, "code": code });
    host.post("/api/auth/login", &login).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_takes_a_code_of_the_app_and_each_only_once() {
    let host = TestHost::start().await;
    let (ann, secret, _) = ann_with_factor(&host).await;
    let plain = json!({ "email": "ann@example.com", "password": PASSWORD });
    host.post("/api/auth/login", &plain)
        .await
        .assert_problem(401, "auth.totp_required");
    // Who does not know the password learns nothing about a second factor.
    let wrong = json!({ "email": "ann@example.com", "password": "wrong wrong", "code": code_of(&secret, 0) });
    host.post("/api/auth/login", &wrong)
        .await
        .assert_problem(401, "auth.credentials_wrong");
    // The one that has confirmed was used.
    try_code(&host, &code_of(&secret, -1))
        .await
        .assert_problem(401, "auth.totp_wrong");
    let code = code_of(&secret, 0);
    try_code(&host, &code).await.assert_status(200);
    try_code(&host, &code)
        .await
        .assert_problem(401, "auth.totp_wrong");
    for nonsense in ["", "000", "abcdef", &"1".repeat(1000)] {
        let answer = try_code(&host, nonsense).await;
        assert_ne!(answer.status.as_u16(), 200, "{nonsense}");
    }
    // Whoever guesses has to wait, also with the password.
    try_code(&host, &code_of(&secret, 1))
        .await
        .assert_problem(429, "auth.too_many_attempts");
    let status: Value = ann.get("/api/auth/totp").await.json();
    assert_eq!(status, json!({ "is_on": true, "recovery_codes_left": 10 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_code_opens_once_and_removing_takes_password_and_code() {
    let host = TestHost::start().await;
    let (ann, secret, codes) = ann_with_factor(&host).await;
    assert_eq!(codes.len(), 10);
    try_code(&host, &codes[0].to_uppercase())
        .await
        .assert_status(200);
    try_code(&host, &codes[0])
        .await
        .assert_problem(401, "auth.totp_wrong");
    let status: Value = ann.get("/api/auth/totp").await.json();
    assert_eq!(status["recovery_codes_left"], 9);
    ann.post("/api/auth/totp", &json!({ "password": PASSWORD }))
        .await
        .assert_problem(409, "auth.totp_on");
    let remove = |password: &str, code: &str| json!({ "password": password, "code": code });
    let path = "/api/auth/totp/remove";
    ann.post(path, &remove("wrong wrong", &codes[1]))
        .await
        .assert_problem(401, "auth.credentials_wrong");
    ann.post(path, &remove(PASSWORD, "000000"))
        .await
        .assert_problem(401, "auth.totp_wrong");
    ann.post(path, &remove(PASSWORD, &code_of(&secret, 0)))
        .await
        .assert_status(204);
    log_in(&host, "ann@example.com", PASSWORD).await;
    ann.post(path, &remove(PASSWORD, &codes[2]))
        .await
        .assert_problem(409, "auth.totp_off");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_uses_of_one_code_at_once_are_one() {
    let host = TestHost::build()
        .with(|config| {
            config.auth.account_failures_free = 1000;
            config.auth.client_failures_free = 1000;
        })
        .start()
        .await;
    let (_, secret, codes) = ann_with_factor(&host).await;
    for code in [code_of(&secret, 0), codes[3].clone()] {
        let tries = (0..20).map(|_| try_code(&host, &code));
        let answers = futures_util::future::join_all(tries).await;
        let opened = answers
            .iter()
            .filter(|answer| answer.status.as_u16() == 200);
        assert_eq!(opened.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_helps_who_has_lost_it_and_nobody_with_less() {
    let host = TestHost::start().await;
    ann_with_factor(&host).await;
    let auth = &host.app().auth;
    let user = auth
        .find_user_by_email("ann@example.com")
        .await
        .unwrap()
        .unwrap();
    auth.set_user_roles(user.id, vec!["admin".parse().unwrap()])
        .await
        .unwrap();
    auth.create_role("clerk".parse().unwrap(), &["platform.users"])
        .await
        .unwrap();
    let clerk = host.user("clerk@example.com", &["clerk"]).await;
    let path = format!("/_gantry/api/v1/users/{}/totp", user.id);
    clerk
        .delete(&path)
        .await
        .assert_problem(403, "auth.permission_beyond");
    let admin = host.admin();
    admin.delete(&path).await.assert_status(204);
    admin
        .delete(&path)
        .await
        .assert_problem(409, "auth.totp_off");
    log_in(&host, "ann@example.com", PASSWORD).await;
}
