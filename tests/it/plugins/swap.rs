//! New versions come while requests are answered: nobody notices more than a new version.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use gantry::plugins::store::StoreError;
use gantry::plugins::{DeployError, GrantMode};
use gantry_harness::{Answer, Client, Process, guests::guest, pack};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::manifests;

const SWAPS: usize = 1000;
/// Until then caches and pools fill.
const WARM_UP: usize = 200;
const CLIENTS: usize = 4;
/// What memory may vary by: arenas of the allocator and pages of SQLite, not one component per swap (about 1 MiB each).
const MEMORY_BYTES_MAX: u64 = 16 << 20;
/// A connection that the pools open late. One handle per swap would be hundreds.
const HANDLES_MAX: usize = 8;

/// Longest time of one request, on a machine that does nothing else.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Clients that ask without a pause, each on one connection, until they are told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Asked>>,
    /// The longest time for which the machine let nobody run.
    standstill: JoinHandle<Duration>,
}

#[derive(Default)]
struct Asked {
    requests: usize,
    slowest: Duration,
}

impl Load {
    fn start(server: &Client) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|_| {
            let client = server.on_a_connection_of_its_own();
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let mut asked = Asked::default();
                while !is_over.load(Relaxed) {
                    let began = Instant::now();
                    version(client.get("/hello/").await);
                    asked.slowest = asked.slowest.max(began.elapsed());
                    asked.requests += 1;
                }
                asked
            })
        });
        let clients = clients.collect();
        let standstill = tokio::task::spawn_blocking({
            let is_over = Arc::clone(&is_over);
            move || longest_standstill(&is_over)
        });
        Self {
            is_over,
            clients,
            standstill,
        }
    }

    /// What was asked, all of it answered well and none of it late.
    async fn stop(self) -> Asked {
        self.is_over.store(true, Relaxed);
        let mut all = Asked::default();
        for client in self.clients {
            let asked = client.await;
            let asked = asked.expect("no request failed and no answer mixed two versions");
            all.requests += asked.requests;
            all.slowest = all.slowest.max(asked.slowest);
        }
        let standstill = self.standstill.await.unwrap();
        assert!(
            all.slowest < REQUEST_MAX + standstill * 2,
            "a request took {:?}, and the machine stood still for {standstill:?}",
            all.slowest
        );
        all
    }
}

fn longest_standstill(is_over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !is_over.load(Relaxed) {
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        longest = longest.max(began.elapsed());
    }
    longest
}

/// The version that answered; header and body must agree.
#[track_caller]
fn version(answer: Answer) -> u64 {
    let answer = answer.assert_status(200);
    let body = answer.json::<Value>();
    assert_eq!(body["version"], body["again"], "{answer:?}");
    assert_eq!(
        answer.header("x-version"),
        Some(&*body["version"].to_string()),
        "{answer:?}"
    );
    body["version"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_swaps_under_load_fail_no_request_and_leave_nothing_behind() {
    let server = Process::start("").await;
    let bundles =
        ["hello-v1", "hello-v2"].map(|name| pack(&manifests::open("hello"), &guest(name), &[]));
    for bundle in &bundles {
        server.upload("", bundle.clone()).await.assert_status(201);
    }
    let load = Load::start(&server);
    let (mut live, mut took) = (2, Vec::new());
    let mut before = (0, 0);
    let began = Instant::now();
    for swap in 0..SWAPS {
        let wanted = 3 - live;
        let swapping = Instant::now();
        if swap % 10 == 9 {
            server.roll_back("hello").await.assert_status(200);
        } else {
            let bundle = bundles[wanted - 1].clone();
            server.upload("", bundle).await.assert_status(201);
        }
        took.push(swapping.elapsed());
        live = wanted;
        let answers = version(server.get("/hello/").await);
        assert_eq!(
            answers, live as u64,
            "what is deployed answers from then on"
        );
        if swap + 1 == WARM_UP {
            before = (server.memory_bytes(), server.handles());
        }
    }
    let all = began.elapsed();
    let after = (server.memory_bytes(), server.handles());
    let asked = load.stop().await;
    took.sort();
    println!(
        "{SWAPS} swaps in {all:?}, p50 {:?}, p99 {:?}; {} requests, the slowest {:?}; memory {} -> {} KiB; handles {} -> {}",
        took[SWAPS / 2],
        took[SWAPS * 99 / 100],
        asked.requests,
        asked.slowest,
        before.0 >> 10,
        after.0 >> 10,
        before.1,
        after.1
    );
    let requests = asked.requests;
    assert!(
        requests > SWAPS,
        "only {requests} requests: that was no load"
    );
    assert!(
        after.0 < before.0 + MEMORY_BYTES_MAX,
        "memory grew from {} to {}",
        before.0,
        after.0
    );
    assert!(
        after.1 <= before.1 + HANDLES_MAX,
        "handles grew from {} to {}",
        before.1,
        after.1
    );
    assert!(
        took[SWAPS / 2] < Duration::from_millis(500),
        "p50 {:?}",
        took[SWAPS / 2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_is_finished_by_the_version_that_began_it() {
    let host = gantry_harness::TestHost::start().await;
    // Compiled before, so that the swap does not take longer than the request.
    host.deploy(&manifests::open("hello"), guest("hello-v2"))
        .await;
    let time = "[limits]\nwall = \"20s\"";
    host.deploy(&manifests::with("swapped", time), guest("slow"))
        .await;
    let client = host.on_a_connection_of_its_own();
    let slow = tokio::spawn(async move { client.get("/swapped/?ms=4000").await });
    host.until_in_progress(1).await;
    host.deploy(&manifests::open("swapped"), guest("hello-v2"))
        .await;
    assert_eq!(
        version(host.get("/swapped/").await),
        2,
        "others do not wait for it"
    );
    assert!(!slow.is_finished());
    assert_eq!(slow.await.unwrap().assert_status(200).json::<Value>(), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_deploy_at_once_one_is_live_and_the_others_are_told() {
    let host = gantry_harness::TestHost::start().await;
    let manifest = manifests::open("hello");
    let deploy = |name| host.try_deploy(&manifest, guest(name), GrantMode::AllAsked);
    let all = (0..10).map(|number| deploy(["hello-v1", "hello-v2"][number % 2]));
    let deployed = futures_util::future::join_all(all).await;
    let (done, refused): (Vec<_>, Vec<_>) = deployed.into_iter().partition(Result::is_ok);
    for error in refused.into_iter().flat_map(Result::err) {
        let is_conflict = matches!(error, DeployError::Store(StoreError::Changed { .. }));
        assert!(is_conflict, "{error:?}");
    }
    let name = "hello".parse().unwrap();
    let history = host
        .plugins()
        .store()
        .deployments(&name, None, 100)
        .await
        .unwrap();
    assert_eq!(
        history.len(),
        done.len(),
        "what was refused is no part of it"
    );
    let live: Vec<_> = history
        .iter()
        .filter(|deployment| deployment.is_live)
        .collect();
    assert_eq!(live.len(), 1);
    let first = version(host.get("/hello/").await);
    let host = host.restart().await;
    assert_eq!(
        version(host.get("/hello/").await),
        first,
        "memory and rows agreed"
    );
}
