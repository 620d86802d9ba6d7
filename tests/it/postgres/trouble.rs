//! Two hosts on the same rows in bad times: what is slow, lost, set back or tried on both at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gantry_harness::{Client, PostgresDatabase, TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use super::hosts::{API, first, next, until, with};
use super::{PASSWORD, log_in, verify};
use crate::manifests;

/// The first half of the name of the lock that shows whose the rows are.
const PLACE: u32 = 0x6761_6e74;

/// A plugin whose calls are counted, and done once on one route.
const COUNTED: &str = "schema = 1\n[plugin]\nname = \"counted\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
     [capabilities]\nkv = [\"counts\"]\n\
     [[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"/{*rest}\"\nauth = \"public\"\n\
     [[route]]\nmethod = \"POST\"\npath = \"/orders/{*rest}\"\nauth = \"public\"\nidempotency = \"required\"\n\
     [[route]]\nmethod = \"GET\"\npath = \"/kept/{*rest}\"\nauth = \"public\"\ncache = { ttl = \"60s\" }\n";

async fn calls(client: &Client) -> u64 {
    let answer = client.get("/counted/calls").await.assert_status(200);
    answer.text().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_locked_out_is_out_while_plugins_cannot_be_taken_over() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = first(&database).await;
    let b = next(&database, &a).await;
    a.deploy(&manifests::open("hello"), guest("hello-v1")).await;
    until(&b, "/hello/", 200).await;
    a.user("ann@example.com", &[]).await;
    let ann = log_in(&a, "ann@example.com").await;
    until(&with(&b, &ann), "/api/auth/me", 200).await;

    // Whoever makes a new live table waits here, as long as for a large component.
    let held = database
        .hold("LOCK TABLE trusted_keys IN ACCESS EXCLUSIVE MODE")
        .await;
    a.plugins()
        .remove(&"hello".parse().unwrap(), true, "test")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    b.get("/hello/").await.assert_status(200);
    let began = Instant::now();
    let id = ann["user"]["id"].as_str().unwrap().parse().unwrap();
    a.app().auth.set_disabled(id, true).await.unwrap();
    until(&with(&b, &ann), "/api/auth/me", 401).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1500), "it took {took:?}");
    drop(held);
    until(&b, "/hello/", 404).await;
    b.stop().await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_rows_that_were_set_back_reaches_all_hosts() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = first(&database).await;
    let b = next(&database, &a).await;
    a.user("ann@example.com", &[]).await;
    a.user("bob@example.com", &[]).await;
    let ann = log_in(&a, "ann@example.com").await;
    until(&with(&b, &ann), "/api/auth/me", 200).await;
    // A standby that took over has not got the last of what was committed.
    database
        .run(
            "CREATE TABLE kept_events AS SELECT * FROM audit_events;
             CREATE TABLE kept_marks AS SELECT * FROM audit_marks;
             CREATE TABLE kept_users AS SELECT * FROM users;",
        )
        .await;
    for number in 0..20 {
        a.user(&format!("lost-{number}@example.com"), &[]).await;
    }
    let lost = log_in(&b, "lost-3@example.com").await;
    until(&with(&b, &lost), "/api/auth/me", 200).await;
    // Both know how far it was.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    database
        .run(
            "BEGIN; TRUNCATE audit_events, audit_marks; DELETE FROM users;
             INSERT INTO users SELECT * FROM kept_users;
             INSERT INTO audit_events SELECT * FROM kept_events;
             INSERT INTO audit_marks SELECT * FROM kept_marks; COMMIT;",
        )
        .await;
    // Who is not there any more, and who is locked out from now on.
    until(&with(&b, &lost), "/api/auth/me", 401).await;
    let id = ann["user"]["id"].as_str().unwrap().parse().unwrap();
    a.app().auth.set_disabled(id, true).await.unwrap();
    let ann = with(&b, &ann);
    until(&ann, "/api/auth/me", 401).await;
    let said = verify(&b, &database).await;
    assert!(!said.contains("WRONG event"), "{said}");
    b.stop().await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_share_rows_keep_the_time_of_their_server() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    // As if the server's clock were ahead of that of this machine.
    database
        .run(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS 'SELECT pg_catalog.clock_timestamp() + interval ''40 seconds''';
             DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$",
        )
        .await;
    let a = first(&database).await;
    a.user("ann@example.com", &[]).await;
    let ann = log_in(&a, "ann@example.com").await;
    let here_s = jiff::Timestamp::now().as_second();
    let claims = claims_of(ann["access_token"].as_str().unwrap());
    let ahead_s = claims["iat"].as_i64().unwrap() - here_s;
    assert!((38..=41).contains(&ahead_s), "{ahead_s}");
    // It is set while the hosts are at work.
    database
        .run(
            "CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS 'SELECT pg_catalog.clock_timestamp()'",
        )
        .await;
    let began = Instant::now();
    loop {
        let ann = log_in(&a, "ann@example.com").await;
        let claims = claims_of(ann["access_token"].as_str().unwrap());
        let ahead_s = claims["iat"].as_i64().unwrap() - jiff::Timestamp::now().as_second();
        if ahead_s.abs() <= 1 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{ahead_s}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    a.stop().await;
}

