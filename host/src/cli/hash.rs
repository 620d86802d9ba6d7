//! `gantry hash`: a process that hashes passwords. It must be called before any thread is started.

use std::process::ExitCode;

use crate::auth::{HashCosts, hash_child};
use crate::runtime::use_idle_processors;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Args {
    /// Memory for one password.
    #[arg(long)]
    memory_kib: u32,
    /// Passes over that memory.
    #[arg(long)]
    iterations: u32,
    /// Lanes of that memory.
    #[arg(long)]
    parallelism: u32,
}

pub(super) fn run(args: Args) -> ExitCode {
    if let Err(error) = use_idle_processors() {
        eprintln!("hashing passwords: they compete with requests: {error}");
    }
    hash_child(HashCosts {
        memory_kib: args.memory_kib,
        iterations: args.iterations,
        parallelism: args.parallelism,
    })
}
