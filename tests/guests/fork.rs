//! Calls itself through the front door, twice, at the address in `?url=`, and says what came of it.

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    url: String,
    /// Sent as a header, `NAME: VALUE`.
    header: Option<String>,
}

#[gantry_sdk::handler]
fn fork(Query(wish): Query<Wish>, request: Request) -> Json<Value> {
    let url = format!("{}?{}", wish.url, request.query);
    let ask = || {
        let mut ask = outbound::get(url.clone());
        if let Some((name, value)) = wish
            .header
            .as_deref()
            .and_then(|line| line.split_once(": "))
        {
            ask = ask.header(name, value);
        }
        match ask.send() {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                json!({ "status": answer.status, "body": text })
            }
            Err(error) => json!({ "code": error.code() }),
        }
    };
    Json(json!([ask(), ask()]))
}
