//! Looks for a secret in every place it can reach: environment, settings, headers, errors, its own memory. Tells all it
//! found; the scene looks through that.

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    /// What a secret begins with, each byte with its bits turned around: else this would find the question itself.
    #[serde(default)]
    turned: String,
    #[serde(default)]
    url: String,
}

#[gantry_sdk::handler]
fn hunt(Query(wish): Query<Wish>, request: Request) -> Result<Json<Value>> {
    let told = |result: Result<String>| match result {
        Ok(found) => found,
        Err(error) => format!("{} {}", error.code(), error.message()),
    };
    let setting = |key| told(config::get(key).map(Option::unwrap_or_default));
    let settings = ["key", "secret", "authorization", "gantry.master_key"].map(setting);
    let found = json!({
        "environment": std::env::vars().collect::<Vec<_>>(),
        "arguments": std::env::args().collect::<Vec<_>>(),
        "headers": format!("{:?}", request.headers()),
        "settings": settings,
        "revision": told(secrets::get("key").map(|secret| secret.revision())),
        "revealed": told(secrets::reveal("key")),
        "of_others": told(secrets::reveal("other")),
        "reflected": told(outbound::get(wish.url).send().and_then(|answer| {
            Ok(format!("{:?} {}", answer.headers, answer.text()?))
        })),
    });
    let memory = search(&wish.turned);
    log::error(found.to_string());
    if request.path == "/error" {
        return Err(Error::internal(found.to_string()));
    }
    if request.path == "/panic" {
        panic!("{found}");
    }
    Ok(Json(json!({ "found": found, "memory": memory })))
}

/// How often it stands in the memory of this instance, from its first byte to its last.
#[cfg(target_family = "wasm")]
fn search(turned: &str) -> usize {
    let bytes = core::arch::wasm32::memory_size(0) << 16;
    let needle: Vec<u8> = turned.bytes().collect();
    if needle.is_empty() {
        return 0;
    }
    let mut count = 0;
    for at in 1..bytes - needle.len() {
        let is_here = needle.iter().enumerate().all(|(offset, turned)| {
            #[expect(unsafe_code, reason = "a hostile guest reads what it likes")]
            // SAFETY: all of it is linear memory.
            let byte = unsafe { *((at + offset) as *const u8) };
            byte == turned ^ 1
        });
        count += usize::from(is_here);
    }
    count
}

#[cfg(not(target_family = "wasm"))]
fn search(_turned: &str) -> usize {
    0
}
