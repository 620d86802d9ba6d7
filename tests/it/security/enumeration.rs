//! Whether answers tell which addresses have an account. Beside status, headers and body, the work counts: what costs as much
//! takes as long, and counting it is no matter of luck.

use gantry::auth::Registration;
use gantry_harness::{Answer, SmtpServer};

use super::*;

/// An answer without what differs from one request to the next.
fn plain(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let own = ["x-request-id", "date", "ratelimit", "ratelimit-policy"];
    let headers = answer.headers.iter();
    let headers = headers.filter(|(name, _)| !own.contains(&name.as_str()));
    let mut headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if let Some(body) = body.as_object_mut() {
        body.remove("request_id");
    }
    (answer.status.as_u16(), headers, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_is_the_same_answer_and_the_same_work_for_every_address() {
    let host = TestHost::start().await;
    let admin = host.admin();
    for name in ["ann", "disabled", "factor"] {
        host.user(&format!("{name}@example.com"), &["admin"]).await;
    }
    let auth = &host.app().auth;
    let disabled = auth.find_user_by_email("disabled@example.com").await;
    let disabled = disabled.unwrap().unwrap().id;
    auth.set_disabled(disabled, true).await.unwrap();
    let tokens = log_in(&host, "factor@example.com").await;
    let factor = host.with_token(tokens["access_token"].as_str().unwrap());
    let begin = json!({ "password": PASSWORD });
    let begun = factor.post("/api/auth/totp", &begin).await;
    begun.assert_status(200);
    let mut seen = Vec::new();
    for email in [
        "nobody@example.com",
        "ann@example.com",
        "ANN@example.com",
        "disabled@example.com",
        "factor@example.com",
        "nobody@elsewhere.example",
    ] {
        let before = metric(&admin, "gantry_passwords_hashed_total").await;
        let login = json!({ "email": email, "password": "wrong wrong wrong" });
        let answer = host.post("/api/auth/login", &login).await;
        let hashed = metric(&admin, "gantry_passwords_hashed_total").await - before;
        assert_eq!(hashed, 1, "{email}");
        assert_eq!(answer.code(), "auth.credentials_wrong", "{email}");
        seen.push(plain(&answer));
    }
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:#?}");

    // Who guesses has to wait, whether or not there is anybody: the same number of tries, the same answer, and no work.
    let mut waits = Vec::new();
    for email in ["ann@example.com", "nobody@example.com"] {
        let login = json!({ "email": email, "password": "wrong wrong wrong" });
        let mut tries = 0;
        let refused = loop {
            let answer = host.post("/api/auth/login", &login).await;
            if answer.status == 429 {
                break answer;
            }
            tries += 1;
            assert!(tries < 50, "nobody has to wait");
        };
        waits.push((
            tries,
            refused.code(),
            refused.text().contains("example.com"),
        ));
        let before = metric(&admin, "gantry_passwords_hashed_total").await;
        host.post("/api/auth/login", &login).await;
        let after = metric(&admin, "gantry_passwords_hashed_total").await;
        assert_eq!(after, before, "{email}");
    }
    // Both have failed before: `ann` twice, in small and large letters.
    assert_eq!((waits[0].0 + 1, &waits[0].1), (waits[1].0, &waits[1].1));
    assert!(!waits[0].2 && !waits[1].2);
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_and_asking_for_a_reset_cost_the_same_for_every_address() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    for registration in [Registration::Confirmed, Registration::Open] {
        let host = TestHost::build().with(|config| {
            server.serve(config);
            config.auth.registration = registration;
        });
        let host = host.start().await;
        let admin = host.admin();
        host.user("ann@example.com", &[]).await;
        for (path, hashes) in [("register", 1), ("password/reset", 0)] {
            let mut seen = Vec::new();
            for email in ["nobody@example.com", "ann@example.com"] {
                let mut body = json!({ "email": email });
                if path == "register" {
                    body["password"] = json!("quite a new password");
                }
                let before = metric(&admin, "gantry_passwords_hashed_total").await;
                let began = std::time::Instant::now();
                let answer = host.post(&format!("/api/auth/{path}"), &body).await;
                // On the beat, whatever there was to do.
                let took = began.elapsed();
                assert!(
                    took >= Duration::from_millis(249),
                    "{path} {email}: {took:?}"
                );
                let hashed = metric(&admin, "gantry_passwords_hashed_total").await - before;
                assert_eq!(hashed, hashes, "{path} {email} {registration:?}");
                seen.push(plain(&answer));
            }
            assert_eq!(seen[0], seen[1], "{path} {registration:?}");
        }
    }
}
