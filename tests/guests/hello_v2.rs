//! Answers its own version, so that a test sees which one is live.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn hello() -> Response {
    Response::text("{\"version\":2}").with_header("content-type", "application/json")
}
