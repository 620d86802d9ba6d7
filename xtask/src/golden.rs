//! Keeps plugins of a release as bundles: `tests/it/golden.rs` runs them on the host of every later one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use crate::{command, demo, guests, test};

/// Where they are kept, a folder for each release.
const RELEASES: &str = "tests/golden";

/// One plugin for each way to be called, and one that uses every service. Together they stay below 1 MB.
const PLUGINS: &[(&str, &str)] = &[
    ("all-services", "tests/golden/all-services"),
    ("hello", "examples/hello"),
    ("kv-counter", "examples/kv-counter"),
    ("transform-csv", "examples/transform-csv"),
    ("wasi-http", "examples/wasi-http"),
    ("wasi-http-03", "examples/wasi-http-03"),
];

/// The host has the version of the workspace, as this program has.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Fails if plugins of this version are missing; with `--keep` builds those and keeps them. What is kept is never changed:
/// before a release is out, remove the files to make them anew.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    match options {
        [] => check(),
        [option] if option == "--keep" => keep(),
        _ => bail!("`cargo xtask golden` takes only `--keep`"),
    }
}

/// Fails if plugins of this version are missing.
pub(crate) fn check() -> anyhow::Result<()> {
    let missing: Vec<&str> = missing().map(|(name, _)| name).collect();
    ensure!(
        missing.is_empty(),
        "{RELEASES}/{VERSION} is without {}; run `cargo xtask golden --keep`",
        missing.join(", ")
    );
    println!("{RELEASES}/{VERSION} has all {} plugins", PLUGINS.len());
    Ok(())
}

fn keep() -> anyhow::Result<()> {
    guests::add_target()?;
    test::build_server()?;
    for (name, folder) in missing() {
        let folder = crate::root().join(folder);
        command::run(
            demo::server_command()
                .args(["plugin", "build"])
                .arg(&folder),
        )?;
        let built = bundle_in(&folder, name)?;
        let kept = path(name);
        if let Some(folder) = kept.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(&built, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
        println!("wrote {}", kept.display());
    }
    check()
}

fn missing() -> impl Iterator<Item = (&'static str, &'static str)> {
    let plugins = PLUGINS.iter().copied();
    plugins.filter(|(name, _)| !path(name).is_file())
}

fn path(name: &str) -> PathBuf {
    let folder = crate::root().join(RELEASES).join(VERSION);
    folder.join(name).with_extension("gantry")
}

/// What `gantry plugin build` has written: the name and the version of the plugin.
fn bundle_in(folder: &std::path::Path, name: &str) -> anyhow::Result<PathBuf> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with(name) && file.ends_with(".gantry") {
            return Ok(path);
        }
    }
    bail!("there is no bundle in {}", folder.display())
}
