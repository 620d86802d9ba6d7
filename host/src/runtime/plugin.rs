//! A deployment as the runtime sees it: what it may use, and the component linked and ready to be called.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use wasmtime::{
    Engine,
    component::{ComponentExportIndex, InstancePre},
};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::ids::{DeploymentId, Digest, Label, PluginName};
use crate::runtime::Config;
use crate::runtime::compile::Code;
use crate::runtime::hook::Hooks;
use crate::runtime::kept::Kept;
use crate::runtime::limit::Places;
use crate::runtime::state::PluginState;
use crate::services::Quota;
use crate::services::outbound::EgressPolicy;
use crate::services::secrets::host::Granted as GrantedSecret;

/// What a deployment is and may use: decided when it is deployed, never during a call.
#[derive(Debug)]
pub struct PluginSpec {
    pub name: PluginName,
    pub deployment: DeploymentId,
    pub version: semver::Version,
    /// The component's address in the artifact store.
    pub digest: Digest,
    pub entry: EntryKind,
    pub granted: Granted,
    /// Config values as the guest reads them, defaults applied.
    pub config: Vec<(String, String)>,
    pub limits: Limits,
}

/// The capabilities that the manifest asks for and the operator has granted.
#[derive(Debug, Default)]
pub struct Granted {
    pub kv: Vec<Label>,
    pub cache: Vec<Label>,
    pub blobs: Vec<Label>,
    pub sql: Vec<Label>,
    pub secrets: Vec<GrantedSecret>,
    pub injected: Vec<InjectedSecret>,
    pub outbound: EgressPolicy,
}

/// A secret that the host puts into requests by itself; the plugin never sees it.
#[derive(Debug, Clone)]
pub struct InjectedSecret {
    pub label: Label,
    /// The only host it is sent to.
    pub host: String,
    pub header: http::HeaderName,
    /// Stands before the value, for example `Bearer `.
    pub prefix: String,
}

/// What one call may use, and how many run at once.
#[derive(Debug, Clone)]
pub struct Limits {
    /// All linear memories and tables of one instance together.
    pub memory_bytes_max: usize,
    pub cpu: Duration,
    pub wall: Duration,
    pub concurrency_max: u32,
    /// Calls that may wait for a place.
    pub queue_max: u32,
    /// Bytes of log that one call may write.
    pub log_bytes_max: usize,
}

/// Which export answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// `gantry:http/handler`
    Handler,
    /// `wasi:http/incoming-handler@0.2`
    WasiHttp02,
    /// `wasi:http/handler@0.3`
    WasiHttp03,
    /// `gantry:transform/transform`
    Transform,
    /// A core module of Extism; each route names its export.
    Extism,
    /// `gantry:http/request-filter`, `gantry:http/response-filter` or both. It answers no requests of its own.
    Filter,
}

impl EntryKind {
    /// Whether it is one of the standards, whose bodies may flow and are taken as they come.
    pub fn is_standard(self) -> bool {
        matches!(self, Self::WasiHttp02 | Self::WasiHttp03)
    }

    /// The word for it: `handler`, `wasi-http-0.2`, `wasi-http-0.3`, `transform`, `extism` or `filter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::WasiHttp02 => "wasi-http-0.2",
            Self::WasiHttp03 => "wasi-http-0.3",
            Self::Transform => "transform",
            Self::Extism => "extism",
            Self::Filter => "filter",
        }
    }
}

/// A deployment loaded in memory, linked once, instantiated per call.
pub struct LoadedPlugin {
    pub(super) spec: Arc<PluginSpec>,
    /// What bounds every call.
    pub(super) config: Arc<Config>,
    /// What `entry` runs. Held so that other deployments of the same component find it.
    pub(super) _code: Arc<Code>,
    pub(super) entry: Entry,
    /// Instances that were put back. Only of components that do so.
    pub(super) kept: Option<Arc<Kept>>,
    /// Only components can have any.
    pub(super) hooks: Option<Hooks>,
    pub(super) places: Places,
    /// What the host keeps for all its calls together.
    pub(super) memory: Quota,
    /// Set when another version has taken its place for long enough.
    pub(super) retired: CancellationToken,
}

impl LoadedPlugin {
    /// What it is and may use.
    pub fn spec(&self) -> &PluginSpec {
        &self.spec
    }

    /// Stops the calls that are still in progress: another version has taken its place for long enough.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// How many calls are in progress.
    pub fn calls_in_progress(&self) -> u32 {
        self.places.taken()
    }
}

impl std::fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedPlugin")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

pub(super) enum Entry {
    Handler {
        pre: InstancePre<PluginState>,
        handle: ComponentExportIndex,
    },
    Transform {
        pre: InstancePre<PluginState>,
        transform: ComponentExportIndex,
    },
    WasiHttp02 {
        pre: ProxyPre<PluginState>,
    },
    WasiHttp03 {
        pre: ServicePre<PluginState>,
    },
    Extism {
        pre: wasmtime::InstancePre<PluginState>,
    },
    Filter {
        pre: InstancePre<PluginState>,
        before: Option<ComponentExportIndex>,
        after: Option<ComponentExportIndex>,
    },
}

impl Entry {
    /// The engine that its code was loaded into.
    pub(super) fn engine(&self) -> &Engine {
        match self {
            Self::Handler { pre, .. } | Self::Transform { pre, .. } | Self::Filter { pre, .. } => {
                pre.engine()
            }
            Self::WasiHttp02 { pre } => pre.engine(),
            Self::WasiHttp03 { pre } => pre.engine(),
            Self::Extism { pre } => pre.module().engine(),
        }
    }
}
