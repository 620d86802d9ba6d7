//! Guests that want more of the processor than they were given.

use std::time::{Duration, Instant};

use gantry_harness::guests::guest;

use super::{beside, is_idle, neighbour_is_healthy};
use crate::{components, manifests};

const SHORT: &str =
    "[capabilities]\nkv = [\"data\"]\n[limits]\ncpu = \"100ms\"\nmemory = \"64MiB\"";

#[tokio::test(flavor = "multi_thread")]
async fn instructions_that_move_megabytes_do_not_hide_from_the_clock() {
    let host = beside("bulk-memory", SHORT).await;
    for path in ["/bulk-memory/fill", "/bulk-memory/copy"] {
        let began = Instant::now();
        host.get(path)
            .await
            .assert_problem(504, "plugin.cpu_exceeded");
        let elapsed = began.elapsed();
        assert!(elapsed < Duration::from_secs(5), "{path}: {elapsed:?}");
        neighbour_is_healthy(&host).await;
        is_idle(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_in_what_is_dropped_are_stopped() {
    let host = beside("loop-drop", SHORT).await;
    for path in ["/loop-drop/value", "/loop-drop/bucket"] {
        host.get(path)
            .await
            .assert_problem(504, "plugin.cpu_exceeded");
        neighbour_is_healthy(&host).await;
        is_idle(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_host_calls_ends_with_its_processor_time() {
    let secret = "[[capabilities.secrets]]\nlabel = \"absent\"\nuse = \"reveal\"";
    let limits = format!("{SHORT}\nwall = \"4s\"\n{secret}");
    let host = beside("host-flood", &limits).await;
    for what in ["headers", "config", "denied", "secret", "read", "write"] {
        let began = Instant::now();
        let path = format!("/host-flood/{what}");
        // What waits for the disk may meet its deadline first.
        let answer = host.get(&path).await.assert_status(504);
        let is_expected = match what {
            "write" | "read" | "secret" => answer.code().ends_with("_exceeded"),
            _ => answer.code() == "plugin.cpu_exceeded",
        };
        assert!(is_expected, "{what}: {}", answer.text());
        let elapsed = began.elapsed();
        assert!(elapsed < Duration::from_secs(8), "{what}: {elapsed:?}");
        neighbour_is_healthy(&host).await;
    }
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_places_wait_in_a_bounded_queue_and_then_are_turned_away() {
    let host = gantry_harness::TestHost::build()
        .with(|config| {
            config.plugins.defaults.queue_max = 2;
            config.runtime.queue_wait_ms = 300;
        })
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let limits = "[limits]\nconcurrency = 2\nwall = \"3s\"";
    host.deploy(&manifests::with("slow", limits), guest("slow"))
        .await;
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let client = (*host).clone();
            tokio::spawn(async move { client.get("/slow/?ms=1500").await })
        })
        .collect();
    neighbour_is_healthy(&host).await;
    let (mut served, mut refused) = (0, 0);
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            200 => served += 1,
            _ => {
                answer.assert_problem(503, "host.saturated");
                refused += 1;
            }
        }
    }
    assert_eq!((served, refused), (2, 10));
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_keeps_crashing_has_a_rest_and_its_neighbour_none() {
    let host = beside("trap", "").await;
    for _ in 0..20 {
        host.get("/trap/")
            .await
            .assert_problem(502, "plugin.trapped");
    }
    host.get("/trap/")
        .await
        .assert_problem(503, "plugin.held_off");
    neighbour_is_healthy(&host).await;
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_bomb_is_refused_by_the_child_while_the_neighbour_answers() {
    let host = gantry_harness::TestHost::build()
        .with(|config| config.runtime.compile.cpu_s = 1)
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let (admin, bomb) = (host.admin(), components::slow_to_compile(20_000));
    let mut deploy = std::pin::pin!(admin.upload("name=bomb", bomb));
    let mut answered = 0;
    let refused = loop {
        tokio::select! {
            refused = &mut deploy => break refused,
            () = neighbour_is_healthy(&host) => answered += 1,
        }
    };
    refused.assert_problem(422, "deploy.compile_limit_exceeded");
    assert!(answered > 20, "{answered}");
    host.get("/bomb/")
        .await
        .assert_problem(404, "route.not_found");
}
