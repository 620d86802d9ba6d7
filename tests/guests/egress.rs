//! Asks `?url=` with `?method=` and `?header=`, and tells what came of it.

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    url: String,
    #[serde(default = "get")]
    method: String,
    /// Sent as a header, `NAME: VALUE`.
    header: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

#[gantry_sdk::handler]
fn ask(Query(wish): Query<Wish>, Bytes(body): Bytes) -> Json<Value> {
    let mut request = outbound::request(wish.method, wish.url).body(body);
    if let Some((name, value)) = wish
        .header
        .as_deref()
        .and_then(|line| line.split_once(": "))
    {
        request = request.header(name, value);
    }
    Json(match request.send() {
        Ok(response) => json!({
            "status": response.status,
            "headers": response.headers,
            "body": String::from_utf8_lossy(&response.body),
        }),
        Err(error) => json!({ "code": error.code(), "message": error.message() }),
    })
}
