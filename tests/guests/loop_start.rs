//! Never gets as far as its handler: it loops while it is instantiated.
#![cfg_attr(
    target_family = "wasm",
    expect(unsafe_code, reason = "the host looks for this name")
)]

use std::hint::black_box;

use gantry_sdk::prelude::*;

#[cfg(target_family = "wasm")]
#[unsafe(export_name = "_initialize")]
extern "C" fn initialize() {
    spin();
}

#[gantry_sdk::handler]
fn never() -> Response {
    spin();
    Response::no_content()
}

fn spin() {
    while black_box(true) {}
}
