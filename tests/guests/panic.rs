//! Panics, as plugins do by mistake. The text belongs into the log and not into the answer.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn handle(request: Request) -> Response {
    panic!("the panic of {}", request.path)
}
