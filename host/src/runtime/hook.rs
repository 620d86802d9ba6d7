//! What the host asks of a version before it goes live: the exports of `gantry:lifecycle`, called within limits like any
//! other guest code.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use crate::bindings::gantry::types::types::Error as GuestError;
use crate::ids::RequestId;
use crate::runtime::call::{self, Failure, Question, Times};
use crate::runtime::kept::Ready;
use crate::runtime::state::PluginState;
use crate::runtime::{CallContext, InvokeError, LoadedPlugin, Runtime, export};

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
        Self {
            pre: pre.clone(),
            health: export(component, "gantry:lifecycle/health@0.1.0", "check"),
            migrate: export(component, "gantry:lifecycle/migrate@0.1.0", "migrate"),
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
        plugin: &Arc<LoadedPlugin>,
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
        let places = self.take_places(plugin).await?;
        let began = Instant::now();
        let times = Times {
            began,
            deadline: began + wall,
            cpu,
        };
        let context = CallContext {
            trigger: hook.as_str(),
            ..CallContext::none(RequestId::new(), times.deadline)
        };
        let asked = Asked {
            pre: hooks.pre.clone(),
            function: *function,
        };
        // It belongs to no route; its own limits bound it.
        let prepared = self.prepare(plugin, context, times, Arc::default());
        self.call(plugin, prepared, places, asked).await.result
    }
}

/// A hook that is called.
struct Asked {
    pre: InstancePre<PluginState>,
    function: ComponentExportIndex,
}

impl Question for Asked {
    type Answer = ();

    async fn ask(self, _: &LoadedPlugin, ready: &mut Ready) -> Result<(), Failure> {
        let function = call::function(&self.pre, &self.function, ready).await?;
        let store = &mut ready.store;
        let function = function.typed::<(), (Result<(), GuestError>,)>(&*store)?;
        let (result,) = function.call_async(store, ()).await?;
        result.map_err(Failure::Returned)
    }

    /// Nobody else is told.
    fn is_for_author(_: &InvokeError) -> bool {
        true
    }
}
