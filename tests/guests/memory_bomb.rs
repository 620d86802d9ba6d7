//! Takes memory until there is none: with the path `/polite` it says how far it got, else it dies of it.

use gantry_sdk::prelude::*;

const STEP_BYTES: usize = 1 << 20;

#[gantry_sdk::handler]
fn bomb(request: Request) -> Json<serde_json::Value> {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut step = Vec::new();
        if request.path == "/polite" && step.try_reserve_exact(STEP_BYTES).is_err() {
            break;
        }
        step.resize(STEP_BYTES, 1);
        taken.push(step);
    }
    Json(json!({ "bytes": taken.len() * STEP_BYTES }))
}

use gantry_sdk::serde_json;
