//! Never returns from its handler.

use std::hint::black_box;

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn spin() -> Response {
    while black_box(true) {}
    Response::no_content()
}
