//! `wasi:http/incoming-handler@0.2`, on the plain engine.

use std::sync::Mutex;

use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::HeadSender;
use crate::runtime::call::Failure;
use crate::runtime::state::PluginState;

/// Runs the guest to its end. The head of the answer comes out of `head` as soon as the guest sets it.
pub(super) async fn run(
    pre: &ProxyPre<PluginState>,
    store: &mut Store<PluginState>,
    request: http::Request<WasiBody>,
    head: HeadSender,
) -> Result<(), Failure> {
    let sender = Mutex::new(Some(head));
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |result| {
        if let Some(sender) = sender.lock().ok().and_then(|mut sender| sender.take()) {
            // Nobody listens any more once the deadline has passed.
            let _ = sender.send(result.map_err(|code| format!("{code:?}")));
        }
    })?;
    let proxy = pre.instantiate_async(&mut *store).await?;
    let handler = proxy.wasi_http_incoming_handler();
    Ok(handler.call_handle(store, request, out).await?)
}
