//! The process dies in the middle of uploads, and comes back with what was whole.

use std::time::Duration;

use gantry_harness::{Process, guests::guest, pack};
use serde_json::Value;

use crate::manifests;

const KILLS: u64 = 8;
const MORE: &str = "[capabilities]\nblobs = [\"data\"]\n[limits]\ncpu = \"5s\"\nwall = \"30s\"";
/// Small pieces, and uploads of the dead that are given up soon.
const SETTINGS: &str = "[blobs]\npart_bytes = 65536\nlease_ms = 1000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_while_it_takes_files_comes_back_with_the_old_or_the_new_one_whole() {
    let mut server = Process::start(SETTINGS).await;
    let bundle = pack(&manifests::with("ann", MORE), &guest("blobs-abuse"), &[]);
    server.upload("grant=all", bundle).await.assert_status(201);
    let write = |bytes: u64| format!("/ann/stream?name=x&count=10&bytes={bytes}");
    server.get(&write(50_000)).await.assert_status(200);
    for kill in 0..KILLS {
        // No two deaths at the same step.
        let instant = Duration::from_micros(500 + kill * 7_919 % 40_000);
        let writing = async {
            for turn in 0.. {
                let bytes = if turn % 2 == 0 { 60_000 } else { 50_000 };
                let request = server.request(http::Method::GET, &write(bytes));
                let _ = server.try_send(request).await;
            }
        };
        let _ = tokio::time::timeout(instant, writing).await;
        server = server.kill_and_restart().await;
        let info: Value = server
            .get("/ann/info?name=x")
            .await
            .assert_status(200)
            .json();
        let size = info["ok"]["size"].as_u64().unwrap();
        assert!([500_000, 600_000].contains(&size), "{info}");
        let got: Value = server
            .get("/ann/get?name=x")
            .await
            .assert_status(200)
            .json();
        assert_eq!(
            got["ok"].as_str().unwrap().len() as u64,
            size,
            "every byte is there"
        );
    }
    // What the dead have left goes, and nothing else: the leases are over, and the start looks after what is left.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let server = server.kill_and_restart().await;
    let stored = server.data_dir().join("blobs");
    let mut left = Vec::new();
    for _ in 0..100 {
        left = files_below(&stored);
        if left.len() <= 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!((8..=10).contains(&left.len()), "{left:?}");
    let got: Value = server
        .get("/ann/get?name=x")
        .await
        .assert_status(200)
        .json();
    assert!(got["ok"].as_str().unwrap().len() >= 500_000);
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    };
    entries.flat_map(below).collect()
}
