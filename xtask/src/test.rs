//! Runs every test of the workspace, after building what the tests need: guests, and the server that some of them start.

use anyhow::bail;

use crate::{
    bindings, command, guests, languages, oidc, postgres, redis, registry, schemathesis, smtp, tus,
};

/// What all builds of this machine's code select, so that no crate is built twice with other features.
pub(crate) const SELECTION: &[&str] = &["--workspace"];

/// The modules that own rows, as names of tests.
const STORES: &[&str] = &[
    "audit::",
    "auth::",
    "db::",
    "idempotency::",
    "ledger::",
    "mail::",
    "plugins::change::",
    "plugins::trust::",
    "services::blobs::",
    "services::kv::",
    "services::log::",
    "services::secrets::",
];

/// Scenes of whole hosts that are looked at on Postgres, too.
const SCENES: &[&str] = &[
    "accounts::recovery",
    "accounts::sessions",
    "accounts::token_keys",
    "audit::changes",
    "idempotency::",
    "keys::",
    "plugins::rollout",
    "services::kv",
    "services::log",
    "services::secrets",
];

/// Builds and runs all tests. Options go to the tests: `cargo xtask test -- a_name`.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let filter = match options {
        [] => &[],
        [dashes, filter @ ..] if dashes == "--" => filter,
        _ => bail!("`cargo xtask test` takes only `-- FILTER`"),
    };
    guests::run(&[])?;
    bindings::check()?;
    build_programs()?;
    let mut tests = command::cargo(&["test", "--no-fail-fast"]);
    tests.args(SELECTION);
    let mut without = languages::prepare()?;
    if !registry::prepare() {
        without.push(registry::PROGRAM.to_owned());
    }
    without.extend(prepare_servers());
    // Not `GANTRY_…`: the servers that tests start would take it for a setting.
    tests.env("TESTS_WITHOUT", without.join(","));
    if !filter.is_empty() {
        tests.arg("--").args(filter);
    }
    let passed = command::run(&mut tests);
    if filter.is_empty() && !without.iter().any(|name| name == postgres::PROGRAM) {
        run_stores(&without)?;
    }
    passed
}

/// Runs the tests of everything that keeps rows once more, on Postgres.
fn run_stores(without: &[String]) -> anyhow::Result<()> {
    let mut tests = command::cargo(&["test", "--no-fail-fast"]);
    tests.args(SELECTION).args(["--lib", "--"]).args(STORES);
    let stores = command::run(tests.env("TESTS_DB", "postgres"));
    let mut tests = command::cargo(&["test", "--no-fail-fast"]);
    tests.args(SELECTION).args(["--test", "it", "--"]);
    tests.args(SCENES).env("TESTS_DB", "postgres");
    tests.env("TESTS_WITHOUT", without.join(","));
    stores.and(command::run(&mut tests))
}

/// Builds what the hostile set needs, and runs its scenes: those of `docs/operate/hostile.md` that are named for it. A name
/// as option runs those with this in their name.
pub(crate) fn run_hostile(options: &[String]) -> anyhow::Result<()> {
    guests::run(&[])?;
    build_programs()?;
    let mut scenes = command::cargo(&["test", "--no-fail-fast"]);
    scenes.args(SELECTION).args(["--test", "it", "--"]);
    match options {
        [] => scenes.arg("hostile::"),
        [name] => scenes.arg(name),
        _ => bail!("`cargo xtask hostile` takes at most one name"),
    };
    command::run(&mut scenes)
}

/// Builds what the security suite needs, and runs its scenes: those of `docs/operate/security-suite.md` that are named for it. A
/// name as option runs those with this in their name.
pub(crate) fn run_security(options: &[String]) -> anyhow::Result<()> {
    guests::run(&[])?;
    build_programs()?;
    let mut scenes = command::cargo(&["test", "--no-fail-fast"]);
    scenes.args(SELECTION).args(["--test", "it"]);
    scenes.env("TESTS_WITHOUT", prepare_servers().join(","));
    match options {
        [] => scenes.args(["--", "security::"]),
        [name] => scenes.args(["--", name]),
        _ => bail!("`cargo xtask security` takes at most one name"),
    };
    command::run(&mut scenes)
}

/// Finds or fetches the programs that scenes of a whole host talk to. The names of those that are not to be had.
fn prepare_servers() -> Vec<String> {
    let programs = [
        (redis::prepare(), redis::PROGRAM),
        (smtp::prepare(), smtp::PROGRAM),
        (oidc::prepare(), oidc::PROGRAM),
        (schemathesis::prepare(), schemathesis::PROGRAM),
        (tus::prepare(), tus::PROGRAM),
        (postgres::prepare(), postgres::PROGRAM),
    ];
    let missing = programs.into_iter().filter(|(is_there, _)| !is_there);
    missing.map(|(_, name)| name.to_owned()).collect()
}

/// Builds `gantry` and all tests in one go: with `--tests` the program gets the same features as the tests have, so that
/// the following `cargo test` finds everything built.
fn build_programs() -> anyhow::Result<()> {
    command::run(command::cargo(&["build", "--bins", "--tests"]).args(SELECTION))
}

/// Builds only `gantry`, with the features that it has among all crates.
pub(crate) fn build_server() -> anyhow::Result<()> {
    command::run(command::cargo(&["build", "--bin", "gantry"]).args(SELECTION))
}
