//! The one place where guest code runs: always with a place, a memory limit and a deadline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use wasmtime::{
    Engine, Store,
    component::{ComponentExportIndex, InstancePre},
};

use crate::bindings::gantry::types::types::Error as GuestError;
use crate::bindings::messages;
use crate::runtime::cpu::{CpuClock, Stop};
use crate::runtime::plugin::Entry;
use crate::runtime::state::PluginState;
use crate::runtime::{
    CallContext, Fault, HttpCall, Invocation, InvokeError, LoadedPlugin, PluginSpec, Runtime,
    Trigger, Usage, extism, response, wasi_http,
};
use crate::services::Allowance;

/// What came out of a call, and what it used.
pub struct Outcome {
    pub result: Result<http::Response<Bytes>, InvokeError>,
    pub usage: Usage,
}

impl Runtime {
    /// Calls a plugin. The instance is made for this call and gone after it.
    pub async fn invoke(&self, plugin: &LoadedPlugin, invocation: Invocation) -> Outcome {
        let Invocation {
            mut context,
            trigger: Trigger::Http(call),
        } = invocation;
        let _places = match self.take_places(plugin).await {
            Ok(places) => places,
            Err(error) => {
                return Outcome {
                    result: Err(error),
                    usage: Usage::default(),
                };
            }
        };
        let spec = &plugin.spec;
        let began = Instant::now();
        context.deadline = context.deadline.min(began + spec.limits.wall);
        let deadline = context.deadline;
        let memory = plugin.memory.part(self.config.held_bytes_per_call_max);
        let allowance = Allowance::new(deadline.into(), spec.limits.cpu, memory);
        let clock = CpuClock::start(began, self.config.epoch_tick(), allowance.clone());
        let engine = plugin.entry.engine();
        let mut store = self.store(engine, spec, context, allowance.clone(), &clock);
        let result = {
            let run = std::pin::pin!(run(&plugin.entry, &mut store, &call, &self.config));
            tokio::time::timeout_at(deadline.into(), clock.timed(run)).await
        };
        let result = result.unwrap_or(Err(Failure::Stopped(Stop::Deadline)));
        let usage = Usage {
            cpu: allowance.cpu_used(),
            memory_bytes: store.data().memory.peak_bytes(),
        };
        let wall = deadline.saturating_duration_since(began);
        let result = result.map_err(|failure| failure.explain(spec, &store, wall));
        if let Err(error) = &result
            && error.fault() == Fault::Plugin
        {
            // The client learns only that it failed; the author finds here why.
            store.data().log.write_verdict(&error.to_string());
        }
        Outcome { result, usage }
    }

    fn store(
        &self,
        engine: &Engine,
        spec: &Arc<PluginSpec>,
        context: CallContext,
        allowance: Allowance,
        clock: &CpuClock,
    ) -> Store<PluginState> {
        let state = PluginState::new(spec, &self.services, context, allowance, &self.config);
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.config.transfer_bytes_max);
        store.set_epoch_deadline(1);
        let clock = clock.clone();
        store.epoch_deadline_callback(move |_| Ok(clock.at_epoch()?));
        store
    }
}

/// Which way a call failed, before it is known who is to blame.
pub(super) enum Failure {
    /// The guest returned an error of its own accord.
    Returned(GuestError),
    /// The host stopped it.
    Stopped(Stop),
    /// Its answer breaks a rule.
    InvalidResponse(String),
    /// Everything that wasmtime reports.
    Wasmtime(wasmtime::Error),
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        match error.downcast_ref::<Stop>() {
            Some(stop) => Self::Stopped(*stop),
            None => Self::Wasmtime(error),
        }
    }
}

impl Failure {
    fn explain(self, spec: &PluginSpec, store: &Store<PluginState>, wall: Duration) -> InvokeError {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Returned(error) => InvokeError::Returned(error.into()),
            Self::Stopped(Stop::Deadline) => InvokeError::DeadlineExceeded { limit_ms: ms(wall) },
            Self::Stopped(Stop::Cpu) => InvokeError::CpuExceeded {
                limit_ms: ms(spec.limits.cpu),
            },
            Self::InvalidResponse(reason) => InvokeError::InvalidResponse { reason },
            // A guest that gets no more memory stops itself in its own way, which says nothing.
            Self::Wasmtime(_) if store.data().memory.has_refused() => InvokeError::MemoryExceeded {
                limit_bytes: spec.limits.memory_bytes_max,
            },
            Self::Wasmtime(error) if is_too_much_data(&error) => InvokeError::InvalidResponse {
                reason: "it passes more data at once than the host takes".to_owned(),
            },
            Self::Wasmtime(error) => InvokeError::Trapped {
                reason: format!("{error:#}").chars().take(4000).collect(),
            },
        }
    }
}

/// Whether a guest passed more data in one go than `transfer_bytes_max`. Wasmtime has no type for it in its interface.
fn is_too_much_data(error: &wasmtime::Error) -> bool {
    error
        .root_cause()
        .to_string()
        .contains("fuel allocated for hostcalls")
}

async fn run(
    entry: &Entry,
    store: &mut Store<PluginState>,
    call: &HttpCall,
    config: &crate::runtime::Config,
) -> Result<http::Response<Bytes>, Failure> {
    match entry {
        Entry::Handler { pre, handle } => {
            let response = run_handler(pre, handle, store, call).await?;
            response::check(response, config).map_err(Failure::InvalidResponse)
        }
        Entry::Transform { pre, transform } => {
            let output = run_transform(pre, transform, store, call).await?;
            response::of_document(output, config).map_err(Failure::InvalidResponse)
        }
        Entry::WasiHttp02 { pre } => wasi_http::run(pre, store, call, config).await,
        Entry::Extism { pre } => extism::run(pre, store, call, config).await,
    }
}

async fn run_handler(
    pre: &InstancePre<PluginState>,
    handle: &ComponentExportIndex,
    store: &mut Store<PluginState>,
    call: &HttpCall,
) -> Result<messages::Response, Failure> {
    let request = messages::Request {
        method: call.method.as_str(),
        path: call.path(),
        query: call.uri.query().unwrap_or_default(),
        body: &call.body,
    };
    let instance = pre.instantiate_async(&mut *store).await?;
    let function = instance
        .get_typed_func::<(messages::Request<'_>,), (Result<messages::Response, GuestError>,)>(
            &mut *store,
            handle,
        )?;
    let (result,) = function.call_async(store, (request,)).await?;
    result.map_err(Failure::Returned)
}

async fn run_transform(
    pre: &InstancePre<PluginState>,
    transform: &ComponentExportIndex,
    store: &mut Store<PluginState>,
    call: &HttpCall,
) -> Result<messages::Output, Failure> {
    let content_type = store.data().call.headers.get(http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type
        .unwrap_or("application/octet-stream")
        .to_owned();
    let query = call.uri.query().unwrap_or_default();
    let params: serde_json::Map<_, _> = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    let params = serde_json::Value::Object(params).to_string();
    let input = messages::Input {
        body: &call.body,
        content_type: &content_type,
    };
    let instance = pre.instantiate_async(&mut *store).await?;
    let function = instance
        .get_typed_func::<(messages::Input<'_>, &str), (Result<messages::Output, GuestError>,)>(
            &mut *store,
            transform,
        )?;
    let (result,) = function.call_async(store, (input, &params)).await?;
    result.map_err(Failure::Returned)
}
