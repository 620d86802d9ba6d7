//! Asks a key-value store for more than it should give. Answers `{"ok": …}` or the error's code.

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
    let bucket = kv::open(&wish.label)?;
    Ok(match path {
        "/key" => json!(bucket.put(&"k".repeat(wish.bytes), b"v")?.len()),
        "/value" => json!(bucket.put("key", &vec![b'v'; wish.bytes])?.len()),
        "/read" => json!(bucket.get("key")?.map(|value| value.len())),
        "/entries" => {
            for number in 0..wish.count {
                bucket.put(&format!("{number}"), &vec![b'v'; wish.bytes])?;
            }
            json!(wish.count)
        }
        "/many" => {
            let keys: Vec<String> = (0..wish.count).map(|number| number.to_string()).collect();
            json!(bucket.get_many(&keys)?.len())
        }
        "/page" => {
            json!(
                bucket
                    .keys_page("", None, u32::try_from(wish.count)?)?
                    .keys
                    .len()
            )
        }
        "/cursor" => json!(bucket.keys_page("", Some("' OR 1=1 --"), 10)?.keys.len()),
        "/handles" => {
            let handles: Result<Vec<_>> = (0..wish.count).map(|_| kv::open(&wish.label)).collect();
            json!(handles?.len())
        }
        "/increment" => {
            bucket.put("number", i64::MAX.to_string().as_bytes())?;
            json!(bucket.increment("number", 1)?)
        }
        _ => json!("opened"),
    })
}
