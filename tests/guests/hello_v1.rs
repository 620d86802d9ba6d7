//! Answers its own version three times, so that a test sees which one is live and that no answer mixes two.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn hello() -> Response {
    Response::text("{\"version\":1,\"again\":1}")
        .with_header("content-type", "application/json")
        .with_header("x-version", "1")
}
