//! The chores of this workspace, one subcommand a file. `cargo xtask` is an alias in `.cargo/config.toml`.

mod bindings;
mod guests;

use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, options) = match arguments.split_first() {
        Some((command, options)) => (command.as_str(), options),
        None => ("help", [].as_slice()),
    };
    match command {
        "bindings" => bindings::run(options),
        "guests" => guests::run(options),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => anyhow::bail!("there is no chore `{other}`\n\n{HELP}"),
    }
}

const HELP: &str = "\
cargo xtask bindings [--check]   generate the SDK's bindings from wit/, or say whether they are stale
cargo xtask guests [--list]      build all guests and check their sizes; list what they import and export";

/// The root of the workspace, wherever cargo was called.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
