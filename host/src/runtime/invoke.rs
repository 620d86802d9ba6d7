//! The one place where guest code runs: always with a place, a memory limit and a deadline.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;
use wasmtime::{
    Store,
    component::{ComponentExportIndex, Func, InstancePre},
};

use crate::bindings::gantry::types::types::Error as GuestError;
use crate::bindings::messages;
use crate::runtime::cpu::{CpuClock, Stop};
use crate::runtime::kept::Ready;
use crate::runtime::limit::OwnPlace;
use crate::runtime::plugin::Entry;
use crate::runtime::state::PluginState;
use crate::runtime::stream::{Body, BodyError, RequestBody};
use crate::runtime::wasi_http::{self, Times};
use crate::runtime::{
    CallContext, Fault, HttpCall, Invocation, InvokeError, LoadedPlugin, PluginSpec, Runtime,
    Trigger, Usage, extism, response,
};
use crate::services::Allowance;

/// Calls that take no longer never learn that their version was replaced: asking costs a lock.
pub(super) const SHORT: Duration = Duration::from_millis(500);

/// What came out of a call, and what it used.
pub struct Outcome {
    pub result: Result<http::Response<Body>, InvokeError>,
    /// Without what the rest will use.
    pub usage: Usage,
    /// What is still to be done where the body of the answer is a stream.
    pub rest: Option<Rest>,
}

/// The rest of a call whose answer has begun. It must be driven to its end in a task; it ends soon after the body was
/// sent or dropped.
pub struct Rest(Pin<Box<dyn Future<Output = Ended> + Send>>);

