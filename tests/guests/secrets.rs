//! Uses the secrets it was given: asks for the revision, reveals one, or lets the host inject one into a request.

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    label: String,
    #[serde(default)]
    url: String,
}

#[gantry_sdk::handler]
fn handle(Query(wish): Query<Wish>, request: Request) -> Result<Json<Value>> {
    Ok(Json(match request.path.as_str() {
        "/revision" => json!({ "revision": secrets::get(&wish.label)?.revision() }),
        "/reveal" => json!({ "value": secrets::reveal(&wish.label)? }),
        // What the plugin sets itself must lose against what the host injects.
        _ => {
            let response = outbound::get(wish.url)
                .header("authorization", "mine")
                .send()?;
            json!({ "status": response.status, "body": response.text()? })
        }
    }))
}
