//! The process dies at any moment, as in a power cut, and comes back with a version that is whole.

use std::{path::Path, time::Duration};

use gantry_harness::{Process, guests::guest, pack};
use serde_json::Value;

use crate::manifests;

const KILLS: u64 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_while_it_deploys_comes_back_with_the_old_or_the_new_version() {
    let bundles =
        ["hello-v1", "hello-v2"].map(|name| pack(&manifests::open("hello"), &guest(name), &[]));
    let mut server = Process::start("").await;
    server
        .upload("", bundles[0].clone())
        .await
        .assert_status(201);
    for kill in 0..KILLS {
        // No two deaths at the same step; a swap takes some milliseconds.
        let instant = Duration::from_micros(1500 + kill * 7_919 % 60_000);
        let deploy = async {
            for turn in 0.. {
                let request = server.upload_request("", bundles[turn % 2].clone());
                let _ = server.try_send(request).await;
                if turn % 3 == 2 {
                    server.roll_back("hello").await;
                }
            }
        };
        let _ = tokio::time::timeout(instant, deploy).await;
        server = server.kill_and_restart().await;

        let answer = server.get("/hello/").await.assert_status(200);
        let body = answer.json::<Value>();
        assert_eq!(body["version"], body["again"], "{answer:?}");
        let left = leftovers(&server.data_dir());
        assert!(left.is_empty(), "after {instant:?}: {left:?}");
        let listed = server
            .get("/_gantry/api/v1/plugins/hello")
            .await
            .assert_status(200);
        assert!(
            listed.json::<Value>()["last_error"].is_null(),
            "{}",
            listed.text()
        );
    }
    // And it can still do everything.
    server
        .upload("", bundles[1].clone())
        .await
        .assert_status(201);
    assert_eq!(server.get("/hello/").await.header("x-version"), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_while_it_compiles_comes_back_without_the_unfinished_plugin() {
    let server = Process::start("").await;
    server
        .upload("name=hello", guest("hello-v1"))
        .await
        .assert_status(201);
    let slow = crate::components::slow_to_compile(40_000);
    let deploy = server.try_send(server.upload_request("name=slow", slow));
    let _ = tokio::time::timeout(Duration::from_millis(700), deploy).await;
    let server = server.kill_and_restart().await;
    server.get("/hello/").await.assert_status(200);
    server
        .get("/slow/")
        .await
        .assert_problem(404, "route.not_found");
    assert_eq!(
        files_in(&server.data_dir().join("artifacts")),
        1,
        "only hello's"
    );
    assert_eq!(
        files_in(&server.data_dir().join("compiled")),
        1,
        "only hello's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_at_its_first_start_starts_the_next_time_and_has_its_administrator() {
    for kill in 0..KILLS {
        let server = Process::start_killed_once(Duration::from_millis(3 + kill * 4)).await;
        server
            .get("/_gantry/api/v1/plugins")
            .await
            .assert_status(200);
        let left = leftovers(&server.data_dir());
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_killed_runs_again_from_its_beginning() {
    let server = Process::start("").await;
    let sql = "[capabilities]\nsql = [{ label = \"main\", migrations = \"migrations/\" }]\n";
    let (old, new) = (manifests::open("hello"), manifests::with("hello", sql));
    let long = b"CREATE TABLE numbers (n INTEGER PRIMARY KEY);
        INSERT INTO numbers WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000000) SELECT i FROM n;";
    let wasm = guest("hello-v2");
    let new = pack(&new, &wasm, &[("migrations/0001_numbers.sql", long)]);
    server
        .upload("", pack(&old, &guest("hello-v1"), &[]))
        .await
        .assert_status(201);
    // So that the migration is what is cut off, and not the compiler.
    server.upload("name=other", wasm).await.assert_status(201);
    let deploy = server.try_send(server.upload_request("grant=all", new.clone()));
    let cut_off = tokio::time::timeout(Duration::from_millis(250), deploy).await;
    assert!(cut_off.is_err(), "it was done too early: {cut_off:?}");
    let server = server.kill_and_restart().await;
    assert_eq!(
        server.get("/hello/").await.header("x-version"),
        Some("1"),
        "the old version serves"
    );
    let deployed = server.upload("grant=all", new).await.assert_status(201);
    assert_eq!(
        deployed.json::<Value>()["migrated"],
        serde_json::json!(["main/1"])
    );
    assert_eq!(server.get("/hello/").await.header("x-version"), Some("2"));
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// Files that were being written.
fn leftovers(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(leftovers(&path));
        } else if [".tmp", ".partial"]
            .iter()
            .any(|end| path.to_string_lossy().ends_with(end))
        {
            found.push(path.display().to_string());
        }
    }
    found
}
