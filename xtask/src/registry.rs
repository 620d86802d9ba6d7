//! The registry that some tests push to and pull from: Debian's `docker-registry`. If it is not installed, its package is
//! unpacked below `target/`, which changes nothing on the machine.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::command;

/// What the program and its package are called.
pub(crate) const PROGRAM: &str = "docker-registry";

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = crate::root().join("target/tools");
    let is_there = env::split_paths(&path)
        .chain([tools.join("usr/bin")])
        .any(|folder| folder.join(PROGRAM).is_file());
    if is_there {
        return true;
    }
    match fetch(&tools) {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the tests with a registry. There is no {PROGRAM}, and it cannot be fetched ({error:#}). \
                 Install it to run them."
            );
            false
        }
    }
}

fn fetch(tools: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(tools)?;
    let apt = |arguments: &[&str]| -> anyhow::Result<()> {
        command::run(Command::new("apt-get").args(arguments).current_dir(tools))
    };
    if apt(&["download", PROGRAM]).is_err() {
        // A fresh machine has no lists yet.
        apt(&["update"])?;
        apt(&["download", PROGRAM])?;
    }
    let mut files = fs::read_dir(tools)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = files
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get left no package")?;
    command::run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(tools),
    )?;
    if !tools.join("usr/bin").join(PROGRAM).is_file() {
        bail!("the package has no {PROGRAM}");
    }
    Ok(())
}
