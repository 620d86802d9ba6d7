//! What the host asks of a version before it goes live: the exports of `gantry:lifecycle`, called within limits like any
//! other guest code.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use wasmtime::{
    Store,
    component::{Component, ComponentExportIndex, InstancePre},
};

use crate::bindings::gantry::types::types::Error as GuestError;
use crate::ids::RequestId;
use crate::runtime::cpu::{CpuClock, Stop};
use crate::runtime::invoke::Failure;
use crate::runtime::state::PluginState;
use crate::runtime::{CallContext, InvokeError, LoadedPlugin, Runtime};
use crate::services::Allowance;

/// Something that a version may have a say in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `gantry:lifecycle/health`
    Health,
    /// `gantry:lifecycle/migrate`
    Migrate,
}

impl Hook {
    /// The word for it in `gantry:context` and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Migrate => "migrate",
        }
    }
}

/// The hooks that a component exports.
pub(super) struct Hooks {
    pre: InstancePre<PluginState>,
    health: Option<ComponentExportIndex>,
    migrate: Option<ComponentExportIndex>,
}

impl Hooks {
    /// Looks them up. Once per deployment.
    pub(super) fn of(component: &Component, pre: &InstancePre<PluginState>) -> Self {
        let export = |interface: &str, function: &str| {
            let instance = component.get_export_index(None, interface)?;
            component.get_export_index(Some(&instance), function)
        };
        Self {
            pre: pre.clone(),
            health: export("gantry:lifecycle/health@0.1.0", "check"),
            migrate: export("gantry:lifecycle/migrate@0.1.0", "migrate"),
        }
    }

    fn get(&self, hook: Hook) -> Option<&ComponentExportIndex> {
        match hook {
            Hook::Health => self.health.as_ref(),
            Hook::Migrate => self.migrate.as_ref(),
        }
    }
}

impl LoadedPlugin {
    /// Whether the component exports this hook.
    pub fn has(&self, hook: Hook) -> bool {
        let hooks = self.hooks.as_ref();
        hooks.is_some_and(|hooks| hooks.get(hook).is_some())
    }
}

impl Runtime {
    /// Calls a hook of a plugin, within these limits and its own one on memory. Fine if it has none.
    pub async fn call_hook(
        &self,
        plugin: &LoadedPlugin,
        hook: Hook,
        cpu: Duration,
        wall: Duration,
    ) -> Result<(), InvokeError> {
        let Some(hooks) = &plugin.hooks else {
            return Ok(());
        };
        let Some(function) = hooks.get(hook) else {
            return Ok(());
        };
        let _places = self.take_places(plugin).await?;
        let began = Instant::now();
        let deadline = began + wall;
        let context = CallContext {
            request_id: RequestId::new(),
            trigger: hook.as_str(),
            route: None,
            path_params: Vec::new(),
            client_address: None,
            principal: None,
            headers: HeaderMap::new(),
            depth: 0,
            deadline,
        };
        let memory = plugin.memory.part(self.config.held_bytes_per_call_max);
        // It belongs to no route; its own limits bound it.
        let account = Arc::default();
        let allowance = Allowance::new(deadline.into(), cpu, memory, account);
        let clock = CpuClock::start(began, allowance.clone());
        let mut store = self.store(plugin, context, allowance, clock.clone());
        let result = {
            let run = std::pin::pin!(run(&hooks.pre, function, &mut store));
            tokio::time::timeout_at(deadline.into(), clock.timed(run)).await
        };
        let result = result.unwrap_or(Err(Failure::Stopped(Stop::Deadline)));
        result.map_err(|failure| {
            let has_refused = store.data().memory.has_refused();
            let error = match failure.explain(&plugin.spec, has_refused, wall) {
                InvokeError::CpuExceeded { .. } => InvokeError::CpuExceeded {
                    limit_ms: u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX),
                },
                error => error,
            };
            store.data().log.write_verdict(&error.to_string());
            error
        })
    }
}

async fn run(
    pre: &InstancePre<PluginState>,
    function: &ComponentExportIndex,
    store: &mut Store<PluginState>,
) -> Result<(), Failure> {
    let instance = pre.instantiate_async(&mut *store).await?;
    let function =
        instance.get_typed_func::<(), (Result<(), GuestError>,)>(&mut *store, function)?;
    let (result,) = function.call_async(store, ()).await?;
    result.map_err(Failure::Returned)
}
