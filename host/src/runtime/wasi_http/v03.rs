//! `wasi:http/handler@0.3`, on the engine that runs several tasks in an instance.

use std::future::poll_fn;

use wasmtime::Store;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::HeadSender;
use crate::runtime::call::Failure;
use crate::runtime::state::PluginState;

/// Runs the guest until its last task has ended. The head of the answer comes out of `head` as soon as the guest returns
/// it; tasks that it leaves behind go on, mostly to write the body.
pub(super) async fn run(
    pre: &ServicePre<PluginState>,
    store: &mut Store<PluginState>,
    request: http::Request<WasiBody>,
    head: HeadSender,
    handles_max: usize,
) -> Result<(), Failure> {
    // Tasks, streams and futures are the host's memory, like handles.
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(handles_max);
    }
    let service = pre.instantiate_async(&mut *store).await?;
    let (request, received) = Request::from_http(store.data_mut().http().hooks, request);
    let run = async move |accessor: &wasmtime::component::Accessor<PluginState>| {
        let answer = service.handle(accessor, request).await?;
        let answer = match answer {
            Ok(response) => Ok(accessor.with(|store| response.into_http(store, received))?),
            Err(code) => Err(format!("{code:?}")),
        };
        // Nobody listens any more once the deadline has passed.
        let _ = head.send(answer);
        poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
        Ok(())
    };
    store.run_concurrent(run).await?
}
