//! Uses every service that a plugin may ask for, one path each. Kept as a component of each release: `tests/golden`.

use std::time::Duration;

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[gantry_sdk::main]
fn app() -> Router {
    Router::new()
        .get("/config", motto)
        .get("/context", call)
        .get("/identity", who)
        .post("/kv", count)
        .get("/log", tell)
        .get("/outbound", ask)
        .get("/secrets", reveal)
        .post("/sql", note)
        .get("/tokens", token)
}

#[gantry_sdk::health]
fn health() -> Result<()> {
    config::require("motto").map(drop)
}

/// Notes that it ran, in the database.
#[gantry_sdk::migrate]
fn migrate() -> Result<()> {
    let add = "INSERT INTO notes (text) VALUES ($1)";
    sql::open("main")?.execute(add, params!["migrated"])?;
    Ok(())
}

fn motto() -> Result<Json<Value>> {
    Ok(Json(json!({ "motto": config::require("motto")? })))
}

fn call() -> Json<Value> {
    Json(json!({
        "trigger": context::trigger(),
        "route": context::route(),
        "has_id": !context::request_id().is_empty(),
        "has_time": context::remaining() > Duration::ZERO,
    }))
}

fn who() -> Json<Value> {
    Json(json!({ "kind": identity::current().map(|principal| principal.kind()) }))
}

fn count() -> Result<Json<Value>> {
    let store = kv::open("visits")?;
    Ok(Json(json!({ "visits": store.increment("all", 1)? })))
}

fn tell() -> Json<Value> {
    log::info("told");
    Json(json!({ "told": true }))
}

fn ask() -> Result<Json<Value>> {
    let answer = outbound::get("https://api.example.com/rate").send()?;
    Ok(Json(answer.error_for_status()?.json()?))
}

fn reveal() -> Result<Json<Value>> {
    Ok(Json(json!({ "key": secrets::reveal("key")? })))
}

fn note() -> Result<Json<Value>> {
    let db = sql::open("main")?;
    let add = "INSERT INTO notes (text) VALUES ($1)";
    db.transaction(|tx| tx.execute(add, params!["asked"]))?;
    let texts: Vec<String> = db.query_as("SELECT text FROM notes ORDER BY id", params![])?;
    Ok(Json(json!({ "texts": texts })))
}

fn token() -> Result<Json<Value>> {
    let token = tokens::sign("golden", "ann", Duration::from_secs(60))?;
    Ok(Json(
        json!({ "subject": tokens::verify("golden", &token)? }),
    ))
}
