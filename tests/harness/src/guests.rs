//! The plugins that tests deploy: built beforehand by `cargo xtask guests`.

use std::path::{Path, PathBuf};

use bytes::Bytes;

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("the harness is two folders below the root")
        .to_owned()
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    profile().parent().expect("target/<profile>").to_owned()
}

/// The folder of executables in the same profile as the one that runs.
fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("a program has a path");
    let folder = program.parent().expect("a program is in a folder");
    // A test runs from `target/<profile>/deps`.
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().expect("target/<profile>").to_owned(),
        _ => folder.to_owned(),
    }
}

/// The server's executable, built in the same profile as the test.
pub fn gantry() -> PathBuf {
    let path = profile().join("gantry");
    assert!(
        path.exists(),
        "{} is missing; `cargo xtask test` builds it",
        path.display()
    );
    path
}

/// Where `cargo xtask test` has put `tus-js-client`. Tests that need it are left out only if that was said aloud.
pub fn tus_client() -> Option<PathBuf> {
    const NAME: &str = "tus-js-client";
    if is_without(NAME) {
        return None;
    }
    let tools = root().join("target/tools/tus");
    assert!(
        tools.join("node_modules").join(NAME).is_dir(),
        "{NAME} is missing; `cargo xtask test` fetches it"
    );
    Some(tools)
}

/// A guest of `tests/guests`, by the name of its file.
pub fn guest(name: &str) -> Bytes {
    read(&format!("examples/{}.wasm", name.replace('-', "_")))
}

/// A component of `examples/` or `plugins/`, by the name of its crate.
pub fn component(name: &str) -> Bytes {
    read(&format!("{}.wasm", name.replace('-', "_")))
}

/// A module of `examples/` for Extism, by the name of its crate.
pub(crate) fn extism_example(name: &str) -> Bytes {
    let file = name.replace('-', "_");
    read_file(&format!("wasm32-unknown-unknown/guest/{file}.wasm"))
}

/// The module of `tests/extism-guests`; nothing on a machine whose toolchain cannot build it, which is said.
pub fn extism_probe() -> Option<Bytes> {
    has_target("wasm32-wasip1").then(|| read_file("wasm32-wasip1/guest/extism_probe.wasm"))
}

/// Whether the examples of Extism can be built on this machine. If not, this is said.
pub fn has_extism_examples() -> bool {
    has_target("wasm32-unknown-unknown")
}

/// The component of a plugin that `cargo xtask languages` builds, by its folder: `tests/languages/js`. Nothing on a machine
/// that has not the tools of the language, which is said.
pub fn in_language(folder: &str) -> Option<Bytes> {
    let manifest = std::fs::read_to_string(root().join(folder).join("plugin.toml"))
        .unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut lines = manifest.lines();
    let language = lines.find_map(|line| line.strip_prefix("language = \""));
    // The others are built with tools from npm.
    let language = language.map_or("js", |word| word.trim_end_matches('"'));
    if is_without(language) {
        eprintln!("left out: {folder}, because the tools for {language} are not to be had");
        return None;
    }
    let path = root().join(folder).join("target/plugin.wasm");
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes.into()),
        Err(error) => panic!("{}: {error}; run `cargo xtask languages`", path.display()),
    }
}

/// Whether `cargo xtask test` could not get something and has said so.
pub fn is_without(name: &str) -> bool {
    let without = std::env::var("TESTS_WITHOUT").unwrap_or_default();
    without.split(',').any(|other| other == name)
}

/// Asked of the compiler, so that a module that should be there and is not is still a failure.
fn has_target(target: &str) -> bool {
    let output = std::process::Command::new("rustc")
        .current_dir(root())
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .expect("the compiler is there");
    let folder = String::from_utf8(output.stdout).expect("a path in UTF-8");
    let is_there = Path::new(folder.trim()).is_dir();
    if !is_there {
        eprintln!("left out: the standard library for {target} is not installed");
    }
    is_there
}

fn read(file: &str) -> Bytes {
    read_file(&format!("wasm32-wasip2/guest/{file}"))
}

fn read_file(file: &str) -> Bytes {
    let path = target().join(file);
    match std::fs::read(&path) {
        Ok(bytes) => bytes.into(),
        Err(error) => panic!("{}: {error}; run `cargo xtask guests`", path.display()),
    }
}
