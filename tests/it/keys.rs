//! Keys of programs over HTTP: their secrets change under load, and others ask whose they are.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gantry_harness::{Answer, Client, TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use crate::cli;
use crate::manifests;

const API: &str = "/_gantry/api/v1";

async fn key(host: &TestHost, more: Value) -> (String, String) {
    let mut new = json!({ "name": "till", "roles": ["admin"] });
    new.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let made = host
        .admin()
        .post(&format!("{API}/api-keys"), &new)
        .await
        .assert_status(201);
    let made: Value = made.json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

async fn introspect(client: &Client, token: &str) -> Answer {
    let request = client.request(Method::POST, "/api/auth/introspect");
    // Tokens and keys are made of letters that need no encoding.
    let form = format!("token={token}&token_type_hint=access_token");
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    client.send(request.body(form)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_change_under_load_and_no_request_fails() {
    let host = TestHost::start().await;
    let (id, token) = key(&host, json!({ "overlap_s": 60 })).await;
    let held = std::sync::Mutex::new(token);
    let (is_over, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let work = async {
        while !is_over.load(Ordering::Relaxed) {
            let token = held.lock().unwrap().clone();
            host.with_token(&token)
                .get("/api/auth/me")
                .await
                .assert_status(200);
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let changes = async {
        for at in 0..6 {
            let before = asked.load(Ordering::Relaxed);
            let token = held.lock().unwrap().clone();
            let changed = match at % 2 {
                // By hand, and by the program itself.
                0 => {
                    host.admin()
                        .post(&format!("{API}/api-keys/{id}/rotate"), &json!({}))
                        .await
                }
                _ => {
                    host.with_token(&token)
                        .post("/api/auth/key/rotate", &json!({}))
                        .await
                }
            };
            let changed: Value = changed.assert_status(200).json();
            // The program goes on with the old one for a moment.
            while asked.load(Ordering::Relaxed) < before + 3 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            *held.lock().unwrap() = changed["token"].as_str().unwrap().to_owned();
            while asked.load(Ordering::Relaxed) < before + 6 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, changes);
    let token = held.into_inner().unwrap();
    let shown: Value = host.with_token(&token).get("/api/auth/key").await.json();
    assert_eq!(shown["id"], json!(id));
    assert!(
        shown["previous_until"].is_string() && shown["token"].is_null(),
        "{shown}"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_no_more_than_its_scopes_and_only_from_its_networks() {
    let host = TestHost::start().await;
    let (_, token) = key(
        &host,
        json!({ "scopes": ["platform.read"], "networks": ["127.0.0.1"] }),
    )
    .await;
    let till = host.with_token(&token);
    till.get(&format!("{API}/status")).await.assert_status(200);
    till.get(&format!("{API}/users"))
        .await
        .assert_problem(403, "auth.permission_missing");
    let (_, token) = key(&host, json!({ "networks": ["192.0.2.0/24"] })).await;
    let elsewhere = host.with_token(&token);
    elsewhere
        .get(&format!("{API}/status"))
        .await
        .assert_problem(401, "auth.key_elsewhere");
    elsewhere
        .get("/api/auth/me")
        .await
        .assert_problem(401, "auth.key_elsewhere");
    for wrong in [
        json!({ "networks": ["192.0.2.0/33"] }),
        json!({ "scopes": ["platform.raed"] }),
        json!({ "scopes": ["shop:orders.*"] }),
        json!({ "scopes": ["two words"] }),
        json!({ "rate": { "limit": 0, "window_s": 1 } }),
    ] {
        let mut new = json!({ "name": "till", "roles": ["admin"] });
        new.as_object_mut()
            .unwrap()
            .extend(wrong.as_object().unwrap().clone());
        let answer = host.admin().post(&format!("{API}/api-keys"), &new).await;
        assert_eq!(answer.status.as_u16(), 422, "{wrong}: {}", answer.text());
    }
    // A word that is no permission gives none, and the answer says that it is one.
    let new = json!({ "name": "till", "roles": ["admin"], "scopes": ["orders.read"] });
    let made = host.admin().post(&format!("{API}/api-keys"), &new).await;
    let made: Value = made.assert_status(201).json();
    assert_eq!(made["free_scopes"], json!(["orders.read"]));
    let word = host.with_token(made["token"].as_str().unwrap());
    word.get("/api/auth/me").await.assert_status(200);
    word.get(&format!("{API}/status"))
        .await
        .assert_problem(403, "auth.permission_missing");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_rate_is_held_to_it_whatever_others_do() {
    let host = TestHost::start().await;
    let routes = "[[route]]\nmethod = \"GET\"\npath = \"/mine\"\n\
                  [[route]]\nmethod = \"GET\"\npath = \"/few\"\n\
                  limits = [{ name = \"few\", limit = 1, window = \"1h\", key = \"api-key\" }]\n";
    let eight: Vec<String> = (1..=8)
        .map(|at| format!("{{ name = \"l{at}\", limit = 9, window = \"1h\" }}"))
        .collect();
    let many = format!(
        "{routes}[[route]]\nmethod = \"GET\"\npath = \"/many\"\nlimits = [{}]\n",
        eight.join(", ")
    );
    let manifest = manifests::with("hello", &many);
    host.deploy(&manifest, guest("hello-v1")).await;
    let (_, slow) = key(&host, json!({ "rate": { "limit": 3, "window_s": 3600 } })).await;
    let (_, other) = key(&host, json!({ "rate": { "limit": 3, "window_s": 3600 } })).await;
    let (_, free) = key(&host, json!({})).await;
    let (slow, other, free) = (
        host.with_token(&slow),
        host.with_token(&other),
        host.with_token(&free),
    );
    let told = slow.get("/hello/few").await.assert_status(200);
    let policies = told.header("ratelimit-policy").unwrap();
    assert!(policies.starts_with("\"few\";q=1;"), "{policies}");
    assert!(policies.contains("\"api-key\";q=3;w=3600"), "{policies}");
    // What the route refuses is not charged to the key.
    for _ in 0..5 {
        let refused = slow.get("/hello/few").await;
        refused.assert_problem(429, "limit.quota_exceeded");
    }
    for left in [1, 0] {
        let told = slow.get("/hello/mine").await.assert_status(200);
        let limit = told.header("ratelimit").unwrap();
        assert!(
            limit.starts_with(&format!("\"api-key\";r={left};")),
            "{limit}"
        );
    }
    let refused = slow.get("/hello/mine").await;
    assert!(refused.header("retry-after").is_some());
    refused.assert_problem(429, "limit.quota_exceeded");
    // As many limits as a route can have, and that of the key.
    let told = other.get("/hello/many").await.assert_status(200);
    assert_eq!(told.header("ratelimit").unwrap().split(',').count(), 9);
    for _ in 0..10 {
        free.get("/hello/mine").await.assert_status(200);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_servers_ask_whose_a_token_is_and_strangers_do_not() {
    let host = TestHost::start().await;
    let role = json!({ "name": "asker", "permissions": ["platform.introspect"] });
    host.admin()
        .post(&format!("{API}/roles"), &role)
        .await
        .assert_status(201);
    let (_, token) = key(&host, json!({ "roles": ["asker"] })).await;
    let asker = host.with_token(&token);
    host.user("ann@example.com", &[]).await;
    let login = json!({ "email": "ann@example.com", "password": "correct horse battery" });
    let tokens: Value = host.post("/api/auth/login", &login).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    let ann = host.with_token(access);

    let told = introspect(&asker, access).await.assert_status(200);
    assert_eq!(told.header("cache-control"), Some("no-store"));
    let told: Value = told.json();
    let me: Value = ann.get("/api/auth/me").await.json();
    assert_eq!(
        (&told["active"], &told["sub"], &told["username"]),
        (&json!(true), &me["id"], &json!("ann@example.com"))
    );
    assert_eq!(told["sid"], tokens["session"]);
    assert!(told["exp"].as_i64() > told["iat"].as_i64(), "{told}");

    let scopes = json!({ "scopes": ["platform.read", "orders.read"] });
    let (id, other) = key(&host, scopes).await;
    let told: Value = introspect(&asker, &other).await.assert_status(200).json();
    assert_eq!(
        (&told["active"], &told["scope"], &told["client_id"]),
        (
            &json!(true),
            &json!("platform.read orders.read"),
            &json!(id)
        )
    );
    // Whatever is wrong with it, nothing is told.
    let refresh = tokens["refresh_token"].as_str().unwrap();
    for bad in [
        "",
        "nonsense",
        "gk_0123456789abcdef_x",
        refresh,
        &format!("{access}x"),
    ] {
        let told: Value = introspect(&asker, bad).await.assert_status(200).json();
        assert_eq!(told, json!({ "active": false }), "{bad}");
    }
    ann.post("/api/auth/logout", &json!({}))
        .await
        .assert_status(204);
    let told: Value = introspect(&asker, access).await.assert_status(200).json();
    assert_eq!(told, json!({ "active": false }), "a session that has ended");
    introspect(&host, access)
        .await
        .assert_problem(401, "auth.required");
    let (_, nobody) = key(&host, json!({ "scopes": ["platform.read"] })).await;
    introspect(&host.with_token(&nobody), access)
        .await
        .assert_problem(403, "auth.permission_missing");
    host.stop().await;
}

/// A run that is killed leaves an empty file beside the key, or one with the next secret.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_in_a_file_is_changed_when_that_is_due_and_there_is_always_one_that_counts() {
    // In a file in any case, because the rows are set back by hand.
    let host = TestHost::build().try_start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("till.key");
    let (id, first) = key(&host, json!({ "rotate_days": 1, "overlap_s": 172_800 })).await;
    std::fs::write(&file, format!("{first}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&file, mode).unwrap();
    let renew = ["key", "renew", "--file", "till.key"];
    let held = || std::fs::read_to_string(&file).unwrap().trim().to_owned();

    let early = cli::run(&host, folder.path(), &renew).await;
    cli::succeeded(&early);
    assert!(String::from_utf8_lossy(&early.stderr).contains("it is due at"));
    assert_eq!(held(), first);

    let rows = host.data_dir().join("gantry.db");
    let host = host
        .restart_with(|| {
            let rows = rusqlite::Connection::open(rows).unwrap();
            let yesterday = "UPDATE api_keys SET secret_since = secret_since - 90000000";
            assert!(rows.execute(yesterday, []).unwrap() > 0);
        })
        .await;
    // A run that was killed before it asked for anything left this.
    std::fs::write(folder.path().join("till.key.next"), "").unwrap();
    let due = cli::run(&host, folder.path(), &renew).await;
    assert_eq!(cli::succeeded(&due), "", "the key is not printed");
    let second = held();
    assert_ne!(second, first);
    for token in [&first, &second] {
        let own = host.with_token(token).get("/api/auth/key").await;
        assert_eq!(own.assert_status(200).json::<Value>()["id"], id.as_str());
    }
    let mode = std::fs::metadata(&file).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o640
    );
    let entries = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing is left beside it");
    let again = cli::run(&host, folder.path(), &renew).await;
    cli::succeeded(&again);
    assert_eq!(held(), second, "it is due in a day");

    // The key was changed elsewhere, and what is in the file ends: nobody may think that all is well.
    std::fs::write(&file, &first).unwrap();
    for args in [&renew[..], &[&renew[..], &["--now"]].concat()] {
        let stale = cli::run(&host, folder.path(), args).await;
        assert!(!stale.status.success());
        let told = String::from_utf8_lossy(&stale.stderr).into_owned();
        assert!(told.contains("not the newest"), "{told}");
        assert!(!folder.path().join("till.key.next").exists());
    }
    std::fs::write(&file, &second).unwrap();

    // One that was killed before the new secret was in place left that beside the old one.
    std::fs::rename(&file, folder.path().join("till.key.next")).unwrap();
    std::fs::write(&file, &first).unwrap();
    let now = [&renew[..], &["--now"]].concat();
    cli::succeeded(&cli::run(&host, folder.path(), &now).await);
    assert!(held() != first && held() != second);
    host.with_token(&held())
        .get("/api/auth/me")
        .await
        .assert_status(200);

    // What cannot be kept is not asked for.
    let before = held();
    std::fs::create_dir(folder.path().join("till.key.next")).unwrap();
    let refused = cli::run(&host, folder.path(), &now).await;
    assert!(!refused.status.success());
    std::fs::remove_dir(folder.path().join("till.key.next")).unwrap();
    assert_eq!(held(), before);
    cli::succeeded(&cli::run(&host, folder.path(), &now).await);
}
