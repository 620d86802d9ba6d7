//! The programs that show documentation, as npm has them: fetched at a pinned version, checked, and kept compressed where they
//! become part of the executable. A build needs none of this.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::command;

/// Where the files go.
const ASSETS: &str = "host/src/gateway/docs/assets";

/// A package, its digest, and what is taken out of it: a file, and the name under which it is kept.
struct Package {
    name: &'static str,
    version: &'static str,
    /// SHA-256 of the archive.
    sha256: &'static str,
    files: &'static [(&'static str, &'static str)],
}

const PACKAGES: [Package; 3] = [
    Package {
        name: "@scalar/api-reference",
        version: "1.72.1",
        sha256: "b86884e6251eed57234f1a62732a5e6303700a5b4d159192a5a5dd003b854378",
        files: &[("dist/browser/standalone.js", "scalar.js.gz")],
    },
    Package {
        name: "redoc",
        version: "3.0.1",
        sha256: "d9666cd5a1cb6c08c6d23f2433b025774a11354823d70357c8f506b988dac189",
        files: &[("bundles/redoc.standalone.js", "redoc.js.gz")],
    },
    Package {
        name: "swagger-ui-dist",
        version: "5.35.0",
        sha256: "1b8e891893404ea4c3558b6a87e2a3e494e7eedba41168c2ece5800a391a6ea6",
        files: &[
            ("swagger-ui-bundle.js", "swagger.js.gz"),
            ("swagger-ui.css", "swagger.css.gz"),
        ],
    },
];

/// Fetches all packages and writes their files. With `--check`, says whether those that are there are the same.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let is_check = match options {
        [] => false,
        [option] if option == "--check" => true,
        _ => bail!("usage: cargo xtask references [--check]"),
    };
    let folder = crate::root().join("target/references");
    fs::create_dir_all(&folder)?;
    for package in &PACKAGES {
        take(package, &folder, is_check)?;
    }
    Ok(())
}

fn take(package: &Package, folder: &Path, is_check: bool) -> anyhow::Result<()> {
    let Package {
        name,
        version,
        sha256,
        files,
    } = package;
    let wanted = format!("{name}@{version}");
    let mut pack = Command::new("npm");
    pack.args(["pack", &wanted, "--silent"]).current_dir(folder);
    let output = command::output(&mut pack)?;
    let archive = folder.join(output.lines().last().unwrap_or_default().trim());
    let mut sum = Command::new("sha256sum");
    let sum = command::output(sum.arg(&archive))?;
    if !sum.starts_with(sha256) {
        bail!("{wanted} is not what it was when it was pinned: {sum}");
    }
    for (file, kept) in *files {
        // Images that a program would fetch from its maker are left empty.
        let script = format!(
            "tar --extract --to-stdout --file \"$0\" package/{file} \
             | sed 's#https://cdn.redoc.ly/redoc/[a-z-]*.svg#data:,#g' | gzip --best --no-name"
        );
        let mut unpack = Command::new("sh");
        let output = unpack.args(["-c", &script]).arg(&archive).output();
        let output = output.context("cannot start `sh`")?;
        if !output.status.success() || output.stdout.len() < 100 {
            bail!("{wanted} has no {file}");
        }
        let path = crate::root().join(ASSETS).join(kept);
        if !is_check {
            fs::write(&path, output.stdout)?;
            println!("wrote {ASSETS}/{kept}");
        } else if fs::read(&path)? != output.stdout {
            bail!("{ASSETS}/{kept} is not {file} of {wanted}: run `cargo xtask references`");
        }
    }
    Ok(())
}
