//! A real OpenID provider in a process of its own: `oidc-provider`, which `cargo xtask test` fetches. `tests/oidc/server.mjs`
//! says who its clients and people are.

use std::{net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::guests;

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A provider on a port of its own. It ends with the test.
pub struct OidcServer {
    port: u16,
    child: Option<Child>,
}

impl OidcServer {
    /// A provider with new keys. Nothing if `cargo xtask test` could not get the program and has said so.
    pub async fn start() -> Option<Self> {
        tools()?;
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let mut server = Self { port, child: None };
        server.go_on().await;
        Some(server)
    }

    /// Starts it (again), at the same address, with other keys and without a memory.
    pub async fn go_on(&mut self) {
        self.die().await;
        let mut child = Command::new("node")
            .arg(guests::root().join("tests/oidc/server.mjs"))
            .arg(tools().expect("it was there before"))
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node is an executable");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let begun = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "listening" {
                    return true;
                }
            }
            false
        };
        let has_begun = tokio::time::timeout(PATIENCE, begun).await;
        assert_eq!(has_begun, Ok(true), "the provider does not start");
        #[expect(clippy::disallowed_methods, reason = "it ends with the pipe")]
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        self.child = Some(child);
    }

    /// Kills it, whatever it is doing.
    pub async fn die(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it ran");
        }
    }

    /// Its address, by which it is known.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes its answers to hosts slow or huge: `slow_ms=500`, `huge=1`, or nothing for as always.
    pub async fn be(&self, mood: &str) {
        let address = format!("{}/mood?{mood}", self.issuer());
        let answer = reqwest::get(address).await.expect("it runs");
        answer.error_for_status().expect("it knows its moods");
    }
}

/// Where the program is. Tests that need it are left out only if that was said aloud.
fn tools() -> Option<PathBuf> {
    const NAME: &str = "oidc-provider";
    if guests::is_without(NAME) {
        return None;
    }
    let tools = guests::root().join("target/tools/oidc");
    assert!(
        tools.join("node_modules").join(NAME).is_dir(),
        "{NAME} is missing; `cargo xtask test` fetches it"
    );
    Some(tools)
}
