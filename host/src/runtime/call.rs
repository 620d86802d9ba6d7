//! One call into an instance, whatever it is asked: in one that is as new, within its limits, and in the background once
//! it takes long. Guest code runs nowhere else.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::{
    Store,
    component::{ComponentExportIndex, Func, InstancePre},
};

use crate::bindings::gantry::types::types::Error as GuestError;
use crate::runtime::cpu::{CpuClock, Stop};
use crate::runtime::kept::Ready;
use crate::runtime::limit::Place;
use crate::runtime::state::PluginState;
use crate::runtime::stream::BodyError;
use crate::runtime::{CallContext, Fault, InvokeError, LoadedPlugin, PluginSpec, Runtime, Usage};
use crate::services::{Account, Allowance};

/// Calls that take no longer never learn that their version was replaced: asking costs a lock.
pub(super) const SHORT: Duration = Duration::from_millis(500);

/// What an instance is asked.
pub(super) trait Question: Send + 'static {
    /// What it says when all goes well.
    type Answer: Send + 'static;

    /// Asks it.
    fn ask(
        self,
        plugin: &LoadedPlugin,
        ready: &mut Ready,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// Whether its author finds this failure in the log of the plugin: whoever waits for the answer learns only that it
    /// failed.
    fn is_for_author(error: &InvokeError) -> bool {
        error.fault() == Fault::Plugin
    }
}

/// When a call is over at the latest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    /// Most processor time.
    pub(super) cpu: Duration,
}

impl Times {
    /// All the time that there is for the call.
    pub(super) fn wall(&self) -> Duration {
        self.deadline.saturating_duration_since(self.began)
    }
}

/// One call in the making: what it runs in, and what bounds it.
pub(super) struct Prepared {
    pub(super) ready: Box<Ready>,
    pub(super) clock: CpuClock,
    pub(super) allowance: Allowance,
    pub(super) times: Times,
}

/// A call that is over.
pub(super) struct Called<T> {
    pub(super) result: Result<T, InvokeError>,
    pub(super) usage: Usage,
    /// What the call was about.
    pub(super) context: CallContext,
}

impl Runtime {
    /// Makes a call ready. What it uses is booked on `account`.
    pub(super) fn prepare(
        &self,
        plugin: &LoadedPlugin,
        mut context: CallContext,
        times: Times,
        account: Arc<Account>,
    ) -> Prepared {
        context.deadline = times.deadline;
        let memory = plugin.memory.part(self.config.held_bytes_per_call_max);
        let allowance = Allowance::new(times.deadline.into(), times.cpu, memory, account);
        let clock = CpuClock::start(times.began, allowance.clone());
        let ready = clock.work(|| self.ready(plugin, context, allowance.clone(), clock.clone()));
        Prepared {
            ready,
            clock,
            allowance,
            times,
        }
    }

    /// Calls an instance which has said everything when this returns. The places are taken until then.
    pub(super) async fn call<Q: Question>(
        &self,
        plugin: &Arc<LoadedPlugin>,
        prepared: Prepared,
        (own, shared): (Place<'_>, Place<'_>),
        question: Q,
    ) -> Called<Q::Answer> {
        let clock = prepared.clock.clone();
        let call = Box::pin(to_its_end(Arc::clone(plugin), prepared, question));
        let keep = || (plugin.places.own(own), self.places.own(shared));
        self.background.drive(call, &clock, keep).await
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
        let mut ready = match kept {
            Some(mut ready) => {
                ready.begin(context, allowance, clock);
                ready
            }
            None => Box::new(Ready::new(self.store(plugin, context, allowance, clock))),
        };
        ready
            .store
            .set_hostcall_fuel(self.config.transfer_bytes_max);
        ready.store.set_epoch_deadline(1);
        ready
    }

    fn store(
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
        store.epoch_deadline_callback(|store| Ok(store.data().clock.at_epoch()?));
        store
    }
}

async fn to_its_end<Q: Question>(
    plugin: Arc<LoadedPlugin>,
    prepared: Prepared,
    question: Q,
) -> Called<Q::Answer> {
    let Prepared {
        mut ready,
        clock,
        allowance,
        times,
    } = prepared;
    let result = {
        let asked = pin!(question.ask(&plugin, &mut ready));
        let mut asked = pin!(clock.timed(asked));
        let soon = times.deadline.min(times.began + SHORT);
        match tokio::time::timeout_at(soon.into(), asked.as_mut()).await {
            Ok(result) => result,
            Err(_) => tokio::select! {
                biased;
                result = asked => result,
                () = tokio::time::sleep_until(times.deadline.into()) => {
                    Err(Failure::Stopped(Stop::Deadline))
                }
                () = plugin.retired.cancelled() => Err(Failure::Stopped(Stop::Retired)),
            },
        }
    };
    let has_returned = matches!(result, Ok(_) | Err(Failure::Returned(_)));
    let state = ready.store.data_mut();
    let (memory_bytes, has_refused) = (state.memory.peak_bytes(), state.memory.has_refused());
    let (cpu, wall) = (times.cpu, times.wall());
    let result = result.map_err(|failure| failure.explain(&plugin.spec, has_refused, cpu, wall));
    if let Err(error) = &result
        && Q::is_for_author(error)
    {
        state.log.write_verdict(&error.to_string());
    }
    let none = CallContext::none(state.call.request_id, times.deadline);
    let context = std::mem::replace(&mut state.call, none);
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
    Called {
        result,
        usage,
        context,
    }
}

/// A function of an instance, which is made now if none was kept.
pub(super) async fn function(
    pre: &InstancePre<PluginState>,
    export: &ComponentExportIndex,
    ready: &mut Ready,
) -> Result<Func, Failure> {
    let instance = match ready.instance {
        Some(instance) => instance,
        None => {
            let instance = pre.instantiate_async(&mut ready.store).await?;
            ready.complete(instance)
        }
    };
    let function = instance.get_func(&mut ready.store, export);
    function.ok_or_else(|| wasmtime::format_err!("the export is gone").into())
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
    /// In the words of the caller. `has_refused` is whether the guest was refused memory, `cpu` and `wall` the time it had.
    pub(super) fn explain(
        self,
        spec: &PluginSpec,
        has_refused: bool,
        cpu: Duration,
        wall: Duration,
    ) -> InvokeError {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Returned(error) => InvokeError::Returned(error.into()),
            Self::Stopped(Stop::Deadline) => InvokeError::DeadlineExceeded { limit_ms: ms(wall) },
            Self::Stopped(Stop::Retired) => InvokeError::Retired,
            Self::Stopped(Stop::Cpu) => InvokeError::CpuExceeded { limit_ms: ms(cpu) },
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
