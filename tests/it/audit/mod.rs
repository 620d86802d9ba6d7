//! The audit trail: everything that changes the host leaves an event, so does who is turned away, and nobody changes it
//! unnoticed.

mod changes;

use std::{path::Path, time::Duration};

use gantry::{
    app::AUDIT_KEY,
    audit::read_heads,
    auth::Keys,
    db::Db,
    ledger::{Report, verify, verifying_key},
};
use gantry_harness::{Client, Process, SmtpServer, TestHost, guests::guest, pack};
use http::Method;
use serde_json::{Value, json};

use crate::cli;
use crate::manifests;

const API: &str = "/_gantry/api/v1";
const PASSWORD: &str = "correct horse battery";

/// A bundle of `hello` in some version.
fn with(version: &str, name: &str, more: &str) -> bytes::Bytes {
    let manifest = manifests::with("hello", more);
    let manifest = manifest.replace("version = \"1.0.0\"", &format!("version = \"{version}\""));
    pack(&manifest, &guest(name), &[])
}

/// Events that fit, newest first.
async fn events(client: &Client, query: &str) -> Vec<Value> {
    let path = format!("{API}/audit?limit=200&{query}");
    let page: Value = client.get(&path).await.assert_status(200).json();
    page["items"].as_array().unwrap().clone()
}

