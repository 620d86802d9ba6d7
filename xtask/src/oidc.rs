//! The OpenID provider that some tests log in at: `oidc-provider` from npm, in a folder of its own below `target/`.

use std::{fs, process::Command};

use anyhow::bail;

use crate::command;

/// What the program is called.
pub(crate) const PROGRAM: &str = "oidc-provider";
/// What names it and all that it needs, to the last byte.
const LISTS: [&str; 2] = ["package.json", "package-lock.json"];

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    match fetch() {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the tests with an OpenID provider. {PROGRAM} cannot be fetched ({error:#}). Node.js 20 or newer \
                 with `npm`, and npm's registry, are needed."
            );
            false
        }
    }
}

fn fetch() -> anyhow::Result<()> {
    let from = crate::root().join("tests/oidc");
    let folder = crate::root().join("target/tools/oidc");
    let is_same = |list: &str| {
        let read = |file| fs::read(file).unwrap_or_default();
        read(folder.join(list)) == read(from.join(list))
    };
    let is_there = || folder.join("node_modules").join(PROGRAM).is_dir();
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
