//! JavaScript: the sources and an engine (QuickJS) as one component, a snapshot taken after the modules have run.

use std::process::Command;

use super::toolchain::{Toolchain, run};
use super::{Place, names, world};

const NEEDS: &str = "plugins in JavaScript are built with Node.js 20 or newer and its `npm`";

const TOOLCHAIN: Toolchain = Toolchain {
    name: "js",
    files: &[
        (
            "package.json",
            include_str!("../../../../../languages/js/toolchain/package.json"),
        ),
        (
            "package-lock.json",
            include_str!("../../../../../languages/js/toolchain/package-lock.json"),
        ),
    ],
    fetch: &[
        "npm",
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ],
    needs: NEEDS,
    source: "npm",
};

pub(super) fn build(place: &Place) -> anyhow::Result<Vec<u8>> {
    place.source("src/plugin.js")?;
    let tools = TOOLCHAIN.folder()?;
    let made = place.scratch.join("snapshot.wasm");
    let mut node = Command::new("node");
    node.arg(tools.join("node_modules/componentize-qjs/bin/componentize-qjs"))
        .arg("--wit")
        .arg(&place.wit)
        .args(["--world", world::WORLD, "--js", "gantry/main.js"])
        .args(["--module-root", ".", "--sync", "--output"])
        .arg(&made)
        .current_dir(&place.folder);
    run(&mut node, NEEDS)?;
    names::put_back(Place::read(&made)?)
}
