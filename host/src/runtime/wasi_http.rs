//! Components of `wasi:http` 0.2, unmodified: anything that runs under `wasmtime serve` or Spin. Bodies are whole here.

use std::{pin::pin, sync::Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use crate::runtime::invoke::Failure;
use crate::runtime::state::PluginState;
use crate::runtime::{Config, HttpCall, response};

/// Calls `wasi:http/incoming-handler`. The guest may go on writing its body after it has sent the head, so both run side
/// by side in this one task.
pub(super) async fn run(
    pre: &ProxyPre<PluginState>,
    store: &mut Store<PluginState>,
    call: &HttpCall,
    config: &Config,
) -> Result<http::Response<Bytes>, Failure> {
    let request = request(call, store.data().call.headers.clone())?;
    let (sender, receiver) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |result| {
        if let Some(sender) = sender.lock().ok().and_then(|mut sender| sender.take()) {
            // Nobody listens any more once the deadline has passed.
            let _ = sender.send(result);
        }
    })?;
    let proxy = pre.instantiate_async(&mut *store).await?;
    let handle = proxy
        .wasi_http_incoming_handler()
        .call_handle(&mut *store, request, out);
    let answer = async {
        let Ok(result) = receiver.await else {
            return Err(Failure::InvalidResponse(
                "it never set a response".to_owned(),
            ));
        };
        let error = |reason: String| Failure::InvalidResponse(reason);
        let (head, body) = result
            .map_err(|code| error(format!("it set the error {code:?}")))?
            .into_parts();
        let body = Limited::new(body, config.response_body_bytes_max)
            .collect()
            .await;
        let body = body.map_err(|cause| error(format!("its body could not be read: {cause}")))?;
        response::finish(head.status.as_u16(), head.headers, body.to_bytes(), config).map_err(error)
    };
    let mut answer = pin!(answer);
    let mut answered = None;
    {
        let mut handle = pin!(handle);
        loop {
            tokio::select! {
                biased;
                // A guest that traps leaves no response behind, or half of one; the trap is the reason to report.
                handled = handle.as_mut() => break handled?,
                early = answer.as_mut(), if answered.is_none() => answered = Some(early),
            }
        }
    }
    match answered {
        Some(answered) => answered,
        None => {
            // What the guest left open nobody can finish any more. Without this, the call would wait for it to its
            // deadline and keep its place.
            store.data_mut().table = ResourceTable::new();
            answer.await
        }
    }
}

fn request(
    call: &HttpCall,
    headers: http::HeaderMap,
) -> Result<http::Request<Full<Bytes>>, Failure> {
    let mut request = http::Request::new(Full::new(call.body.clone()));
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
