//! The hostile set: guests that try to hurt the host, their neighbours or others. `docs/operate/hostile.md` lists them; a
//! test in `tidy` holds that list and these scenes together.

mod abi;
mod files;
mod guests;
mod held;
mod outside;
mod time;

use std::time::{Duration, Instant};

use gantry_harness::{TestHost, guests::guest};

use crate::manifests;

/// A host with a friendly plugin.
async fn with_neighbour() -> TestHost {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    host
}

/// A host with a hostile plugin beside a friendly one.
async fn beside(name: &str, more: &str) -> TestHost {
    let host = with_neighbour().await;
    host.deploy(&manifests::with(name, more), guest(name)).await;
    host
}

/// The neighbour is healthy: it answers, and at once.
async fn neighbour_is_healthy(host: &TestHost) {
    let began = Instant::now();
    host.get("/neighbour/").await.assert_status(200);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "the neighbour took {:?}",
        began.elapsed()
    );
}

/// Nothing is left over: no call is in progress and no place taken.
async fn is_idle(host: &TestHost) {
    host.until_in_progress(0).await;
}
