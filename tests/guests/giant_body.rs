//! Answers with `?bytes=` of body; 100 MB if not said.

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Wish {
    bytes: Option<usize>,
}

#[gantry_sdk::handler]
fn answer(Query(wish): Query<Wish>) -> Vec<u8> {
    vec![b'x'; wish.bytes.unwrap_or(100_000_000)]
}
