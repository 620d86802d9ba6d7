//! The server that several hosts share in some tests: Debian's `redis-server`. If it is not installed, its packages are
//! unpacked below `target/`, which changes nothing on the machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::command;

/// What the program is called.
pub(crate) const PROGRAM: &str = "redis-server";
/// The program, and the libraries that few machines have.
const PACKAGES: [&str; 5] = [
    "redis-server",
    "redis-tools",
    "libatomic1",
    "libjemalloc2",
    "liblzf1",
];

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file());
    let folder = crate::root().join("target/tools/redis");
    if is_there || runs(&folder) {
        return true;
    }
    match fetch(&folder) {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the tests with a shared server. There is no {PROGRAM}, and it cannot be fetched ({error:#}). \
                 Install it to run them."
            );
            false
        }
    }
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        // Cut off, or of another release.
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let download = || {
        let mut apt = Command::new("apt-get");
        command::run(apt.arg("download").args(PACKAGES).current_dir(folder))
    };
    if download().is_err() {
        // A fresh machine has no lists yet.
        command::run(Command::new("apt-get").arg("update"))?;
        download()?;
    }
    let files: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    for file in &files {
        let mut unpack = Command::new("dpkg-deb");
        command::run(unpack.arg("--extract").arg(file).arg(folder))?;
        fs::remove_file(file)?;
    }
    if !runs(folder) {
        bail!("the packages are there and the program does not run");
    }
    Ok(())
}

/// Whether what was unpacked here runs.
fn runs(folder: &Path) -> bool {
    let program = folder.join("usr/bin").join(PROGRAM);
    let Ok(libraries) = libraries(folder) else {
        return false;
    };
    let mut version = Command::new(program);
    version.arg("--version").stdout(Stdio::null());
    version.env("LD_LIBRARY_PATH", libraries);
    version.status().is_ok_and(|status| status.success())
}

/// Where libraries are: a folder named for the kind of machine.
fn libraries(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut folders =
        fs::read_dir(folder.join("usr/lib"))?.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .context("the packages have no libraries")
}
