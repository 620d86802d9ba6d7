//! A plugin of Extism, unmodified: it runs in every host of Extism, and here as a transformation.
#![cfg(target_family = "wasm")]

use extism_pdk::*;
use serde::Serialize;

#[derive(Serialize)]
struct Count {
    count: usize,
    vowels: String,
}

#[plugin_fn]
pub fn count_vowels(input: String) -> FnResult<Json<Count>> {
    let vowels = config::get("vowels")?.unwrap_or_else(|| "aeiouAEIOU".to_owned());
    let count = input.chars().filter(|c| vowels.contains(*c)).count();
    info!("{count} vowels");
    Ok(Json(Count { count, vowels }))
}
