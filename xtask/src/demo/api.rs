//! Requests to the server next door: HTTP/1.1 over a plain connection, one request each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

/// Nothing here takes longer, not even compiling the plugin on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A server and the key of its administrator.
pub(super) struct Api {
    address: SocketAddr,
    key: String,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    what: String,
    body: Vec<u8>,
}

impl Api {
    pub(super) fn new(address: SocketAddr, key: String) -> Self {
        Self { address, key }
    }

    /// A request to the admin API.
    pub(super) fn admin(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        self.as_admin(method, &format!("/_gantry/api/v1{path}"), body)
    }

    /// A request with the administrator's key.
    pub(super) fn as_admin(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let credentials = ("authorization".to_owned(), format!("Bearer {}", self.key));
        self.send(method, path, &[credentials], body)
    }

    /// A request with these headers.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let what = format!("{method} {path}");
        send(self.address, method, path, headers, body)
            .map(|(status, body)| Answer {
                status,
                what: what.clone(),
                body,
            })
            .with_context(|| format!("`{what}` got no answer"))
    }
}

impl Answer {
    pub(super) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("`{}`: {}", self.what, self.text()))
    }

    /// The body, if the status is the one expected.
    pub(super) fn expect(&self, status: u16) -> anyhow::Result<Value> {
        self.check(status)?;
        self.json()
    }

    pub(super) fn check(&self, status: u16) -> anyhow::Result<()> {
        if self.status != status {
            bail!(
                "`{}` was answered with {} and not {status}: {}",
                self.what,
                self.status,
                self.text()
            );
        }
        Ok(())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(2000)
            .collect()
    }
}

fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if body.starts_with(b"{") && !headers.iter().any(|(name, _)| name == "content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .context("the answer has no head")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((
        status.context("the answer has no status")?,
        answer.split_off(end + 4),
    ))
}
