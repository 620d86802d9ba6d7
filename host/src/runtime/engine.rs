//! The one constructor of the engines. A compiled artifact loads only into an engine that was configured in the same
//! way, so the server and the compile child must not differ in anything that decides about machine code.

use std::time::Duration;

use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::runtime::Config;

/// How the memories of instances are put back into their first state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// Write all of it again. Without a system call, but only small memories are written faster than the system answers.
    Whole,
    /// Ask the system which pages were written, and write only these.
    WrittenPages,
}

/// Memories that have no more pages of 64 KiB than this from the start are written whole: that takes one to two
/// microseconds, and asking takes two.
pub(super) const SMALL_MEMORY_PAGES: u64 = 4;

/// Which engine. What one compiled, the other does not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// One task in each instance. Runs everything that has no asynchronous functions in its types.
    Plain,
    /// Several tasks in an instance, for `wasi:http` 0.3. Each call costs more.
    Concurrent,
}

impl EngineKind {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Plain, Self::Concurrent];
}

/// An engine that runs plugins: instances come from a pool and are interrupted by epochs.
///
/// Memories and tables stay resident between invocations: unmapping them costs a system call under a lock that the whole
/// process shares, and makes two threads slower than one.
pub(super) fn for_running(
    kind: EngineKind,
    reset: Reset,
    config: &Config,
) -> wasmtime::Result<Engine> {
    // Only instances with small memories are kept.
    let kept = match reset {
        Reset::Whole => config.kept_instances_max,
        Reset::WrittenPages => 0,
    };
    let instances = config.concurrency_max + kept;
    let mut pool = PoolingAllocationConfig::default();
    // Permits are given out below these numbers, so the pool never runs dry.
    pool.total_component_instances(instances)
        .total_core_instances(instances * config.core_instances_max)
        .total_memories(instances * config.memories_max)
        .total_tables(instances * config.tables_max)
        .total_stacks(instances)
        .max_core_instances_per_component(config.core_instances_max)
        .max_memories_per_component(config.memories_max)
        .max_tables_per_component(config.tables_max)
        .max_memory_size(config.memory_bytes_max)
        .table_elements(config.table_elements_max)
        .linear_memory_keep_resident(config.memory_keep_resident_bytes)
        .table_keep_resident(config.table_keep_resident_bytes)
        .pagemap_scan(match reset {
            Reset::Whole => Enabled::No,
            Reset::WrittenPages => Enabled::Auto,
        });
    let mut wasmtime = for_code(kind);
    wasmtime.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&wasmtime)?;
    start_ticker(&engine, config.epoch_tick())?;
    Ok(engine)
}

/// An engine of the compile child, which never runs anything.
pub(super) fn for_compiling(kind: EngineKind) -> wasmtime::Result<Engine> {
    Engine::new(&for_code(kind))
}

/// Everything that decides about machine code.
fn for_code(kind: EngineKind) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        // Costs 5 µs a call where it is on, and only WASI 0.3 needs it.
        .concurrency_support(kind == EngineKind::Concurrent)
        .epoch_interruption(true)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20);
    config
}

/// Moves the epoch on until the engine is gone. A thread of its own, because a busy async thread would be late.
fn start_ticker(engine: &Engine, tick: Duration) -> std::io::Result<()> {
    let engine = engine.weak();
    let run = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(tick);
        }
    };
    std::thread::Builder::new()
        .name("epoch".to_owned())
        .spawn(run)
        .map(drop)
}
