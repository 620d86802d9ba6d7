//! `gantry compile`: the compile child. It must be called before any thread is started.

use std::process::ExitCode;

use crate::runtime::{Bounds, compile_child};

#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Args {
    /// Processor time, in seconds.
    #[arg(long)]
    cpu_s: u64,
    /// Address space, in bytes.
    #[arg(long)]
    memory_bytes_max: u64,
}

pub(super) fn run(args: Args) -> ExitCode {
    compile_child(Bounds {
        cpu_s: args.cpu_s,
        memory_bytes_max: args.memory_bytes_max,
    })
}
