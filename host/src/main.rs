//! The `gantry` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    gantry::cli::run()
}
