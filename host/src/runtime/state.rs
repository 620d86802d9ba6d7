//! What one instance carries: the data of its store. Services never see it; `linker.rs` lends each its part.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::Rng as _;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::auth::GuestTokens;
use crate::ids::RequestId;
use crate::runtime::cpu::CpuClock;
use crate::runtime::egress::Egress;
use crate::runtime::extism;
use crate::runtime::limit::MemoryLimiter;
use crate::runtime::stdio::LogStream;
use crate::runtime::{CallContext, Config, PluginSpec};
use crate::services::blobs::Blobs;
use crate::services::cache::Values;
use crate::services::kv::Kv;
use crate::services::log::{CallLog, Level, Logs};
use crate::services::outbound::Outbound;
use crate::services::rehearsal::Rehearsal;
use crate::services::secrets::Secrets;
use crate::services::sql::Sql;
use crate::services::{Allowance, Quota};

/// The host's services, made once per process.
#[derive(Clone)]
pub struct Services {
    pub kv: Kv,
    pub values: Values,
    pub blobs: Blobs,
    pub sql: Sql,
    pub secrets: Secrets,
    pub logs: Logs,
    pub outbound: Outbound,
    pub guest_tokens: GuestTokens,
    /// Only on a host on which plugins are rehearsed.
    pub rehearsal: Option<Arc<Rehearsal>>,
}

/// The data of one instance, from the start of a call to its end.
pub(super) struct PluginState {
    pub(super) plugin: Arc<PluginSpec>,
    pub(super) call: CallContext,
    pub(super) allowance: Allowance,
    pub(super) services: Arc<Services>,
    pub(super) log: CallLog,
    pub(super) clock: CpuClock,
    pub(super) memory: MemoryLimiter,
    pub(super) table: ResourceTable,
    handles_max: usize,
    pub(super) random_bytes_max: u64,
    /// Made when the guest first asks for it: most never do.
    wasi: Option<WasiCtx>,
    http: WasiHttpCtx,
    pub(super) egress: Egress,
    /// Only modules of Extism have one.
    pub(super) extism: Option<Box<extism::State>>,
}

impl PluginState {
    pub(super) fn new(
        plugin: &Arc<PluginSpec>,
        services: &Arc<Services>,
        call: CallContext,
        allowance: Allowance,
        clock: CpuClock,
        config: &Config,
    ) -> Self {
        let log = services.logs.for_call(
            plugin.name.clone(),
            plugin.deployment,
            call.request_id,
            plugin.limits.log_bytes_max,
        );
        let mut table = ResourceTable::new();
        table.set_max_capacity(config.handles_max);
        let mut http = WasiHttpCtx::new();
        // A guest can hold as many sets of headers as it has handles.
        http.set_field_size_limit(config.header_bytes_max);
        Self {
            memory: MemoryLimiter::new(plugin.limits.memory_bytes_max),
            table,
            handles_max: config.handles_max,
            random_bytes_max: config.random_bytes_max,
            wasi: None,
            http,
            egress: Egress::new(
                Arc::clone(plugin),
                Arc::clone(services),
                allowance.clone(),
                log.clone(),
                call.depth.saturating_add(1),
            ),
            allowance,
            clock,
            extism: None,
            plugin: Arc::clone(plugin),
            services: Arc::clone(services),
            call,
            log,
        }
    }

    /// The state of the instance's next call.
    pub(super) fn begin(&mut self, call: CallContext, allowance: Allowance, clock: CpuClock) {
        let plugin = &self.plugin;
        self.log = self.services.logs.for_call(
            plugin.name.clone(),
            plugin.deployment,
            call.request_id,
            plugin.limits.log_bytes_max,
        );
        self.memory = MemoryLimiter::new(plugin.limits.memory_bytes_max);
        let depth = call.depth.saturating_add(1);
        self.egress
            .begin(allowance.clone(), self.log.clone(), depth);
        self.call = call;
        self.allowance = allowance;
        self.clock = clock;
    }

    /// Nothing of the last call is left.
    pub(super) fn end(&mut self, idle: &Idle) {
        self.call = CallContext::none(idle.request_id, idle.since);
        self.log = idle.log.clone();
        self.egress
            .begin(idle.allowance.clone(), self.log.clone(), u32::MAX);
        self.allowance = idle.allowance.clone();
        self.clock = idle.clock.clone();
        self.wasi = None;
        let handles_max = self.handles_max;
        self.table = ResourceTable::new();
        self.table.set_max_capacity(handles_max);
    }
}

/// What stands in the place of a call between two calls. One for each instance that is kept.
pub(super) struct Idle {
    request_id: RequestId,
    since: Instant,
    allowance: Allowance,
    clock: CpuClock,
    log: CallLog,
}

impl Idle {
    /// Allows nothing.
    pub(super) fn new(last: &PluginState) -> Self {
        let now = Instant::now();
        let allowance = Allowance::new(now.into(), Duration::ZERO, Quota::new(0), Arc::default());
        let spec = &last.plugin;
        let request_id = RequestId::new();
        Self {
            request_id,
            since: now,
            clock: CpuClock::start(now, allowance.clone()),
            allowance,
            log: last
                .services
                .logs
                .for_call(spec.name.clone(), spec.deployment, request_id, 0),
        }
    }
}

/// What the standard gives every guest: no files, no environment, no arguments. Sockets are denied, name look-ups too.
/// In a rehearsal, time and chance are what the test says.
pub(super) fn wasi(
    log: &CallLog,
    rehearsal: Option<&Arc<Rehearsal>>,
    random_bytes_max: u64,
) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(LogStream::new(log.clone(), Level::Info, "stdout"))
        .stderr(LogStream::new(log.clone(), Level::Warn, "stderr"))
        .max_random_size(random_bytes_max)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    if let Some(rehearsal) = rehearsal {
        wasi.wall_clock(RehearsedClock(Arc::clone(rehearsal)))
            .secure_random(rehearsal.random())
            .insecure_random(rehearsal.random())
            .insecure_random_seed(rehearsal.random().next_u64().into());
    }
    wasi
}

/// The clock of a rehearsal, as guests read it. Time that is only measured stays the machine's: whoever waits must see it
/// pass.
struct RehearsedClock(Arc<Rehearsal>);

impl HostWallClock for RehearsedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.clock.now_ms().unsigned_abs())
    }
}

impl WasiView for PluginState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (log, rehearsal) = (&self.log, self.services.rehearsal.as_ref());
        let random_bytes_max = self.random_bytes_max;
        let ctx = self
            .wasi
            .get_or_insert_with(|| wasi(log, rehearsal, random_bytes_max).build());
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for PluginState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.egress,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}
