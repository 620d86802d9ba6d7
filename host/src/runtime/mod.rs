//! Running plugins: the only module that drives wasmtime. It knows nothing of routes, users or deployments as rows; it
//! takes a component and what it may use, and calls it within limits.

mod background;
mod call;
mod codes;
mod compile;
mod config;
mod confine;
mod context;
mod cpu;
mod egress;
mod engine;
mod extism;
mod filter;
mod hook;
mod invocation;
mod invoke;
mod kept;
mod lanes;
mod limit;
mod linker;
mod plugin;
mod response;
mod restore;
mod state;
mod stdio;
mod stream;
mod wasi_http;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex, Linker},
};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::ids::Digest;
use crate::services::Quota;

pub use compile::{CompileError, use_idle_processors};
pub use config::{CompileConfig, Config};
pub use confine::{Bounds, compile_child};
pub use engine::EngineKind;
pub use extism::{Convention as ExtismConvention, Target as ExtismTarget};
pub use filter::{Changes, Direction, Filtered, HeaderChange, Message, Verdict};
pub use hook::Hook;
pub use invocation::{CallContext, Fault, HttpCall, Invocation, InvokeError, Trigger, Usage};
pub use invoke::{Ended, Outcome, Rest};
pub use plugin::{EntryKind, Granted, InjectedSecret, Limits, LoadedPlugin, PluginSpec};
pub use state::Services;
pub use stream::{Body, BodyError, BodyStream, CutOff, NotGathered, RequestBody};

use background::Background;
use codes::Codes;
use compile::{Code, Compiler};
use engine::Reset;
use hook::Hooks;
use kept::Keeper;
use limit::{Place, Places};
use plugin::Entry;
use state::PluginState;

/// Why a component cannot become a plugin that answers.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("the component does not fit the host: {0}")]
    Link(String),
}

/// Everything needed to run plugins. One per process.
pub struct Runtime {
    /// For plugins whose memories are small from the start.
    small: Pool,
    /// For all others.
    large: Pool,
    compiler: Compiler,
    /// For WASI 0.3. Made when the first plugin needs it: a host without one pays nothing for it.
    concurrent: OnceCell<(Pool, Compiler)>,
    services: Arc<Services>,
    places: Places,
    keeper: Arc<Keeper>,
    /// For calls that take long.
    background: Arc<Background>,
    /// What the host keeps for all calls together.
    memory: Quota,
    config: Arc<Config>,
}

/// An engine and what is linked for it.
struct Pool {
    engine: Engine,
    linker: Linker<PluginState>,
    extism_linker: wasmtime::Linker<PluginState>,
    codes: Codes,
}

impl Pool {
    fn new(kind: EngineKind, reset: Reset, config: &Config) -> wasmtime::Result<Self> {
        let engine = engine::for_running(kind, reset, config)?;
        Ok(Self {
            linker: linker::link(kind, &engine, config)?,
            extism_linker: extism::linker(&engine)?,
            codes: Codes::default(),
            engine,
        })
    }

    /// The code of an artifact: what another deployment of it uses, else out of the compiler's cache or newly compiled.
    async fn load(
        &self,
        compiler: &Compiler,
        digest: Digest,
        wasm: Bytes,
        caller: &str,
    ) -> Result<Arc<Code>, CompileError> {
        if let Some(code) = self.codes.find(digest) {
            return Ok(code);
        }
        let code = compiler.load(&self.engine, digest, wasm, caller).await?;
        Ok(self.codes.keep(digest, code))
    }
}

impl Runtime {
    /// Makes the engines, links the services and opens the cache of machine code in `cache_dir`, which is authenticated
    /// with `cache_key`.
    pub fn new(
        config: Config,
        services: Services,
        cache_dir: PathBuf,
        cache_key: [u8; 32],
    ) -> anyhow::Result<Self> {
        let kind = EngineKind::Plain;
        let small = Pool::new(kind, Reset::Whole, &config)?;
        let large = Pool::new(kind, Reset::WrittenPages, &config)?;
        let compile = config.compile.clone();
        let background = Arc::new(Background::start()?);
        let own = Arc::clone(&background);
        let compiler = Compiler::new(kind, &large.engine, compile, cache_dir, cache_key, own);
        let wait = Duration::from_millis(config.queue_wait_ms);
        let places = Places::new(config.concurrency_max, config.queue_max, wait);
        let keeper = Keeper::new(
            config.kept_instances_max,
            config.kept_instances_per_plugin_max,
        );
        Ok(Self {
            keeper: Arc::new(keeper),
            background,
            small,
            large,
            compiler,
            concurrent: OnceCell::new(),
            services: Arc::new(services),
            places,
            memory: Quota::new(config.held_bytes_max),
            config: Arc::new(config),
        })
    }

    /// Makes a component ready to be called. Linking happens here, so a missing import fails the deployment and not the
    /// first request. `caller` is in whose name: who compiles much waits behind those who compile little.
    pub async fn load(
        &self,
        spec: PluginSpec,
        wasm: Bytes,
        caller: &str,
    ) -> Result<Arc<LoadedPlugin>, LoadError> {
        let (code, pool) = match spec.entry {
            EntryKind::WasiHttp03 => {
                let (pool, compiler) = self.concurrent().await?;
                let load = pool.load(compiler, spec.digest, wasm, caller);
                (load.await?, pool)
            }
            EntryKind::Handler
            | EntryKind::WasiHttp02
            | EntryKind::Transform
            | EntryKind::Filter
            | EntryKind::Extism => self.load_code(spec.digest, wasm, caller).await?,
        };
        let mut kept = None;
        let (entry, hooks) = match &*code {
            Code::Component {
                component,
                is_restored,
            } => {
                kept = is_restored.then(|| Keeper::keep_for_plugin(&self.keeper));
                let (entry, hooks) = link_component(pool, component, spec.entry)?;
                (entry, Some(hooks))
            }
            Code::Module(module) => {
                let pre = pool.extism_linker.instantiate_pre(module);
                let pre = pre.map_err(|error| cannot_link(&error))?;
                (Entry::Extism { pre }, None)
            }
        };
        let wait = Duration::from_millis(self.config.queue_wait_ms);
        let places = Places::of_plugin(&spec.limits, wait);
        Ok(Arc::new(LoadedPlugin {
            spec: Arc::new(spec),
            config: Arc::clone(&self.config),
            _code: code,
            entry,
            kept,
            hooks,
            places,
            memory: self.memory.part(self.config.held_bytes_per_plugin_max),
            retired: CancellationToken::new(),
        }))
    }

