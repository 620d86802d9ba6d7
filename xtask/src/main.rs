//! The chores of this workspace, one subcommand a file. `cargo xtask` is an alias in `.cargo/config.toml`.

mod bench;
mod bindings;
mod ci;
mod command;
mod configuration;
mod contract;
mod demo;
mod extism_reference;
mod golden;
mod guests;
mod languages;
mod npm;
mod oidc;
mod postgres;
mod pypi;
mod redis;
mod references;
mod registry;
mod schemathesis;
mod smtp;
mod test;
mod tus;

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, options) = match arguments.split_first() {
        Some((command, options)) => (command.as_str(), options),
        None => ("help", [].as_slice()),
    };
    match command {
        "demo" => demo::run(options),
        "test" => test::run(options),
        "hostile" => test::run_hostile(options),
        "security" => test::run_security(options),
        "bench" => bench::run(options),
        "guests" => guests::run(options),
        "languages" => languages::run(options),
        "extism-reference" => extism_reference::run(options),
        "bindings" => bindings::run(options),
        "configuration" => configuration::run(options),
        "golden" => golden::run(options),
        "references" => references::run(options),
        "wit" => contract::run(options),
        "check" => ci::check(options),
        "ci" => ci::run(options),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => anyhow::bail!("there is no chore `{other}`\n\n{HELP}"),
    }
}

const HELP: &str = "\
cargo xtask demo [--once]              start a server with a restaurant in it; with --once, only try everything out
cargo xtask test [-- FILTER]           build what tests need and run all of them
cargo xtask hostile [FILTER]            let everything that is hostile try to hurt a host: docs/operate/hostile.md
cargo xtask security [FILTER]           try out what people on the network could: docs/operate/security-suite.md
cargo xtask bench [--only GROUP,…]      measure how fast the host is, side by side with native servers; needs `wrk`
cargo xtask guests [--list]            build all guests and check their sizes; list what they import and export
cargo xtask languages [--measure]      build the plugins in other languages; measure what each language costs
cargo xtask extism-reference [--check]  ask Extism's own host what its modules do there; for tests of Extism
cargo xtask bindings [--check]         generate the SDK's bindings from wit/, or say whether they are stale
cargo xtask references [--check]       fetch the programs that show documentation from npm, or compare them
cargo xtask wit [--release]            hold wit/ against the released contracts, or keep it as a released one
cargo xtask golden [--keep]            are plugins of this release kept for the tests of later ones? keep them
cargo xtask configuration [--check]    write the operator's reference of settings, or say whether it is stale
cargo xtask check                      formatting, lints, documentation and contract, without running tests
cargo xtask ci                         check, test, and demo --once: what has to hold before a change is merged";

/// The root of the workspace, wherever cargo was called.
fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
