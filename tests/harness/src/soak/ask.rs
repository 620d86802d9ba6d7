//! One request of a client that means well, or leaves early, and what came of it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Method;

use super::Tally;
use crate::Client;

/// A request, and what may come of it.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) plugin: &'static str,
    method: Method,
    /// Below the plugin; `{n}` is a number that changes.
    path: &'static str,
    body: Body,
    /// How many bytes an answer of 200 has, if that is known.
    bytes: Option<usize>,
    leaves: Leaves,
    expected: &'static [&'static str],
}

#[derive(Debug, Clone)]
enum Body {
    None,
    Text(&'static str),
    /// With its length in the head.
    Whole(usize),
    /// In pieces whose number nobody knows before.
    Pieces(usize, usize),
}

#[derive(Debug, Clone, Copy)]
enum Leaves {
    Never,
    /// After so many bytes of the answer.
    Bytes(usize),
    /// After this time, whatever there is by then.
    Ms(u64),
}

/// What a client has that has left before the end, as it wanted.
pub(super) const LEFT: &str = "left";

impl Ask {
    /// `GET`, to be answered with 200.
    pub(super) fn get(plugin: &'static str, path: &'static str) -> Self {
        Self {
            plugin,
            method: Method::GET,
            path,
            body: Body::None,
            bytes: None,
            leaves: Leaves::Never,
            expected: &["200"],
        }
    }

    /// `POST` of a text.
    pub(super) fn post(plugin: &'static str, path: &'static str, text: &'static str) -> Self {
        Self {
            method: Method::POST,
            body: Body::Text(text),
            ..Self::get(plugin, path)
        }
    }

    /// `POST` of so many bytes.
    pub(super) fn post_bytes(plugin: &'static str, path: &'static str, bytes: usize) -> Self {
        Self {
            method: Method::POST,
            body: Body::Whole(bytes),
            ..Self::get(plugin, path)
        }
    }

    /// `POST` of so many pieces of so many bytes.
    pub(super) fn post_pieces(
        plugin: &'static str,
        path: &'static str,
        pieces: usize,
        bytes: usize,
    ) -> Self {
        Self {
            method: Method::POST,
            body: Body::Pieces(pieces, bytes),
            ..Self::get(plugin, path)
        }
    }

    /// The same, with an answer of so many bytes.
    pub(super) fn answers(self, bytes: usize) -> Self {
        let bytes = Some(bytes);
        Self { bytes, ..self }
    }

    /// The same, to end in one of these ways: a status, a status and the code of the problem, `cut off`.
    pub(super) fn ends(self, expected: &'static [&'static str]) -> Self {
        Self { expected, ..self }
    }

    /// The same from a client that leaves after so many bytes of the answer.
    pub(super) fn leaves_after(self, bytes: usize) -> Self {
        Self {
            leaves: Leaves::Bytes(bytes),
            expected: &[LEFT],
            ..self
        }
    }

    /// The same from a client that leaves after this time.
    pub(super) fn leaves_at(self, ms: u64) -> Self {
        Self {
            leaves: Leaves::Ms(ms),
            expected: &[LEFT],
            ..self
        }
    }

    /// Asks, and counts what came of it.
    pub(super) async fn go(&self, client: &Client, number: usize, tally: &mut Tally) {
        let outcome = match self.leaves {
            Leaves::Ms(ms) => {
                let limit = Duration::from_millis(ms);
                let asked = tokio::time::timeout(limit, self.outcome(client, number)).await;
                asked.unwrap_or_else(|_| LEFT.to_owned())
            }
            _ => self.outcome(client, number).await,
        };
        let is_expected = self.expected.contains(&&*outcome);
        tally.count(self.plugin, &outcome, is_expected);
    }

    async fn outcome(&self, client: &Client, number: usize) -> String {
        let path = self.path.replace("{n}", &number.to_string());
        let request = client.request(self.method.clone(), &format!("/{}{path}", self.plugin));
        let request = match &self.body {
            Body::None => request,
            Body::Text(text) => request.body(*text),
            Body::Whole(bytes) => request.body(vec![b'x'; *bytes]),
            Body::Pieces(pieces, bytes) => {
                let piece = Bytes::from(vec![b'x'; *bytes]);
                let pieces = (0..*pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
                request.body(reqwest::Body::wrap_stream(stream::iter(pieces)))
            }
        };
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return format!("no answer: {}", cause(&error)),
        };
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut bytes = 0;
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => {
                    bytes += piece.len();
                    if status != 200 {
                        body.extend_from_slice(&piece);
                    }
                    if let Leaves::Bytes(enough) = self.leaves
                        && bytes >= enough
                    {
                        return LEFT.to_owned();
                    }
                }
                Ok(None) => break,
                Err(_) => return "cut off".to_owned(),
            }
        }
        match self.bytes {
            _ if status != 200 => problem(status, &body),
            Some(expected) if bytes != expected => format!("200 with {bytes} bytes"),
            _ => "200".to_owned(),
        }
    }
}

/// A status and the code of the problem, if it is one.
pub(super) fn problem(status: u16, body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let code = problem
        .as_ref()
        .and_then(|problem| problem["code"].as_str());
    code.map_or_else(|| status.to_string(), |code| format!("{status} {code}"))
}

/// The innermost reason, without addresses, so that the same reasons are counted together.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
