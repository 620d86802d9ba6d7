//! Writes much more to the log than anybody wants to read; the path says how.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn flood(request: Request) -> Json<u32> {
    let lines = match request.path.as_str() {
        "/long" => {
            log::info("x".repeat(10_000_000));
            1
        }
        "/stderr" => {
            (0..100_000).for_each(|number| eprintln!("line {number}"));
            100_000
        }
        "/breaks" => {
            log::write(
                log::Level::Error,
                "a\nb\u{1b}[31m",
                "forged\n{\"level\":\"INFO\"}\u{0}",
            );
            1
        }
        _ => {
            (0..100_000).for_each(|number| log::info(format!("line {number}")));
            100_000
        }
    };
    Json(lines)
}
