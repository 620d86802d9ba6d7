//! Holds today's `wit/` against every contract that was released: plugins that were built then must still load.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use semver::{Prerelease, Version};
use wit_bindgen_core::wit_parser::{PackageId, Resolve};
use wit_component::WitPrinter;

use crate::bindings;

/// Where released contracts are kept, one file each: all packages, without comments.
const RELEASES: &str = "tests/it/contract";

/// Checks the contract, or with `--release` keeps today's as the one that was released.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    match options {
        [] => check_releases(),
        [option] if option == "--release" => release(),
        _ => bail!("`cargo xtask wit` takes only `--release`"),
    }
}

/// Fails if a plugin that was built for a released contract could not be loaded any more.
pub(crate) fn check_releases() -> anyhow::Result<()> {
    let (today, version) = today()?;
    let releases = releases()?;
    if releases.is_empty() {
        bail!("{RELEASES} has no released contract");
    }
    for path in releases {
        let released = fs::read_to_string(&path)?;
        if !must_keep(&version_of(&path)?, &version) {
            continue;
        }
        check(&released, &today)
            .with_context(|| format!("the contract breaks plugins of {}", path.display()))?;
        println!("wit/ keeps what {} promised", path.display());
    }
    Ok(())
}

/// Writes today's contract beside the released ones. A released one is never changed.
fn release() -> anyhow::Result<()> {
    let (today, version) = today()?;
    let path = crate::root().join(RELEASES).join(format!("{version}.wit"));
    if fs::read_to_string(&path).is_ok_and(|released| released != today) {
        bail!(
            "{} is released already: give `wit/worlds` a new version",
            path.display()
        );
    }
    fs::write(&path, today)?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Whether plugins of `released` must load into a host with `today`: the rule of semantic versions.
fn must_keep(released: &Version, today: &Version) -> bool {
    let significant = |version: &Version| match version.major {
        0 => (0, version.minor),
        major => (major, 0),
    };
    significant(released) == significant(today)
}

/// All packages as one text, and the version of the worlds.
fn today() -> anyhow::Result<(String, Version)> {
    let (resolve, main) = bindings::resolve("wit/worlds")?;
    let version = resolve.packages[main]
        .name
        .version
        .clone()
        .context("wit/worlds has no version")?;
    let others: Vec<PackageId> = resolve
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != main)
        .collect();
    let mut printer = WitPrinter::default();
    printer.emit_docs(false);
    printer.print(&resolve, main, &others)?;
    Ok((String::from(printer.output), version))
}

fn releases() -> anyhow::Result<Vec<PathBuf>> {
    let folder = crate::root().join(RELEASES);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn version_of(path: &Path) -> anyhow::Result<Version> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Version::parse(&name).with_context(|| format!("{} is not named by a version", path.display()))
}

/// Fails if a world of `released` cannot be served by the one of the same name in `today`.
fn check(released: &str, today: &str) -> anyhow::Result<()> {
    let (released, released_main) = parse(released, Some("released"))?;
    let worlds: Vec<_> = released.packages[released_main]
        .worlds
        .iter()
        .map(|(name, id)| (name.clone(), *id))
        .collect();
    for (name, before) in worlds {
        let (mut both, main) = parse(today, None)?;
        let now = *both.packages[main]
            .worlds
            .get(&name)
            .with_context(|| format!("the world `{name}` is gone"))?;
        let moved = both.merge(released.clone())?;
        let before = moved.map_world(before, Default::default())?;
        wit_component::semver_check(both, before, now)
            .with_context(|| format!("the world `{name}` changed"))?;
    }
    Ok(())
}

/// Reads a contract. With a mark, its own packages get other versions, so that they can stand beside today's.
fn parse(text: &str, mark: Option<&str>) -> anyhow::Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let main = resolve.push_source("contract.wit", text)?;
    if let Some(mark) = mark {
        for (_, package) in &mut resolve.packages {
            if package.name.namespace == "gantry"
                && let Some(version) = &mut package.name.version
            {
                version.pre = Prerelease::new(mark)?;
            }
        }
        resolve.package_names = resolve
            .packages
            .iter()
            .map(|(id, package)| (package.name.clone(), id))
            .collect();
    }
    Ok((resolve, main))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASED: &str = "
        package gantry:worlds@0.1.0;
        world module { import gantry:kv/store@0.1.0; export gantry:http/handler@0.1.0; }
        package gantry:kv@0.1.0 {
          interface store {
            variant error { denied, not-found }
            record entry { value: list<u8> }
            get: func(key: string) -> result<entry, error>;
          }
        }
        package gantry:http@0.1.0 {
          interface handler { handle: func(body: list<u8>) -> list<u8>; }
        }";

    #[test]
    fn todays_contract_keeps_what_was_released() {
        check_releases().unwrap();
    }

    #[test]
    fn what_old_plugins_do_not_notice_may_change() {
        for (before, after) in [
            ("get: func", "count: func() -> u64; get: func"),
            (
                "get: func",
                "record page { keys: list<string> } keys: func() -> page; get: func",
            ),
            (
                "import gantry:kv/store@0.1.0;",
                "import gantry:kv/store@0.1.0; import now: func();",
            ),
        ] {
            let today = RELEASED.replace(before, after);
            assert_ne!(today, RELEASED, "`{before}` is not in the contract");
            check(RELEASED, &today).unwrap();
        }
    }

    #[test]
    fn what_old_plugins_rely_on_may_not_change() {
        for (before, after) in [
            ("denied, not-found", "denied, not-found, conflict"),
            ("value: list<u8> }", "value: list<u8>, version: u64 }"),
            ("get: func(key: string)", "get: func(key: list<u8>)"),
            ("get: func(key: string) -> result<entry, error>;", ""),
            ("interface handler {", "interface handler { more: func();"),
            ("import gantry:kv/store@0.1.0;", ""),
            ("world module", "world business"),
        ] {
            let today = RELEASED.replace(before, after);
            assert_ne!(today, RELEASED, "`{before}` is not in the contract");
            assert!(
                check(RELEASED, &today).is_err(),
                "`{after}` must be refused"
            );
        }
    }
}
