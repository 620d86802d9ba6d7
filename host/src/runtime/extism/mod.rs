//! Modules of Extism: core WebAssembly written with any of its kits, as handlers of requests and as transformations.
//!
//! They run on the same engine, within the same limits and behind the same grants as components; what Extism gives its
//! modules is made here of the host's own services.

mod functions;
mod http_request;
mod kernel;
mod record;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use wasmtime::{Func, Instance, InstancePre, Linker, Store, Val};
use wasmtime_wasi::{I32Exit, p1::WasiP1Ctx};

use crate::bindings::gantry::types::types::{Detail, Error as GuestError};
use crate::runtime::call::Failure;
use crate::runtime::state::PluginState;
use crate::runtime::{Config, HttpCall, response, state};

/// Which export of a module answers, and what passes between it and the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name of the export.
    pub export: String,
    pub convention: Convention,
}

/// What an export takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Convention {
    /// A request and a response as JSON.
    Handler,
    /// The body of the request and that of the answer, as they are.
    Transform {
        /// The media type of the answer.
        output_type: HeaderValue,
    },
}

/// What an instance of an Extism module has beside that of a component.
#[derive(Default)]
pub(super) struct State {
    kernel: kernel::Kernel,
    vars: functions::Vars,
    http: http_request::Last,
    /// Made when the guest first asks for it.
    wasi: Option<WasiP1Ctx>,
}

/// Adds everything that a module may import. Once per process.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<PluginState>> {
    let mut linker = Linker::new(engine);
    functions::link(&mut linker)?;
    http_request::link(&mut linker)?;
    // Clocks, random numbers and streams. Files are linked because standard libraries import them, and there is nothing
    // behind them.
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, lend_wasi)?;
    Ok(linker)
}

fn lend_wasi(state: &mut PluginState) -> &mut WasiP1Ctx {
    let (extism, log) = (state.extism.get_or_insert_default(), &state.log);
    let rehearsal = state.services.rehearsal.as_ref();
    let wasi = || state::wasi(log, rehearsal, state.random_bytes_max).build_p1();
    extism.wasi.get_or_insert_with(wasi)
}

/// Calls the export that the route names.
pub(super) async fn run(
    pre: &InstancePre<PluginState>,
    store: &mut Store<PluginState>,
    call: &HttpCall,
    body: &Bytes,
    config: &Config,
) -> Result<http::Response<Bytes>, Failure> {
    let Some(target) = &call.target else {
        let reason = "its route does not say which export answers".to_owned();
        return Err(Failure::InvalidResponse(reason));
    };
    let input = match target.convention {
        Convention::Handler => {
            record::request(call, body, &store.data().call, &store.data().plugin)
        }
        Convention::Transform { .. } => body.clone(),
    };
    // A record is a copy of the request.
    let held = store.data().allowance.hold(input.len());
    let _held = held.map_err(|error| Failure::Returned(error.into()))?;
    let output = call_export(pre, store, &target.export, input).await?;
    if output.len() > config.transfer_bytes_max {
        let reason = format!("it has more than {} bytes", config.transfer_bytes_max);
        return Err(Failure::InvalidResponse(reason));
    }
    let answer = match &target.convention {
        Convention::Handler => record::response(&output, config),
        Convention::Transform { output_type } => {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, output_type.clone())]);
            response::finish(200, headers, output, config)
        }
    };
    answer.map_err(Failure::InvalidResponse)
}

async fn call_export(
    pre: &InstancePre<PluginState>,
    store: &mut Store<PluginState>,
    export: &str,
    input: Bytes,
) -> Result<Bytes, Failure> {
    let state = store.data_mut().extism.get_or_insert_default();
    state.kernel.set_input(input);
    let instance = pre.instantiate_async(&mut *store).await?;
    initialize(&instance, store).await?;
    let function = instance
        .get_func(&mut *store, export)
        .ok_or_else(|| wasmtime::Error::msg(format!("it has no export `{export}`")))?;
    let ended = call(function, store, &[]).await;
    let error = store
        .data_mut()
        .extism
        .get_or_insert_default()
        .kernel
        .error();
    let code = match ended {
        Ok(code) => code,
        Err(trap) => match (trap.downcast_ref::<I32Exit>(), &error) {
            // The exit of a command, or of a language whose functions end that way.
            (Some(I32Exit(code)), _) => *code,
            (None, Some(error)) => return Err(trap.context(error.clone()).into()),
            (None, None) => return Err(trap.into()),
        },
    };
    if code != 0 || error.is_some() {
        let message = error.unwrap_or_else(|| format!("the export `{export}` returned {code}"));
        return Err(Failure::Returned(refusal(code, message)));
    }
    let state = store.data_mut().extism.get_or_insert_default();
    Ok(state.kernel.take_output())
}

/// What Extism calls before the first function of an instance, by the language that the module was written in.
async fn initialize(instance: &Instance, store: &mut Store<PluginState>) -> Result<(), Failure> {
    let is_plain = |function: &Func, store: &mut Store<PluginState>| {
        function.typed::<(), ()>(&mut *store).is_ok()
    };
    let haskell = instance.get_func(&mut *store, "hs_init");
    let names: &[&str] = match haskell {
        Some(_) => &["_initialize"],
        None => &["__wasm_call_ctors", "_initialize"],
    };
    for name in names {
        if let Some(function) = instance.get_func(&mut *store, name) {
            if is_plain(&function, store) {
                call(function, store, &[]).await?;
            }
            break;
        }
    }
    if let Some(function) = haskell {
        call(function, store, &[Val::I32(0), Val::I32(0)]).await?;
    }
    Ok(())
}

/// The code that a function returns; 0 if it returns nothing.
async fn call(
    function: Func,
    store: &mut Store<PluginState>,
    parameters: &[Val],
) -> wasmtime::Result<i32> {
    // The result is written over; only its number must be right, and validation sees to it that it is one at most.
    let mut results = [Val::I32(0)];
    let count = function.ty(&*store).results().len().min(1);
    function
        .call_async(store, parameters, &mut results[..count])
        .await?;
    Ok(results[0].i32().unwrap_or_default())
}

/// A module has only a number and a text to say what went wrong. Numbers that HTTP has for mistakes of the client mean
/// just that, and the client sees the text; everything else is the module's own failure, and the text goes to its log.
fn refusal(code: i32, message: String) -> GuestError {
    let detail = Detail {
        code: "plugin.refused".to_owned(),
        message,
        // Whoever is told that it was too much is told when to come back.
        retry_after_ms: (code == 429).then_some(1000),
    };
    match code {
        400 | 422 => GuestError::Invalid(detail),
        403 => GuestError::Denied(detail),
        404 => GuestError::NotFound(detail),
        409 => GuestError::Conflict(detail),
        429 => GuestError::Limit(detail),
        _ => GuestError::Internal(detail),
    }
}
