//! C: a core module from the compiler, made into a component here.

use std::{fs, process::Command};

use anyhow::{Context as _, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::python::{FETCH, NEEDS};
use super::toolchain::{Toolchain, cache, run};
use super::{Place, world};

const TOOLCHAIN: Toolchain = Toolchain {
    name: "c",
    files: &[(
        "requirements.txt",
        include_str!("../../../../../languages/c/toolchain/requirements.txt"),
    )],
    fetch: FETCH,
    needs: NEEDS,
    source: "PyPI",
};

/// Small, and without what the plugin does not use.
const FLAGS: &[&str] = &[
    "--target=wasm32-wasi",
    "-mexec-model=reactor",
    "-std=gnu11",
    "-Os",
    "-s",
    "-Wall",
    "-Wextra",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wl,--gc-sections",
    "-Wl,-z,stack-size=65536",
    "-Igantry",
];

pub(super) fn build(place: &Place) -> anyhow::Result<Vec<u8>> {
    let mut sources = Vec::new();
    let src = place.folder.join("src");
    for entry in fs::read_dir(&src).with_context(|| format!("cannot read {}", src.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            sources.push(path);
        }
    }
    ensure!(
        !sources.is_empty(),
        "there is no C file in {}",
        src.display()
    );
    sources.sort();
    let tools = TOOLCHAIN.folder()?;
    let made = place.scratch.join("core.wasm");
    let mut zig = Command::new("python3");
    zig.args(["-m", "ziglang", "cc"])
        .args(FLAGS)
        .args(sources)
        .args([
            "gantry/gantry.c",
            "gantry/sql.c",
            "gantry/outbound.c",
            "gantry/bindings.c",
            "-o",
        ])
        .arg(&made)
        .env("PYTHONPATH", tools.join("packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // The C library is compiled once and kept.
        .env("ZIG_GLOBAL_CACHE_DIR", cache()?.join("zig"))
        .env("ZIG_LOCAL_CACHE_DIR", place.scratch.join("zig"))
        .current_dir(&place.folder);
    run(&mut zig, NEEDS)?;
    component(place, Place::read(&made)?)
}

fn component(place: &Place, mut module: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(&place.wit)?;
    let world = resolve.select_world(&[package], Some(world::WORLD))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    ComponentEncoder::default()
        .module(&module)?
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?
        .validate(true)
        .encode()
        .context("the module is no plugin")
}