fn claims_of(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_done_once_is_done_once_wherever_it_is_tried() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = first(&database).await;
    let b = next(&database, &a).await;
    a.deploy(COUNTED, guest("counted")).await;
    until(&b, "/counted/calls", 200).await;
    let hosts = [&a, &b];

    // A request with a key.
    let before = calls(&a).await;
    let orders = (0..40).map(|index| async move {
        let path = "/counted/orders/1?status=201";
        let request = hosts[index % 2].request(Method::POST, path);
        let request = request.header("idempotency-key", "one").body("{}");
        hosts[index % 2].send(request).await.status.as_u16()
    });
    let statuses = join_all(orders).await;
    assert!(statuses.contains(&201), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| [201, 409].contains(status)),
        "{statuses:?}"
    );
    assert_eq!(calls(&b).await, before + 1, "{statuses:?}");

    // A code of a second factor.
    let ann = a.user("ann@example.com", &[]).await;
    let begun = ann
        .post("/api/auth/totp", &json!({ "password": PASSWORD }))
        .await;
    let begun: Value = begun.assert_status(200).json();
    let secret = begun["secret"].as_str().unwrap();
    let confirm = json!({ "code": code_of(secret, -1) });
    let confirmed = ann.post("/api/auth/totp/confirm", &confirm).await;
    let confirmed: Value = confirmed.assert_status(200).json();
    let recovery = confirmed["recovery_codes"][0].as_str().unwrap().to_owned();
    for code in [code_of(secret, 0), recovery] {
        let tries = (0..6).map(|index| {
            let login =
                json!({ "email": "ann@example.com", "password": PASSWORD, "code": code.clone() });
            async move { hosts[index % 2].post("/api/auth/login", &login).await }
        });
        let answers = join_all(tries).await;
        let good = answers.iter().filter(|answer| answer.status == 200);
        assert_eq!(good.count(), 1, "{code}");
    }

    // An API key is changed for another one on both: there is one key, with one new secret that counts last.
    let new = json!({ "name": "till", "roles": [], "scopes": [] });
    let made = a.admin().post(&format!("{API}/api-keys"), &new).await;
    let made: Value = made.assert_status(201).json();
    let path = format!("{API}/api-keys/{}/rotate", made["id"].as_str().unwrap());
    let key = std::fs::read_to_string(a.data_dir().join("admin.key")).unwrap();
    let tries = (0..6).map(|index| {
        let admin = hosts[index % 2].with_token(key.trim());
        let path = path.clone();
        async move { admin.post(&path, &json!({})).await }
    });
    let answers = join_all(tries).await;
    let mut secrets = Vec::new();
    for answer in answers {
        if answer.status.is_success() {
            secrets.push(answer.json::<Value>()["token"].as_str().unwrap().to_owned());
        }
    }
    assert!(!secrets.is_empty());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut good = 0;
    for secret in &secrets {
        let seen: Vec<u16> = join_all(hosts.map(|host| async move {
            let client = host.with_token(secret);
            client.get("/api/auth/key").await.status.as_u16()
        }))
        .await;
        assert_eq!(seen[0], seen[1], "the hosts disagree");
        good += usize::from(seen[0] == 200);
    }
    assert!((1..=2).contains(&good), "{good}");
    let said = verify(&b, &database).await;
    assert!(said.starts_with("ok: "), "{said}");
    b.stop().await;
    a.stop().await;
}

fn code_of(secret: &str, steps_ahead: i64) -> String {
    let at_s = jiff::Timestamp::now().as_second() + steps_ahead * 30;
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    totp.generate(at_s.unsigned_abs()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_throws_away_is_thrown_away_on_all_hosts_without_a_shared_server() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = first(&database).await;
    let b = next(&database, &a).await;
    a.deploy(COUNTED, guest("counted")).await;
    until(&b, "/counted/calls", 200).await;
    let path = "/counted/kept/a";
    let kept = b.get(path).await.assert_status(200).text();
    assert_eq!(b.get(path).await.text(), kept);
    let purge = json!({ "plugin": "counted" });
    let purged = a.admin().post(&format!("{API}/cache/purge"), &purge).await;
    purged.assert_status(200);
    let began = Instant::now();
    while b.get(path).await.text() == kept {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it is still kept"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    b.stop().await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_cut_off_takes_over_what_another_one_has_changed_meanwhile() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let a = super::host(&database).await;
    a.user("ann@example.com", &[]).await;
    let ann = log_in(&a, "ann@example.com").await;
    let id = ann["user"]["id"].as_str().unwrap().to_owned();
    let ann = with(&a, &ann);
    until(&ann, "/api/auth/me", 200).await;
    // Another one waits for the rows, and has them when the connection that shows whose they are is gone.
    let b = TestHost::build().with(|config| {
        database.serve(config);
        let (from, to) = (a.data_dir().join("keys"), config.data_dir.join("keys"));
        std::fs::create_dir_all(&to).unwrap();
        for name in ["master.key", "access-token.key"] {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    });
    let b = tokio::spawn(b.start());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    database
        .run(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
             AND classid = {PLACE} AND objid = 0
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ))
        .await;
    let b = b.await.unwrap();
    until(&a, "/readyz", 503).await;
    let id = id.parse().unwrap();
    b.app().auth.set_disabled(id, true).await.unwrap();
    ann.get("/api/auth/me").await.assert_status(200);
    b.stop().await;
    until(&a, "/readyz", 200).await;
    until(&ann, "/api/auth/me", 401).await;
    a.stop().await;
}