/// The same, when there are some: what belongs to no change is written a moment later.
async fn some_events(client: &Client, query: &str) -> Vec<Value> {
    for _ in 0..200 {
        let found = events(client, query).await;
        if !found.is_empty() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no event: {query}")
}

/// What a host's folder says of its trail, as `gantry audit verify` would.
async fn look(data_dir: &Path, config: &gantry::db::Config) -> Report {
    let key = verifying_key(&Keys::open(data_dir).unwrap().derive(AUDIT_KEY));
    let (heads, problems) = read_heads(data_dir).unwrap();
    assert_eq!(problems, Vec::<String>::new());
    let rows = Db::look(&data_dir.join("gantry.db"), config).await.unwrap();
    let report = verify(&rows, &key, &heads).await.unwrap();
    rows.close().await;
    report
}

async fn log_in(host: &TestHost, email: &str, password: &str) -> Value {
    let login = json!({ "email": email, "password": password });
    host.post("/api/auth/login", &login)
        .await
        .assert_status(200)
        .json()
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_failures_and_refusals_are_recorded_with_who_and_from_where() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let ann = host.user("ann@example.com", &[]).await;
    let me: Value = ann.get("/api/auth/me").await.json();
    let id = me["id"].as_str().unwrap();

    let begun = &events(&admin, "action=session.begun").await[0];
    assert_eq!(
        (&begun["actor_kind"], &begun["actor"]),
        (&json!("user"), &me["id"])
    );
    assert_eq!(begun["address"], "127.0.0.1");

    let login = json!({ "email": "ann@example.com", "password": "wrong horse" });
    for _ in 0..3 {
        host.post("/api/auth/login", &login)
            .await
            .assert_status(401);
    }
    let failed = some_events(&admin, "action=login.failed").await;
    assert_eq!(failed.len(), 1, "the same is counted: {failed:?}");
    assert_eq!(
        (&failed[0]["target"], &failed[0]["actor_kind"]),
        (&me["id"], &json!("anonymous"))
    );
    let login = json!({ "email": "nobody-4711@example.com", "password": "wrong horse" });
    host.post("/api/auth/login", &login)
        .await
        .assert_status(401);
    some_events(&admin, "action=login.failed&target=unknown%20account").await;

    // Somebody who may not, and a credential that is none.
    ann.get(&format!("{API}/users"))
        .await
        .assert_problem(403, "auth.permission_missing");
    let refused = &some_events(&admin, "action=permission.refused").await[0];
    assert_eq!(
        (&refused["actor"], &refused["outcome"]),
        (&me["id"], &json!("refused"))
    );
    assert_eq!(refused["target"], format!("GET {API}/users"));
    host.with_token("gk_0123456789abcdef_nonsense")
        .get(&format!("{API}/users"))
        .await;
    some_events(&admin, "action=credential.refused").await;
    // A change that did not work.
    let role = json!({ "name": "reader", "permissions": ["nonsense"] });
    admin
        .post(&format!("{API}/roles"), &role)
        .await
        .assert_problem(422, "auth.permission_invalid");
    let failed = &some_events(&admin, "action=admin.failed").await[0];
    assert_eq!(failed["detail"]["code"], "auth.permission_invalid");

    let session = events(&admin, &format!("actor={id}&action=session.begun")).await;
    assert_eq!(session.len(), 1);
    let trail = admin.get(&format!("{API}/audit/export")).await.text();
    assert!(!trail.contains("nobody-4711") && !trail.contains("wrong horse"));
    // Only who may reads it.
    ann.get(&format!("{API}/audit"))
        .await
        .assert_problem(403, "auth.permission_missing");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_was_copied_is_an_event_and_an_alert() {
    let host = TestHost::build()
        .with(|config| config.auth.refresh_grace_ms = 0)
        .start()
        .await;
    let admin = host.admin();
    host.user("ann@example.com", &[]).await;
    let tokens = log_in(&host, "ann@example.com", PASSWORD).await;
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    host.post("/api/auth/refresh", &body)
        .await
        .assert_status(200);
    tokio::time::sleep(Duration::from_millis(5)).await;
    host.post("/api/auth/refresh", &body)
        .await
        .assert_problem(401, "auth.refresh_reused");
    let reused = &some_events(&admin, "action=refresh_token.reused").await[0];
    assert_eq!(reused["detail"]["session"], tokens["session"]);
    let alert = &some_events(&admin, "action=security.token_reused").await[0];
    assert_eq!(
        (&alert["outcome"], &alert["target"]),
        (&json!("noticed"), &reused["target"])
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_many_accounts_raise_one_alert() {
    let host = TestHost::start().await;
    let admin = host.admin();
    for at in 0..12 {
        let login = json!({ "email": format!("user{at}@example.com"), "password": "password1" });
        host.post("/api/auth/login", &login)
            .await
            .assert_status(401);
    }
    let alerts = some_events(&admin, "action=security.*").await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0]["action"], "security.credential_stuffing");
    assert_eq!(
        (&alerts[0]["target"], &alerts[0]["detail"]["accounts"]),
        (&json!("127.0.0.1"), &json!(10))
    );
    let metrics = admin.get("/metrics").await.text();
    let line = "gantry_security_events_total{event=\"security.credential_stuffing\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_of_what_is_suspicious_by_mail_once() {
    let Some(server) = SmtpServer::start().await else {
        return;
    };
    let host = TestHost::build().with(|config| {
        server.serve(config);
        config.audit.notify_email = "ops@example.com".to_owned();
    });
    let host = host.start().await;
    for at in 0..25 {
        let login = json!({ "email": format!("user{at}@example.com"), "password": "password1" });
        host.post("/api/auth/login", &login).await;
    }
    let mails = server.wait_for(1).await;
    assert_eq!(
        (&*mails[0].to, &*mails[0].subject),
        (
            "ops@example.com",
            "Gantry noticed security.credential_stuffing"
        )
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.wait_for(1).await.len(), 1, "once for an hour");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_asks_for_and_was_not_granted_is_recorded_once_in_a_while() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let more = "[capabilities]\nhttp = [{ host = \"api.example.com\" }]\n[[capabilities.secrets]]\nlabel = \"pepper\"\nuse = \"reveal\"\n";
    let manifest = manifests::with("secrets", more);
    host.deploy(&manifest, guest("secrets")).await;
    for _ in 0..50 {
        host.get("/secrets/reveal?label=stripe")
            .await
            .assert_problem(502, "capability.not_granted");
    }
    let refused = some_events(&admin, "action=capability.refused").await;
    assert_eq!(refused.len(), 1, "{refused:?}");
    let refused = &refused[0];
    assert_eq!(refused["target"], "secrets/secrets:stripe");
    assert_eq!(
        (&refused["actor_kind"], &refused["actor"]),
        (&json!("plugin"), &json!("secrets"))
    );
    assert!(!refused["request_id"].as_str().unwrap().is_empty());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_in_between_leaves_a_whole_trail() {
    let mut server = Process::start("").await;
    for kill in 0..8_u64 {
        let work = async {
            for turn in 0..20 {
                let role = json!({ "name": format!("role-{kill}-{turn}"), "permissions": [] });
                let request = server
                    .request(Method::POST, &format!("{API}/roles"))
                    .json(&role);
                let _ = server.try_send(request).await;
                let request = server.request(Method::GET, &format!("{API}/nothing"));
                let _ = server.try_send(request).await;
            }
        };
        let instant = Duration::from_millis(20 + kill * 37);
        let _ = tokio::time::timeout(instant, work).await;
        server = server.kill_and_restart().await;
        let report = look(&server.data_dir(), &Default::default()).await;
        assert_eq!(report.findings, [], "after {instant:?}");
    }
    // Each role that is there has its event, and each event its role.
    let made = events(&server, "action=role.created&outcome=done")
        .await
        .len();
    let roles: Value = server.get(&format!("{API}/roles?limit=200")).await.json();
    assert_eq!(
        made,
        roles["items"].as_array().unwrap().len() - 1,
        "the built-in one aside"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_exports_and_verifies() {
    let host = TestHost::start().await;
    host.user("ann@example.com", &[]).await;
    let desk = tempfile::tempdir().unwrap();
    let export = desk.path().join("trail.ndjson");
    let run = |words: String| {
        let (host, folder) = (&host, desk.path());
        async move {
            let words = format!("audit {words}");
            let args: Vec<&str> = words.split(' ').collect();
            let output = cli::run(host, folder, &args).await;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (
                output.status.success(),
                text(&output.stdout),
                text(&output.stderr),
            )
        }
    };
    let (is_ok, text, _) = run("list --action user.created".to_owned()).await;
    assert!(
        is_ok && text.contains("user.created") && !text.contains("session.begun"),
        "{text}"
    );
    let (is_ok, text, error) = run("verify".to_owned()).await;
    assert!(is_ok && text.starts_with("ok: "), "{text}{error}");
    let (_, lines, _) = run("export".to_owned()).await;
    std::fs::write(&export, &lines).unwrap();
    let (_, key, _) = run("key".to_owned()).await;
    let file = export.display().to_string();
    let checked = |key: &str| format!("verify --file {file} --key {}", key.trim());
    let (is_ok, text, error) = run(checked(&key)).await;
    assert!(is_ok, "{text}{error}");
    std::fs::write(&export, lines.replacen("user.created", "user.deleted", 1)).unwrap();
    let (is_ok, text, _) = run(checked(&key)).await;
    assert!(!is_ok && text.contains("WRONG event"), "{text}");
    // An export from before shows that the end of the rows was cut off.
    std::fs::write(&export, &lines).unwrap();
    let rows = rusqlite::Connection::open(host.data_dir().join("gantry.db")).unwrap();
    rows.execute("DELETE FROM audit_events WHERE seq > 1", [])
        .unwrap();
    let (is_ok, text, _) = run(format!("verify --checkpoint {file}")).await;
    // Something may have been written behind the cut meanwhile.
    let is_found = text.contains("the end is missing") || text.contains("are missing");
    assert!(!is_ok && is_found, "{text}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_tells_which_settings_are_others_than_before() {
    let host = TestHost::build()
        .with(|config| config.docs.title = "Ask ops@example.com".to_owned())
        .start()
        .await;
    let first = events(&host.admin(), "action=host.started").await.remove(0);
    assert_eq!(first["detail"]["before"], Value::Null);
    assert!(!first.to_string().contains("ops@example.com"));
    let host = host
        .restart_as(|config| config.gateway.request_timeout_ms = 12_345)
        .await;
    let second = events(&host.admin(), "action=host.started").await.remove(0);
    assert_eq!(
        second["detail"]["after"]["gateway.request_timeout_ms"],
        12_345
    );
    assert_eq!(
        second["detail"]["before"]["gateway.request_timeout_ms"],
        Value::Null
    );
    host.stop().await;
}
