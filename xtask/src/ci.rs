//! What has to hold before a change is merged.

use anyhow::bail;

use crate::{command, configuration, contract, demo, golden, test};

/// Everything, in the order in which mistakes are cheapest to find.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    check(options)?;
    test::run(&[])?;
    demo::run(&["--once".to_owned()])
}

/// What can be said about the code without running it: its form, the lints, the documentation, the contract.
pub(crate) fn check(options: &[String]) -> anyhow::Result<()> {
    if !options.is_empty() {
        bail!("`cargo xtask ci` and `cargo xtask check` take no options");
    }
    command::run(&mut command::cargo(&["fmt", "--all", "--check"]))?;
    contract::check_releases()?;
    golden::check()?;
    configuration::check()?;
    command::run(
        command::cargo(&["clippy", "--all-targets"])
            .args(test::SELECTION)
            .args(["--", "-D", "warnings"]),
    )?;
    command::run(
        command::cargo(&["doc", "--no-deps", "--document-private-items"])
            .args(test::SELECTION)
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}
