//! Signs and verifies tokens for `?purpose=`: `/sign?subject=` answers one, `/verify?token=` the subject in it.

use std::time::Duration;

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    purpose: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    token: String,
    #[serde(default = "minute")]
    ttl_ms: u64,
}

fn minute() -> u64 {
    60_000
}

#[gantry_sdk::handler]
fn handle(Query(wish): Query<Wish>, request: Request) -> Json<Value> {
    let result = match request.path.as_str() {
        "/sign" => tokens::sign(
            &wish.purpose,
            &wish.subject,
            Duration::from_millis(wish.ttl_ms),
        ),
        _ => tokens::verify(&wish.purpose, &wish.token),
    };
    Json(match result {
        Ok(text) => json!({ "ok": text }),
        Err(error) => json!({ "code": error.code() }),
    })
}
