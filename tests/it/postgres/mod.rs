//! A host whose rows are on a Postgres server. `cargo xtask test` runs scenes of others on one, too.

mod hosts;
mod trouble;

use gantry_harness::{PostgresDatabase, Process, TestHost, guests::guest};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::manifests;

const PASSWORD: &str = "correct horse battery";

async fn host(database: &PostgresDatabase) -> TestHost {
    let host = TestHost::build().with(|config| database.serve(config));
    host.start().await
}

async fn log_in(host: &TestHost, email: &str) -> Value {
    let login = json!({ "email": email, "password": PASSWORD });
    let answer = host.post("/api/auth/login", &login).await;
    answer.assert_status(200).json()
}

/// What `gantry audit verify` says of a host.
async fn verify(host: &TestHost, database: &PostgresDatabase) -> String {
    let output = Command::new(gantry_harness::guests::gantry())
        .args(["audit", "verify"])
        .current_dir(host.data_dir())
        .env("GANTRY_DATA_DIR", host.data_dir())
        .env("GANTRY_DB__URL", database.url())
        .output();
    let output = output.await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let host = host(&database).await;
    host.user("ann@example.com", &[]).await;
    let tokens = log_in(&host, "ann@example.com").await;
    host.deploy(&manifests::open("hello"), guest("hello-v1"))
        .await;
    host.get("/hello/").await.assert_status(200);
    // Postgres keeps no such character.
    for email in ["\0", "a\0b@example.com", "ann@example.com\0"] {
        let login = json!({ "email": email, "password": "\0 battery staple" });
        let answer = host.post("/api/auth/login", &login).await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
    }
    assert!(!host.data_dir().join("gantry.db").exists());

    let host = host.restart().await;
    host.get("/hello/").await.assert_status(200);
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    let refreshed = host.post("/api/auth/refresh", &body).await;
    let tokens: Value = refreshed.assert_status(200).json();
    let ann = host.with_token(tokens["access_token"].as_str().unwrap());
    ann.get("/api/auth/me").await.assert_status(200);
    host.get("/readyz").await.assert_status(200);
    let said = verify(&host, &database).await;
    assert!(said.starts_with("ok: "), "{said}");

    // What somebody changes past the host is found.
    database
        .run("UPDATE audit_events SET actor = 'nobody' WHERE seq = 2")
        .await;
    let said = verify(&host, &database).await;
    assert!(said.contains("WRONG event 2"), "{said}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_does_not_take_the_rows_of_another_one() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let first = host(&database).await;
    let second = TestHost::build().with(|config| database.serve(config));
    let error = second.try_start().await.err().unwrap();
    let said = format!("{error:#}");
    assert!(said.contains("another host uses the rows"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    first.stop().await;
    // Nor what it has left.
    let second = TestHost::build().with(|config| database.serve(config));
    let error = second.try_start().await.err().unwrap();
    let said = format!("{error:#}");
    assert!(said.contains("copy the folder `keys/`"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let untouched = "DO $$ BEGIN IF EXISTS (SELECT 1 FROM audit_events WHERE action LIKE 'security.%') \
                     THEN RAISE 'touched'; END IF; END $$";
    database.run(untouched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_in_a_file_or_in_the_address_and_is_not_told() {
    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    let url = database.url();
    let (before, rest) = url.split_once(":s3cret-of-tests").unwrap();
    let without = format!("{before}{rest}");
    let with = |password: &str| {
        std::fs::write(&file, password).unwrap();
        TestHost::build().with(|config| {
            config.db.url = without.clone().into();
            config.db.password_file = Some(file.clone());
        })
    };
    let error = with("wr0ng-password\n").try_start().await.err().unwrap();
    let said = format!("{error:#} {error:?}");
    assert!(said.contains("127.0.0.1"), "{said}");
    assert!(!said.contains("wr0ng"), "{said}");
    let host = with("s3cret-of-tests\n").start().await;
    host.get("/readyz").await.assert_status(200);
    host.stop().await;

    let Some(database) = PostgresDatabase::create().await else {
        return;
    };
    let settings = format!("[db]\nurl = \"{}\"\n", database.url());
    let server = Process::start(&settings).await;
    let shown: Value = server.get("/_gantry/api/v1/settings").await.json();
    let shown = shown["settings"]["db"]["url"].as_str().unwrap();
    assert!(shown.contains("gantry:***@127.0.0.1"), "{shown}");
    assert!(!server.log().contains("s3cret"), "{}", server.log());
    // Its connections end with it, however it ends.
    let server = server.kill_and_restart().await;
    server.get("/readyz").await.assert_status(200);
}
