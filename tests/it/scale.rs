//! Many plugins on one host: putting them there, calling them, starting again with all of them.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use gantry_harness::{Client, Process, guests::guest, pack};

const PLUGINS: usize = 1000;
const ROUTES_PER_PLUGIN: usize = 10;
/// How many requests are under way at once.
const AT_ONCE: usize = 8;

/// What a plugin may take of the host's memory while nobody calls it. All of these have one component, whose code is there
/// once; a component of its own adds its code.
const BYTES_PER_PLUGIN_MAX: u64 = 200 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_plugins_with_ten_thousand_routes_answer_before_and_after_a_restart() {
    let host = Process::start("").await;
    let component = guest("hello-v1");
    let one = pack(&manifest(0), &component, &[]);
    host.upload("grant=all", one).await.assert_status(201);
    let one_bytes = host.memory_bytes();

    let deploy = async |number| {
        let bundle = pack(&manifest(number), &component, &[]);
        host.upload("grant=all", bundle).await.assert_status(201);
    };
    // The later ones must not wait for all the earlier ones.
    let first = for_each(1..PLUGINS / 2, deploy).await;
    let second = for_each(PLUGINS / 2..PLUGINS, deploy).await;
    let bytes = host.memory_bytes();
    for_each(0..PLUGINS, async |number| every_route(&host, number).await).await;
    assert!(
        second < first * 3,
        "the second half took {second:?}, the first {first:?}"
    );
    is_small(bytes, one_bytes);

    let host = host.kill_and_restart().await;
    host.get("/readyz").await.assert_status(200);
    for_each(0..PLUGINS, async |number| one_route(&host, number).await).await;
    is_small(host.memory_bytes(), one_bytes);
    host.get("/p1000/r0/x").await.assert_status(404);
}

/// Machine code of this guest is a third of a megabyte for each component.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_does_not_run_takes_no_memory() {
    const COMPONENTS: usize = 16;
    const IDLE_BYTES_MAX: u64 = 24 << 10;
    let host = Process::start("").await;
    let deploy = async |number| {
        let bundle = pack(&manifest(number), &own_component(number), &[]);
        host.upload("grant=all", bundle).await.assert_status(201);
    };
    for_each(0..COMPONENTS, deploy).await;

    let host = host.kill_and_restart().await;

    let idle = host.code_bytes() / COMPONENTS as u64;
    assert!(idle < IDLE_BYTES_MAX, "{idle} bytes each");
    for_each(0..COMPONENTS, async |number| {
        // The guest runs, and has no such route.
        let answer = host.get(&format!("/p{number}/r0/x")).await;
        answer.assert_status(404);
    })
    .await;
    let used = host.code_bytes() / COMPONENTS as u64;
    assert!(used > idle, "{used} bytes each after a call");
}

/// The guest of the benchmarks with a section of its own at the end, which only says a number.
fn own_component(number: usize) -> Vec<u8> {
    let text = format!("\u{6}number{number:08}");
    let mut component = guest("bench").to_vec();
    // A custom section: its id, its length, and a name with its length, each in one byte.
    component.extend([0, u8::try_from(text.len()).unwrap()]);
    component.extend_from_slice(text.as_bytes());
    component
}

fn manifest(number: usize) -> String {
    let mut text = format!(
        "schema = 1\n[plugin]\nname = \"p{number}\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n"
    );
    for route in 0..ROUTES_PER_PLUGIN {
        text.push_str(&format!(
            "[[route]]\nmethod = \"GET\"\npath = \"/r{route}/{{id}}\"\nauth = \"public\"\n"
        ));
    }
    text
}

/// Does something for each plugin, some at once. How long it takes.
async fn for_each(plugins: std::ops::Range<usize>, work: impl AsyncFn(usize)) -> Duration {
    let began = Instant::now();
    let work = &work;
    stream::iter(plugins)
        .for_each_concurrent(AT_ONCE, |number| work(number))
        .await;
    began.elapsed()
}

async fn every_route(client: &Client, number: usize) {
    for route in 0..ROUTES_PER_PLUGIN {
        let answer = client.get(&format!("/p{number}/r{route}/x")).await;
        answer.assert_status(200);
    }
}

async fn one_route(client: &Client, number: usize) {
    let route = number % ROUTES_PER_PLUGIN;
    let answer = client.get(&format!("/p{number}/r{route}/x")).await;
    answer.assert_status(200);
}

#[track_caller]
fn is_small(bytes: u64, one_bytes: u64) {
    let more = bytes.saturating_sub(one_bytes) / PLUGINS as u64;
    assert!(
        more < BYTES_PER_PLUGIN_MAX,
        "{} KiB for each plugin",
        more >> 10
    );
}
