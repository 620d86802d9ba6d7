//! `gantry compile`: the compile child. It must be called before any thread is started.

use std::process::ExitCode;

use crate::runtime::{Bounds, EngineKind, compile_child};

#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Args {
    /// Processor time, in seconds.
    #[arg(long)]
    cpu_s: u64,
    /// Address space, in bytes.
    #[arg(long)]
    memory_bytes_max: u64,
    /// Use only what nobody else wants of the processors.
    #[arg(long)]
    idle: bool,
    /// Compile for the engine that runs several tasks in an instance.
    #[arg(long)]
    concurrent: bool,
}

pub(super) fn run(args: Args) -> ExitCode {
    compile_child(Bounds {
        cpu_s: args.cpu_s,
        memory_bytes_max: args.memory_bytes_max,
        is_idle: args.idle,
        engine: match args.concurrent {
            true => EngineKind::Concurrent,
            false => EngineKind::Plain,
        },
    })
}
