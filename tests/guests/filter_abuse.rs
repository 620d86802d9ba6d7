//! A filter that misbehaves, in the way that the settings `before` and `after` name.

use gantry_sdk::prelude::*;

#[gantry_sdk::request_filter]
fn before(request: Request) -> Result<Changes> {
    let seen = request.body.len().to_string();
    let headers = request.headers();
    let secrets = headers
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "authorization" | "x-api-key"));
    let secrets = secrets.count().to_string();
    let changes = misbehave(&config::require("before")?)?;
    Ok(changes
        .set_header("x-body-seen", seen)
        .set_header("x-secrets-seen", secrets))
}

#[gantry_sdk::response_filter]
fn after(_response: Response) -> Result<Changes> {
    misbehave(&config::require("after")?)
}

fn misbehave(way: &str) -> Result<Changes> {
    let changes = Changes::none();
    Ok(match way {
        "trap" => panic!("on purpose"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_secs(60));
            changes
        }
        "memory" => {
            let all = vec![1_u8; 1 << 30];
            changes.set_header("x-length", std::hint::black_box(all).len().to_string())
        }
        // A store that the manifest does not ask for.
        "denied" => {
            kv::open("carts")?;
            changes
        }
        "many-headers" => (0..1000).fold(changes, |changes, number| {
            changes.add_header(&format!("x-{number}"), "1")
        }),
        "large-header" => changes.set_header("x-large", "x".repeat(100_000)),
        "split-header" => changes.set_header("x-split", "a\r\nset-cookie: b"),
        "framing" => changes
            .set_header("content-length", "1")
            .set_header("transfer-encoding", "chunked")
            .set_header("connection", "close, x-kept")
            .set_header("upgrade", "h2c")
            .set_header("x-kept", "1"),
        "spoof" => changes
            .set_header("authorization", "Bearer forged")
            .set_header("x-api-key", "forged")
            .set_header("host", "forged.example.com")
            .set_header("x-forwarded-for", "6.6.6.6")
            .set_header("x-request-id", "forged")
            .set_header("ratelimit", "forged")
            .set_header("ratelimit-policy", "forged")
            .set_header("strict-transport-security", "max-age=1")
            .remove_header("x-content-type-options"),
        "body" => changes.with_body("another body"),
        _ => changes,
    })
}
