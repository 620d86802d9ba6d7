//! `http_request` of `extism:host/env`: requests of a module to other servers, behind the same guard, grants and budgets as
//! those of components.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use serde::Deserialize;
use wasmtime::{Caller, Error, Linker, Result};

use super::functions::ENV;
use crate::runtime::egress::Way;
use crate::runtime::state::PluginState;
use crate::services::outbound::Patience;
use crate::services::{self, Held};

/// What the last request came to.
#[derive(Default)]
pub(super) struct Last {
    status: u16,
    headers: BTreeMap<String, String>,
}

/// The request as a module writes it.
#[derive(Deserialize)]
struct Record {
    url: String,
    #[serde(default, alias = "header")]
    headers: BTreeMap<String, String>,
    method: Option<String>,
}

/// Most bytes of the record; the body comes beside it.
const RECORD_BYTES_MAX: usize = 128 << 10;

pub(super) fn link(linker: &mut Linker<PluginState>) -> Result<()> {
    linker.func_wrap_async(
        ENV,
        "http_request",
        |guest: Caller<'_, PluginState>, (record, body): (u64, u64)| {
            Box::new(send(guest, record, body))
        },
    )?;
    linker.func_wrap(
        ENV,
        "http_status_code",
        |mut guest: Caller<'_, PluginState>| {
            let state = guest.data_mut().extism.get_or_insert_default();
            i32::from(state.http.status)
        },
    )?;
    linker.func_wrap(
        ENV,
        "http_headers",
        |mut guest: Caller<'_, PluginState>| -> Result<u64> {
            let state = guest.data_mut();
            let extism = state.extism.get_or_insert_default();
            let headers = serde_json::to_vec(&extism.http.headers)?;
            Ok(extism.kernel.put(&headers, &mut state.memory)?)
        },
    )?;
    Ok(())
}

/// Sends the request and returns the answer's body as a block. Where there is no answer, the module stops with a trap, as
/// in Extism.
async fn send(mut guest: Caller<'_, PluginState>, record: u64, body: u64) -> Result<u64> {
    let state = guest.data_mut();
    let extism = state.extism.get_or_insert_default();
    extism.http = Last::default();
    let record = extism.kernel.take(record, &mut state.memory)?;
    let body = extism.kernel.take(body, &mut state.memory)?;
    let request = request(&record, body.into())?;
    let way = state.egress.way();
    let answer = receive(&way, request).await.map_err(|error| {
        Error::msg(format!(
            "a request was not answered: {}: {}",
            error.code, error.message
        ))
    })?;
    let state = guest.data_mut();
    let extism = state.extism.get_or_insert_default();
    extism.http = Last {
        status: answer.status,
        headers: answer.headers,
    };
    Ok(extism.kernel.put(&answer.body, &mut state.memory)?)
}

fn request(record: &[u8], body: Bytes) -> Result<http::Request<Bytes>> {
    let invalid = |what: &str| Error::msg(format!("a request was not sent: {what}"));
    if record.len() > RECORD_BYTES_MAX {
        return Err(invalid("its record is too large"));
    }
    let record: Record = serde_json::from_slice(record)
        .map_err(|_| invalid("its record is not JSON with a `url`"))?;
    let method = record.method.as_deref().unwrap_or("GET");
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
        .map_err(|_| invalid("its method cannot be read"))?;
    let uri: http::Uri = record
        .url
        .parse()
        .map_err(|_| invalid("its url cannot be read"))?;
    let mut request = http::Request::new(body);
    for (name, value) in record.headers {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::try_from(value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(invalid("a header has characters that are not allowed"));
        };
        request.headers_mut().append(name, value);
    }
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    Ok(request)
}

/// The answer, its body read to the end and counted while it comes. Of a header that comes several times the last one
/// counts, as in Extism.
async fn receive(way: &Way, request: http::Request<Bytes>) -> Result<Answer, services::Error> {
    // Kept until the answer has begun: a redirect may want the body again.
    let sent = way.allowance.hold(request.body().len())?;
    let (head, mut body) = way.send(request, Patience::default()).await?.into_parts();
    drop(sent);
    let mut held = way.allowance.hold(0)?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            held.grow(data.len())?;
            bytes.extend_from_slice(&data);
        }
    }
    let headers = head.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    Ok(Answer {
        status: head.status.as_u16(),
        headers: headers.collect(),
        body: bytes,
        _held: held,
    })
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: BytesMut,
    _held: Held,
}
