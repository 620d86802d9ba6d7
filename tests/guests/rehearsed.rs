//! Tells what a test decides: the time, random numbers, what another server answers. `/brittle` takes for granted that the
//! store works, `/sturdy` does not.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[gantry_sdk::main]
fn app() -> Router {
    Router::new()
        .get("/now", now)
        .get("/random", random)
        .get("/rate", rate)
        .post("/brittle", brittle)
        .post("/sturdy", sturdy)
}

fn now() -> Json<Value> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Json(json!({ "seconds": since.unwrap_or_default().as_secs() }))
}

fn random() -> Json<Value> {
    Json(json!({ "number": RandomState::new().hash_one(1) >> 12 }))
}

fn rate() -> Result<Json<Value>> {
    let answer = outbound::post("https://api.example.com/rates").json(&json!({ "of": "EUR" }));
    let rates: Value = answer.send()?.error_for_status()?.json()?;
    Ok(Json(json!({ "rate": rates["rate"] })))
}

fn brittle() -> Json<Value> {
    let store = kv::open("visits").expect("the store is granted");
    let visits = store.increment("all", 1).expect("the store works");
    Json(json!({ "visits": visits }))
}

fn sturdy() -> Result<Json<Value>> {
    let store = kv::open("visits")?;
    let visits = store.increment_with_ttl("all", 1, Duration::from_secs(60))?;
    Ok(Json(json!({ "visits": visits })))
}
