//! Calls itself until the stack is used up.

use std::hint::black_box;

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn start() -> Json<u64> {
    Json(deeper(0))
}

fn deeper(depth: u64) -> u64 {
    let depth = black_box(depth);
    if depth == u64::MAX {
        depth
    } else {
        black_box(deeper(depth + 1)) + 1
    }
}
