//! The settings of the runtime.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// What an invocation may use, how many run at once, and how components are compiled.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most invocations in progress in the whole host. Default: 512.
    pub concurrency_max: u32,
    /// Most invocations waiting for one of those places. Default: 1024.
    pub queue_max: u32,
    /// Longest wait for a place before the answer is 503. Default: 2000.
    pub queue_wait_ms: u64,
    /// How often a running plugin is asked whether its time is over. Default: 5.
    pub epoch_tick_ms: u64,
    /// Most bytes that all linear memories and tables of one instance may hold together, whatever a plugin asks for.
    /// Default: 256 MiB.
    pub memory_bytes_max: usize,
    /// Most instances that wait for their next call, all plugins together. Each holds its memory, at most 256 KiB, and some
    /// state of the host. Only components that put themselves back are kept; 0 makes every instance anew. Default: 64.
    pub kept_instances_max: u32,
    /// The same for one plugin. Default: 8.
    pub kept_instances_per_plugin_max: usize,
    /// Most core modules inside one component. Default: 30.
    pub core_instances_max: u32,
    /// Most linear memories inside one component. Default: 4.
    pub memories_max: u32,
    /// Most tables inside one component. Default: 30.
    pub tables_max: u32,
    /// Most elements of each table. Each reserves address space, 8 bytes for every one of the pool. Default: 20000.
    pub table_elements_max: usize,
    /// Bytes of each linear memory that stay mapped between invocations. Default: 2 MiB.
    pub memory_keep_resident_bytes: usize,
    /// Bytes of each table that stay mapped between invocations. Default: 64 KiB.
    pub table_keep_resident_bytes: usize,
    /// Most bytes of the body that a plugin answers with, where it is whole. Default: 16 MiB.
    pub response_body_bytes_max: usize,
    /// Bytes of an answer that are held back until the plugin has ended. A longer one, or one in which the plugin
    /// pauses, is sent while it is made. Only with `wasi:http`. Default: 256 KiB.
    pub stream_above_bytes: usize,
    /// Most bytes of an answer that is sent while it is made. Default: 1 GiB.
    pub stream_bytes_max: u64,
    /// Longest time in which a client neither sends nor takes a piece of a body that the plugin waits for. Default: 30000.
    pub client_idle_ms: u64,
    /// Most headers in a plugin's answer. Default: 100.
    pub response_headers_max: usize,
    /// Most bytes of all header names and values in a plugin's answer. Default: 32 KiB.
    pub response_header_bytes_max: usize,
    /// Most bytes that a guest passes to the host in one call or answer. Must leave room for a body. Default: 24 MiB.
    pub transfer_bytes_max: usize,
    /// Most handles (stores, connections, transactions, streams, …) that one invocation may hold. Default: 200.
    pub handles_max: usize,
    /// Most bytes of one set of headers that a guest builds or is given, counted as they lie in memory; of the method and
    /// of the authority of a request that it builds, too. Default: 64 KiB.
    pub header_bytes_max: usize,
    /// Most random bytes that a guest takes at once. Default: 1 MiB.
    pub random_bytes_max: u64,
    /// Most bytes that the host keeps for one invocation beside the guest's memory: results, values and bodies on their
    /// way. Default: 64 MiB.
    pub held_bytes_per_call_max: usize,
    /// The same for all invocations of one plugin together. Default: 256 MiB.
    pub held_bytes_per_plugin_max: usize,
    /// The same for all invocations of the host together. Default: 1 GiB.
    pub held_bytes_max: usize,
    /// Settings for compiling components.
    pub compile: CompileConfig,
}

impl Config {
    pub(super) fn epoch_tick(&self) -> Duration {
        Duration::from_millis(self.epoch_tick_ms.max(1))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency_max: 512,
            queue_max: 1024,
            queue_wait_ms: 2000,
            epoch_tick_ms: 5,
            memory_bytes_max: 256 << 20,
            kept_instances_max: 64,
            kept_instances_per_plugin_max: 8,
            core_instances_max: 30,
            memories_max: 4,
            tables_max: 30,
            table_elements_max: 20_000,
            memory_keep_resident_bytes: 2 << 20,
            table_keep_resident_bytes: 64 << 10,
            response_body_bytes_max: 16 << 20,
            stream_above_bytes: 256 << 10,
            stream_bytes_max: 1 << 30,
            client_idle_ms: 30_000,
            response_headers_max: 100,
            response_header_bytes_max: 32 << 10,
            transfer_bytes_max: 24 << 20,
            handles_max: 200,
            header_bytes_max: 64 << 10,
            random_bytes_max: 1 << 20,
            held_bytes_per_call_max: 64 << 20,
            held_bytes_per_plugin_max: 256 << 20,
            held_bytes_max: 1 << 30,
            compile: CompileConfig::default(),
        }
    }
}

/// The bounds of the child process that turns WebAssembly into machine code.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompileConfig {
    /// The program to start as `PROGRAM compile`. Default: the program that is running.
    pub program: Option<PathBuf>,
    /// Processor time for one component. Default: 60.
    pub cpu_s: u64,
    /// Wall time for one component. Default: 90.
    pub wall_s: u64,
    /// Address space for one component. Default: 4 GiB.
    pub memory_bytes_max: u64,
    /// Most bytes of machine code for one component. Default: 256 MiB.
    pub output_bytes_max: u64,
    /// Threads with which one component is compiled. With more it takes less time, and plugins that answer meanwhile feel it
    /// more: threads that share memory interrupt one another wherever they run. Default: 1.
    pub threads: usize,
    /// Most components compiled at the same time. One of these places is for slow ones, the others are for the rest, so
    /// that nobody waits for a slow one; with 1, all share it. Default: 2.
    pub concurrency_max: usize,
    /// Processor time after which a component counts as slow: it gives up its place, and begins again among the slow ones.
    /// Default: 10.
    pub quick_cpu_s: u64,
    /// Bytes of a component from which on it counts as slow without a try. Default: 8 MiB.
    pub slow_bytes_min: usize,
    /// Most components that wait to be compiled, those in progress among them. Default: 64.
    pub queue_max: usize,
}

impl Default for CompileConfig {
    fn default() -> Self {
        Self {
            program: None,
            cpu_s: 60,
            wall_s: 90,
            memory_bytes_max: 4 << 30,
            output_bytes_max: 256 << 20,
            threads: 1,
            concurrency_max: 2,
            quick_cpu_s: 10,
            slow_bytes_min: 8 << 20,
            queue_max: 64,
        }
    }
}
