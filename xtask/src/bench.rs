//! Measures how fast the host is, side by side with native servers, in a release build.

use std::process::Command;

use crate::{command, guests, redis};

/// Builds and runs the benchmarks. Options go to them: `--rounds N`, `--seconds N`, `--minutes N`, `--json FILE`, `--only GROUP,…`.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    guests::run(&[])?;
    // For the group `limits`, which says what is missing.
    redis::prepare();
    let packages = ["-p", "gantry", "-p", "gantry-bench"];
    command::run(command::cargo(&["build", "--release"]).args(packages))?;
    let program = guests::target_folder().join("release/gantry-bench");
    command::run(Command::new(program).args(options))
}
