//! Traps if the request asks for it (`?crash=true`), and answers otherwise.

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    crash: bool,
}

#[gantry_sdk::handler]
fn answer(Query(wish): Query<Wish>) -> Json<&'static str> {
    if wish.crash {
        #[cfg(target_family = "wasm")]
        core::arch::wasm32::unreachable();
        #[cfg(not(target_family = "wasm"))]
        std::process::abort();
    }
    Json("fine")
}
