//! Asks a cache for more than it should give. Answers `{"ok": …}` or the error's code.

use std::time::Duration;

use gantry_sdk::cache;
use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    #[serde(default = "data")]
    label: String,
    #[serde(default)]
    bytes: usize,
    #[serde(default)]
    count: usize,
    #[serde(default)]
    tag: String,
}

fn data() -> String {
    "data".to_owned()
}

#[gantry_sdk::handler]
fn abuse(Query(wish): Query<Wish>, request: Request) -> Json<Value> {
    Json(match run(&request.path, &wish) {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "code": error.code(), "kind": format!("{:?}", error.kind()) }),
    })
}

fn run(path: &str, wish: &Wish) -> Result<Value> {
    let values = cache::open(&wish.label)?;
    let hour = cache::Set::new(Duration::from_secs(3600));
    Ok(match path {
        "/key" => json!(values.set(&"k".repeat(wish.bytes), b"v", &hour)?),
        "/value" => json!(values.set("key", &vec![b'v'; wish.bytes], &hour)?),
        "/read" => json!(values.get("key")?.map(|value| value.len())),
        "/tag" => json!(values.set("key", b"v", &hour.tag(wish.tag.as_str()))?),
        "/tags" => {
            let tags = (0..wish.count).map(|number| format!("t{number}"));
            json!(values.set("key", b"v", &tags.fold(hour, cache::Set::tag))?)
        }
        "/fill" => {
            for number in 0..wish.count {
                values.set(&number.to_string(), &vec![b'v'; wish.bytes], &hour)?;
            }
            json!(wish.count)
        }
        "/purge" => {
            for number in 0..wish.count {
                cache::purge_tag(&format!("t{number}"))?;
            }
            json!(wish.count)
        }
        "/route" => json!(cache::purge_route(&"r".repeat(wish.bytes))?),
        "/handles" => {
            let handles: Result<Vec<_>> =
                (0..wish.count).map(|_| cache::open(&wish.label)).collect();
            json!(handles?.len())
        }
        _ => json!("opened"),
    })
}
