//! Executes the instruction that ends everything.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn trap() -> Response {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_family = "wasm"))]
    std::process::abort();
}
