//! Imports the key-value store; its manifest in the tests does not ask for it.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn take() -> Result<Json<i64>> {
    Ok(Json(kv::open("data")?.increment("count", 1)?))
}
