//! What people on the network try against accounts, the admin API and routes of plugins. `docs/operate/security-suite.md` lists
//! it, with the scenes elsewhere that belong to it; a test in `tidy` holds that list and the scenes together.

mod documents;
mod enumeration;
mod forged;
mod injection;
mod outages;
mod oversized;
mod slow;
mod smuggling;
mod tokens;

use std::time::Duration;

use gantry_harness::{Client, TestHost, guests::guest};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const API: &str = "/_gantry/api/v1";
/// Of every account that the harness makes.
const PASSWORD: &str = "correct horse battery";

/// Says what it was asked, behind every kind of door.
const ECHO: &str = r#"
schema = 1
[plugin]
name = "echo"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[permission]]
name = "things.write"
[[route]]
method = ["GET", "POST"]
path = "/open/{*rest}"
auth = "public"
[[route]]
method = ["GET", "POST"]
path = "/optional"
auth = "optional"
[[route]]
method = ["GET", "POST"]
path = "/closed"
[[route]]
method = "GET"
path = "/permitted"
permissions = ["things.write"]
[[route]]
method = "POST"
path = "/once"
auth = "public"
idempotency = "required"
"#;

/// A host with doors, and an administrator who is a person.
async fn host() -> TestHost {
    let host = TestHost::start().await;
    host.deploy(ECHO, guest("echo")).await;
    host
}

/// What a login of an account of the harness answers.
async fn log_in(host: &TestHost, email: &str) -> Value {
    let login = json!({ "email": email, "password": PASSWORD });
    let answer = host.post("/api/auth/login", &login).await;
    answer.assert_status(200).json()
}

/// What comes back for these bytes until the host closes the connection, or is silent.
async fn raw(host: &TestHost, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(host.app().address).await.unwrap();
    // The host may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut part = vec![0; 16 << 10];
    loop {
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut part)).await;
        match read {
            Ok(Ok(count)) if count > 0 => answer.extend(&part[..count]),
            _ => return String::from_utf8_lossy(&answer).into_owned(),
        }
    }
}

/// The value of a metric that has no labels.
async fn metric(admin: &Client, name: &str) -> u64 {
    let text = admin.get("/metrics").await.assert_status(200).text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {text}"))
        .parse()
        .unwrap()
}
