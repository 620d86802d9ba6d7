//! Sleeps for `?ms=` without using the processor, so that a test can catch it in flight.

use std::time::Duration;

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Wish {
    ms: u64,
}

#[gantry_sdk::handler]
fn slow(Query(wish): Query<Wish>) -> Json<u64> {
    std::thread::sleep(Duration::from_millis(wish.ms));
    Json(wish.ms)
}
