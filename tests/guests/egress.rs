//! Asks `?url=` with `?method=` and `?header=`, `?times=` one after the other, and tells what came of the last or of the
//! first that failed.

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    url: String,
    #[serde(default = "get")]
    method: String,
    /// Sent as a header, `NAME: VALUE`.
    header: Option<String>,
    #[serde(default = "once")]
    times: u32,
}

fn get() -> String {
    "GET".to_owned()
}

fn once() -> u32 {
    1
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
    let before = (1..wish.times).try_for_each(|_| request.clone().send().map(drop));
    Json(match before.and_then(|()| request.send()) {
        Ok(response) => json!({
            "status": response.status,
            "headers": response.headers,
            "body": String::from_utf8_lossy(&response.body),
        }),
        Err(error) => json!({ "code": error.code(), "message": error.message() }),
    })
}