    async fn concurrent(&self) -> Result<&(Pool, Compiler), CompileError> {
        let kind = EngineKind::Concurrent;
        let make = || -> wasmtime::Result<(Pool, Compiler)> {
            let pool = Pool::new(kind, Reset::WrittenPages, &self.config)?;
            let compiler = self.compiler.beside(kind, &pool.engine);
            Ok((pool, compiler))
        };
        self.concurrent
            .get_or_try_init(async || make())
            .await
            .map_err(|error| CompileError::Host(error.into()))
    }

    /// Into the pool that suits its memories.
    async fn load_code(
        &self,
        digest: Digest,
        wasm: Bytes,
        caller: &str,
    ) -> Result<(Arc<Code>, &Pool), CompileError> {
        if let Some(code) = self.large.codes.find(digest) {
            return Ok((code, &self.large));
        }
        let load = async |pool: &Pool| {
            let load = pool.load(&self.compiler, digest, wasm.clone(), caller);
            load.await
        };
        let code = load(&self.small).await?;
        let needs = match &*code {
            Code::Component { component, .. } => component.resources_required(),
            Code::Module(module) => Some(module.resources_required()),
        };
        let pages = needs.and_then(|needs| needs.max_initial_memory_size);
        if pages.is_some_and(|pages| pages <= engine::SMALL_MEMORY_PAGES) {
            return Ok((code, &self.small));
        }
        Ok((load(&self.large).await?, &self.large))
    }

    /// Removes from the cache what was compiled from other artifacts than these or by an earlier version of the host, and
    /// what was cut off. Files younger than `age_min` stay.
    pub async fn remove_unreferenced(
        &self,
        keep: BTreeSet<Digest>,
        age_min: Duration,
    ) -> std::io::Result<()> {
        self.compiler.remove_unreferenced(keep, age_min).await
    }

    /// Does work that takes long on threads which the system serves after those of requests. It goes on if nobody waits
    /// for it any more.
    pub async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.background.work(work).await
    }

    /// How many calls are in progress in the whole host.
    pub fn calls_in_progress(&self) -> u32 {
        self.places.taken()
    }

    /// How many core instances there are: those of calls in progress, and those that are kept for the next ones. A component
    /// has several.
    pub fn core_instances(&self) -> u64 {
        let concurrent = self.concurrent.get().map(|(pool, _)| pool);
        let pools = [&self.small, &self.large].into_iter().chain(concurrent);
        let metrics = pools.filter_map(|pool| pool.engine.pooling_allocator_metrics());
        metrics.map(|metrics| metrics.core_instances()).sum()
    }

    /// How many calls found an instance that had been put back and kept.
    pub fn instances_reused(&self) -> u64 {
        self.keeper.reused()
    }

    /// The plugin's own place first: a plugin that is full must not take the places of others while it waits.
    async fn take_places<'a>(
        &'a self,
        plugin: &'a LoadedPlugin,
    ) -> Result<(Place<'a>, Place<'a>), InvokeError> {
        let own = plugin.places.take().await?;
        let shared = self.places.take().await?;
        Ok((own, shared))
    }
}

/// Links a component and finds the function that answers, and what else the host calls.
fn link_component(
    pool: &Pool,
    component: &Component,
    kind: EntryKind,
) -> Result<(Entry, Hooks), LoadError> {
    let pre = pool
        .linker
        .instantiate_pre(component)
        .map_err(|error| cannot_link(&error))?;
    let needed = |interface: &str, function: &str| {
        let found = export(component, interface, function);
        found.ok_or_else(|| LoadError::Link(format!("`{interface}` is not exported")))
    };
    let hooks = Hooks::of(component, &pre);
    let entry = match kind {
        EntryKind::Handler => Entry::Handler {
            pre,
            handle: needed("gantry:http/handler@0.1.0", "handle")?,
        },
        EntryKind::Transform => Entry::Transform {
            pre,
            transform: needed("gantry:transform/transform@0.1.0", "transform")?,
        },
        EntryKind::Filter => filter::entry(component, pre)?,
        EntryKind::WasiHttp02 => Entry::WasiHttp02 {
            pre: ProxyPre::new(pre).map_err(|error| cannot_link(&error))?,
        },
        EntryKind::WasiHttp03 => Entry::WasiHttp03 {
            pre: ServicePre::new(pre).map_err(|error| cannot_link(&error))?,
        },
        EntryKind::Extism => {
            let reason = "it is a component and no module of Extism".to_owned();
            return Err(LoadError::Link(reason));
        }
    };
    Ok((entry, hooks))
}

/// A function of an interface that the component exports.
fn export(component: &Component, interface: &str, function: &str) -> Option<ComponentExportIndex> {
    let instance = component.get_export_index(None, interface)?;
    component.get_export_index(Some(&instance), function)
}

fn cannot_link(error: &wasmtime::Error) -> LoadError {
    LoadError::Link(format!("{error:#}"))
}
