//! Components of `wasi:http`, unmodified: anything that runs under `wasmtime serve` or Spin. Answers that are complete
//! when the guest first pauses go out whole; others flow while the guest makes them.

mod answer;
pub(super) mod head;
mod v02;
mod v03;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

use crate::runtime::HttpCall;
use crate::runtime::call::Failure;

pub(super) use answer::{Pace, drive};

/// What the guest answers, or the error that it gives instead.
type Head = Result<http::Response<WasiBody>, String>;
type HeadSender = oneshot::Sender<Head>;

fn request(
    call: &HttpCall,
    body: WasiBody,
    headers: http::HeaderMap,
) -> Result<http::Request<WasiBody>, Failure> {
    let mut request = http::Request::new(body);
    let mut path = call.path().to_owned();
    if let Some(query) = call.uri.query() {
        path.push('?');
        path.push_str(query);
    }
    // A host that cannot be read is the client's mistake; it must not look like one of the plugin.
    let host = || {
        let host = headers.get(http::header::HOST)?.to_str().ok()?;
        host.parse().ok()
    };
    let authority = call.uri.authority().cloned().or_else(host);
    let authority = authority.unwrap_or_else(|| http::uri::Authority::from_static("localhost"));
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(path);
    *request.uri_mut() = uri
        .build()
        .map_err(|error| Failure::Wasmtime(wasmtime::Error::new(error)))?;
    *request.method_mut() = call.method.clone();
    *request.headers_mut() = headers;
    Ok(request)
}

fn whole(bytes: Bytes) -> WasiBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
