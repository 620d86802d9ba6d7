//! HTTP requests to the outside, to the hosts that `plugin.toml` declares and the operator granted:
//!
//! ```toml
//! [[capabilities.http]]
//! host = "api.stripe.com"
//! reason = "takes deposits"
//! ```
//!
//! ```
//! use gantry_sdk::prelude::*;
//! use std::time::Duration;
//!
//! #[derive(Deserialize)]
//! struct Rate {
//!     value: f64,
//! }
//!
//! fn rate(currency: &str) -> Result<f64> {
//!     let rate: Rate = outbound::get("https://rates.example/v1/latest")
//!         .query("currency", currency)
//!         .header("accept", "application/json")
//!         .timeout(Duration::from_secs(3))
//!         .send()?
//!         .error_for_status()?
//!         .json()?;
//!     Ok(rate.value)
//! }
//! # let _ = rate;
//! ```

#[cfg(target_family = "wasm")]
pub(crate) mod wasi;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorKind, Result, kv};

/// How many bytes of a response are read if the request says nothing else.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A request to be sent.
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    /// In capitals: `GET`, `POST`, …
    pub method: String,
    /// The whole address, with the query.
    pub url: String,
    /// In the order they are sent.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    timeout_ms: Option<u64>,
    body_bytes_max: usize,
    /// What went wrong while it was built; told when it is sent, so that building stays one line.
    mistake: Option<String>,
}

/// What came back, with its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Names in small letters. A value that is not UTF-8 is left out.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// A GET request to `https://…` or `http://…`.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A POST request.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A PUT request.
pub fn put(url: impl Into<String>) -> Request {
    request("PUT", url)
}

/// A DELETE request.
pub fn delete(url: impl Into<String>) -> Request {
    request("DELETE", url)
}

/// A request with any method, in capitals.
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    Request {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
        timeout_ms: None,
        body_bytes_max: BODY_BYTES_MAX,
        mistake: None,
    }
}

impl Request {
    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a parameter to the query, percent-encoded.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url
            .push(if self.url.contains('?') { '&' } else { '?' });
        encode(name, &mut self.url);
        self.url.push('=');
        encode(value, &mut self.url);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, and `content-type` with it.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.header("content-type", "application/json").body(body),
            Err(error) => {
                self.mistake = Some(error.to_string());
                self
            }
        }
    }

    /// Sets the body to an HTML form, and `content-type` with it.
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let mut body = String::new();
        for (name, value) in fields {
            if !body.is_empty() {
                body.push('&');
            }
            encode(name, &mut body);
            body.push('=');
            encode(value, &mut body);
        }
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    }

    /// How long to wait for the connection and for each part of the answer. The host's limits hold besides.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(kv::millis(timeout));
        self
    }

    /// How many bytes of the response to read at most; 8 MiB if not said.
    pub fn body_bytes_max(mut self, max: usize) -> Self {
        self.body_bytes_max = max;
        self
    }

    /// Sends it and waits for the whole response. Every status is `Ok`; see [`Response::error_for_status`].
    ///
    /// `denied` with `outbound.host_not_granted`, `outbound.method_not_granted` or `outbound.address_forbidden`,
    /// `timeout` with `outbound.timeout`, `unavailable` with `outbound.unreachable` or, if the other side may have
    /// acted already, `outbound.broken`; `limit` with `outbound.body_too_large` if the answer is larger than this
    /// request allows. The guide lists them all.
    pub fn send(self) -> Result<Response> {
        match self.mistake {
            Some(mistake) => Err(invalid(mistake)),
            None => crate::host::outbound::send(self),
        }
    }
}

impl Response {
    /// The first value of a header; the name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text; an internal error if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    /// The body as JSON; an internal error if it does not fit the type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The response, or an error if the status is 400 or more: `unavailable` with `outbound.status` for 502, 503, 504
    /// and 429, `internal` for the others. The client of your plugin is to blame for neither.
    pub fn error_for_status(self) -> Result<Self> {
        let kind = match self.status {
            429 | 502..=504 => ErrorKind::Unavailable,
            400.. => ErrorKind::Internal,
            _ => return Ok(self),
        };
        let message = format!("the other side answered with status {}", self.status);
        Err(Error::of_kind(kind, "outbound.status", message))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::of_kind(ErrorKind::Invalid, "outbound.invalid_request", message)
}

/// Percent-encodes all but the characters that never need it.
fn encode(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                into.push(char::from(byte));
            }
            _ => {
                into.push('%');
                into.push(char::from(HEX[usize::from(byte >> 4)]));
                into.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}
