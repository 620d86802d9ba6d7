//! Looks for a way out through WASI: files, environment, sockets. Tells what it found.

use std::net::TcpStream;

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[gantry_sdk::handler]
fn look() -> Json<Value> {
    let outcome = |result: Result<String, std::io::Error>| match result {
        Ok(found) => json!({ "found": found }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    Json(json!({
        "passwd": outcome(std::fs::read_to_string("/etc/passwd")),
        "root": outcome(std::fs::read_dir("/").map(|entries| entries.count().to_string())),
        "write": outcome(std::fs::write("/tmp/gantry-guest", "x").map(|()| "wrote".to_owned())),
        "socket": outcome(TcpStream::connect("127.0.0.1:1").map(|_| "connected".to_owned())),
        "environment": std::env::vars().count(),
        "arguments": std::env::args().count(),
    }))
}
