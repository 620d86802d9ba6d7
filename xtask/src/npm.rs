//! Programs of tests that come from npm: each has a list of what it is made of in a folder below `tests/`, and is installed in
//! one of its own below `target/`.

use std::{fs, process::Command};

use anyhow::bail;

use crate::command;

/// What names a program and all that it needs, to the last byte.
const LISTS: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs `program` into `target/tools/NAME` by the lists in `tests/NAME`, unless it is there.
pub(crate) fn fetch(name: &str, program: &str) -> anyhow::Result<()> {
    let from = crate::root().join("tests").join(name);
    let folder = crate::root().join("target/tools").join(name);
    let is_same = |list: &str| {
        let read = |file| fs::read(file).unwrap_or_default();
        read(folder.join(list)) == read(from.join(list))
    };
    let is_there = || folder.join("node_modules").join(program).is_dir();
    if is_there() && LISTS.into_iter().all(is_same) {
        return Ok(());
    }
    if folder.exists() {
        // Of another list, or cut off.
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for list in LISTS {
        fs::copy(from.join(list), folder.join(list))?;
    }
    command::run(
        Command::new("npm")
            .args([
                "ci",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--loglevel=error",
            ])
            .current_dir(&folder),
    )?;
    if !is_there() {
        bail!("npm has not installed it");
    }
    Ok(())
}
