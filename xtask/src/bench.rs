//! Measures how fast the host is, side by side with native servers, in a release build.

use crate::{command, guests};

/// Builds and runs the benchmarks. Options go to them: `--rounds N`, `--seconds N`, `--json FILE`.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    guests::run(&[])?;
    let packages = ["-p", "gantry", "-p", "gantry-bench"];
    command::run(command::cargo(&["build", "--release"]).args(packages))?;
    command::run(
        command::cargo(&["run", "--release"])
            .args(packages)
            .args(["--bin", "gantry-bench", "--"])
            .args(options),
    )
}