impl Rest {
    /// Drives it to its end.
    pub async fn run(self) -> Ended {
        self.0.await
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

/// How a call ended whose answer was a stream.
#[derive(Debug)]
pub struct Ended {
    /// An error has cut the body off.
    pub result: Result<(), InvokeError>,
    pub usage: Usage,
    /// Bytes of the body that were handed to the connection.
    pub bytes: u64,
}

impl Runtime {
    /// Calls a plugin. The instance is made for this call and gone after it.
    pub async fn invoke(&self, plugin: &Arc<LoadedPlugin>, invocation: Invocation) -> Outcome {
        let Invocation {
            mut context,
            trigger: Trigger::Http(call),
            account,
        } = invocation;
        let places = match self.take_places(plugin).await {
            Ok(places) => places,
            Err(error) => {
                return Outcome {
                    result: Err(error),
                    usage: Usage::default(),
                    rest: None,
                };
            }
        };
        let began = Instant::now();
        let normal = context.deadline.min(began + plugin.spec.limits.wall);
        context.deadline = call.stream.map_or(normal, |stream| began + stream);
        let times = Times {
            began,
            deadline: context.deadline,
            head: call.stream.map(|_| normal.saturating_duration_since(began)),
            client_idle: Duration::from_millis(self.config.client_idle_ms),
        };
        let memory = plugin.memory.part(self.config.held_bytes_per_call_max);
        let cpu = plugin.spec.limits.cpu;
        let allowance = Allowance::new(times.deadline.into(), cpu, memory, account);
        let clock = CpuClock::start(began, allowance.clone());
        let ready = clock.work(|| self.ready(plugin, context, allowance.clone(), clock.clone()));
        let prepared = Prepared {
            ready,
            clock,
            allowance,
            times,
        };
        match &plugin.entry {
            Entry::WasiHttp02 { .. } | Entry::WasiHttp03 { .. } => {
                let places = (plugin.places.own(places.0), self.places.own(places.1));
                self.invoke_wasi(plugin, prepared, places, call).await
            }
            Entry::Handler { .. }
            | Entry::Transform { .. }
            | Entry::Extism { .. }
            | Entry::Filter { .. } => {
                let outcome = self.invoke_whole(plugin, prepared, &call).await;
                drop(places);
                outcome
            }
        }
    }

    /// A call whose bodies are whole, which ends before this returns.
    async fn invoke_whole(
        &self,
        plugin: &LoadedPlugin,
        prepared: Prepared,
        call: &HttpCall,
    ) -> Outcome {
        let Prepared {
            mut ready,
            clock,
            allowance,
            times,
        } = prepared;
        let result = {
            let run = pin!(run(&plugin.entry, &mut ready, call, &self.config));
            let mut run = pin!(clock.timed(run));
            let soon = times.deadline.min(times.began + SHORT);
            match tokio::time::timeout_at(soon.into(), run.as_mut()).await {
                Ok(result) => result,
                Err(_) => tokio::select! {
                    biased;
                    result = run => result,
                    () = tokio::time::sleep_until(times.deadline.into()) => {
                        Err(Failure::Stopped(Stop::Deadline))
                    }
                    () = plugin.retired.cancelled() => Err(Failure::Stopped(Stop::Retired)),
                },
            }
        };
        let has_returned = matches!(result, Ok(_) | Err(Failure::Returned(_)));
        let state = ready.store.data();
        let memory = &state.memory;
        let (memory_bytes, has_refused) = (memory.peak_bytes(), memory.has_refused());
        let wall = times.deadline.saturating_duration_since(times.began);
        let result = result.map_err(|failure| failure.explain(&plugin.spec, has_refused, wall));
        if let Err(error) = &result
            && error.fault() == Fault::Plugin
        {
            // The client learns only that it failed; the author finds here why.
            state.log.write_verdict(&error.to_string());
        }
        // The memory is made ready for the next one, which takes longer the more of it was used.
        clock.work(|| match &plugin.kept {
            Some(kept) if has_returned => kept.put(ready),
            _ => drop(ready),
        });
        allowance.note_memory(memory_bytes);
        let usage = Usage {
            cpu: allowance.cpu_used(),
            memory_bytes,
        };
        Outcome {
            result: result.map(|response| response.map(Body::Whole)),
            usage,
            rest: None,
        }
    }

    /// A call of a standard guest, which may outlive this if the guest takes its time to write the body.
    async fn invoke_wasi(
        &self,
        plugin: &Arc<LoadedPlugin>,
        prepared: Prepared,
        places: (OwnPlace, OwnPlace),
        call: HttpCall,
    ) -> Outcome {
        let (sender, mut began) = oneshot::channel();
        let mut driving = Box::pin(wasi_http::drive(
            Arc::clone(plugin),
            Arc::clone(&self.config),
            prepared,
            places,
            call,
            sender,
        ));
        let finished = tokio::select! {
            biased;
            finished = &mut driving => finished,
            Ok(response) = &mut began => {
                return Outcome {
                    result: Ok(response.map(Body::Stream)),
                    usage: Usage::default(),
                    rest: Some(Rest(Box::pin(async move { driving.await.ended }))),
                };
            }
        };
        match (finished.answer, began.try_recv()) {
            (Some(answer), _) => Outcome {
                result: answer.map(|response| response.map(Body::Whole)),
                usage: finished.ended.usage,
                rest: None,
            },
            (None, Ok(response)) => Outcome {
                result: Ok(response.map(Body::Stream)),
                usage: Usage::default(),
                rest: Some(Rest(Box::pin(std::future::ready(finished.ended)))),
            },
            (None, Err(_)) => Outcome {
                result: Err(InvokeError::Host(anyhow::anyhow!("an answer was lost"))),
                usage: finished.ended.usage,
                rest: None,
            },
        }
    }

    /// What the call runs in: an instance that is as new, or a store in which one is made.
    fn ready(
        &self,
        plugin: &LoadedPlugin,
        context: CallContext,
        allowance: Allowance,
        clock: CpuClock,
    ) -> Box<Ready> {
        let kept = plugin.kept.as_ref().and_then(|kept| kept.take());
        let Some(mut ready) = kept else {
            return Box::new(Ready::new(self.store(plugin, context, allowance, clock)));
        };
        ready.begin(context, allowance, clock);
        ready
            .store
            .set_hostcall_fuel(self.config.transfer_bytes_max);
        ready.store.set_epoch_deadline(1);
        ready
    }

    pub(super) fn store(
        &self,
        plugin: &LoadedPlugin,
        context: CallContext,
        allowance: Allowance,
        clock: CpuClock,
    ) -> Store<PluginState> {
        let (spec, services) = (&plugin.spec, &self.services);
        let state = PluginState::new(spec, services, context, allowance, clock, &self.config);
        let mut store = Store::new(plugin.entry.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.config.transfer_bytes_max);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| Ok(store.data().clock.at_epoch()?));
        store
    }
}

/// One call in the making: its store, and what bounds it.
pub(super) struct Prepared {
    pub(super) ready: Box<Ready>,
    pub(super) clock: CpuClock,
    pub(super) allowance: Allowance,
    pub(super) times: Times,
}

/// Which way a call failed, before it is known who is to blame.
pub(super) enum Failure {
    /// The guest returned an error of its own accord.
    Returned(GuestError),
    /// The host stopped it.
    Stopped(Stop),
    /// Its answer breaks a rule.
    InvalidResponse(String),
    /// The client did not send what it had to.
    RequestBody(BodyError),
    /// The client does not take the answer.
    ClientGone,
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
    /// In the words of the caller. `has_refused` is whether the guest was refused memory, `wall` the time it had.
    pub(super) fn explain(
        self,
        spec: &PluginSpec,
        has_refused: bool,
        wall: Duration,
    ) -> InvokeError {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Returned(error) => InvokeError::Returned(error.into()),
            Self::Stopped(Stop::Deadline) => InvokeError::DeadlineExceeded { limit_ms: ms(wall) },
            Self::Stopped(Stop::Retired) => InvokeError::Retired,
            Self::Stopped(Stop::Cpu) => InvokeError::CpuExceeded {
                limit_ms: ms(spec.limits.cpu),
            },
            Self::InvalidResponse(reason) => InvokeError::InvalidResponse { reason },
            Self::RequestBody(error) => InvokeError::RequestBody(error),
            Self::ClientGone => InvokeError::ClientGone,
            // A guest that gets no more memory stops itself in its own way, which says nothing.
            Self::Wasmtime(_) if has_refused => InvokeError::MemoryExceeded {
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
    ready: &mut Ready,
    call: &HttpCall,
    config: &crate::runtime::Config,
) -> Result<http::Response<Bytes>, Failure> {
    let RequestBody::Whole(body) = &call.body else {
        let error = wasmtime::format_err!("only plugins of wasi:http take bodies that flow");
        return Err(Failure::Wasmtime(error));
    };
    match entry {
        Entry::Handler { pre, handle } => {
            let response = run_handler(pre, handle, ready, call, body).await?;
            response::check(response, config).map_err(Failure::InvalidResponse)
        }
        Entry::Transform { pre, transform } => {
            let output = run_transform(pre, transform, ready, call, body).await?;
            response::of_document(output, config).map_err(Failure::InvalidResponse)
        }
        Entry::Extism { pre } => extism::run(pre, &mut ready.store, call, body, config).await,
        Entry::WasiHttp02 { .. } | Entry::WasiHttp03 { .. } | Entry::Filter { .. } => {
            let error = wasmtime::format_err!("this plugin has no export that answers");
            Err(Failure::Wasmtime(error))
        }
    }
}

async fn run_handler(
    pre: &InstancePre<PluginState>,
    handle: &ComponentExportIndex,
    ready: &mut Ready,
    call: &HttpCall,
    body: &Bytes,
) -> Result<messages::Response, Failure> {
    let request = messages::Request {
        method: call.method.as_str(),
        path: call.path(),
        query: call.uri.query().unwrap_or_default(),
        body,
    };
    let function = function(pre, handle, ready).await?;
    let store = &mut ready.store;
    let function = function
        .typed::<(messages::Request<'_>,), (Result<messages::Response, GuestError>,)>(&*store)?;
    let (result,) = function.call_async(store, (request,)).await?;
    result.map_err(Failure::Returned)
}

/// The export that answers, of an instance that is made now if none was kept.
async fn function(
    pre: &InstancePre<PluginState>,
    export: &ComponentExportIndex,
    ready: &mut Ready,
) -> Result<Func, Failure> {
    if let Some(function) = ready.function {
        return Ok(function);
    }
    let instance = pre.instantiate_async(&mut ready.store).await?;
    let function = instance.get_func(&mut ready.store, export);
    let function = function.ok_or_else(|| wasmtime::format_err!("the export is gone"))?;
    Ok(ready.complete(function))
}

async fn run_transform(
    pre: &InstancePre<PluginState>,
    transform: &ComponentExportIndex,
    ready: &mut Ready,
    call: &HttpCall,
    body: &Bytes,
) -> Result<messages::Output, Failure> {
    let content_type = ready
        .store
        .data()
        .call
        .headers
        .get(http::header::CONTENT_TYPE);
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
        body,
        content_type: &content_type,
    };
    let function = function(pre, transform, ready).await?;
    let store = &mut ready.store;
    let function = function
        .typed::<(messages::Input<'_>, &str), (Result<messages::Output, GuestError>,)>(&*store)?;
    let (result,) = function.call_async(store, (input, &params)).await?;
    result.map_err(Failure::Returned)
}
