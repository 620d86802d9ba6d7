//! Calls the host without a pause and without end; the path says what.

use std::hint::black_box;

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn flood(request: Request) -> Result<Response> {
    let bucket = kv::open("data")?;
    let mut number = 0u64;
    loop {
        number += 1;
        match request.path.as_str() {
            "/write" => drop(black_box(bucket.put("key", &number.to_le_bytes())?)),
            "/read" => drop(black_box(bucket.get("key")?)),
            "/config" => drop(black_box(config::get("motto"))),
            "/secret" => drop(black_box(secrets::get("absent"))),
            "/denied" => drop(black_box(kv::open("other"))),
            _ => drop(black_box(request.header("x-anything"))),
        }
    }
}
