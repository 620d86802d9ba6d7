//! Says which build of it answers, and whether its data is as it needs it. Tests write another number into the component
//! in place of the one in `MARK`.

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

const MARK: &str = "mark-0000";

#[derive(Deserialize)]
struct Steps {
    last: i64,
}

#[gantry_sdk::handler]
fn handle() -> Result<Json<Value>> {
    let steps: Steps =
        sql::open("main")?.query_one("SELECT max(n) AS last FROM steps", params![])?;
    let migrated = kv::open("data")?.increment("migrated", 0)?;
    Ok(Json(json!({
        "mark": MARK,
        "steps": steps.last,
        "migrated": migrated,
    })))
}

#[gantry_sdk::health]
fn health() -> Result<()> {
    if kv::open("data")?.increment("migrated", 0)? == 0 {
        return Err(Error::internal("asked before the data was migrated"));
    }
    Ok(())
}

#[gantry_sdk::migrate]
fn migrate() -> Result<()> {
    kv::open("data")?.increment("migrated", 1)?;
    Ok(())
}
