//! Computes for as long as `?rounds=` says, a few milliseconds for a million, and answers.

use std::hint::black_box;

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Wish {
    rounds: u64,
}

#[gantry_sdk::handler]
fn spin(Query(wish): Query<Wish>) -> Json<u64> {
    let sum = (0..wish.rounds).fold(1u64, |sum, round| black_box(sum.rotate_left(7) ^ round));
    Json(sum)
}
