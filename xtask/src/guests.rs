//! Builds every guest of this workspace with one call of cargo, and holds them to the sizes we promise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use wit_bindgen_core::wit_parser::decoding::{DecodedWasm, decode};

use crate::command;

const TARGET: &str = "wasm32-wasip2";

/// Folders of examples that begin like this are core modules of Extism.
const EXTISM: &str = "extism-";
/// What Extism's examples are built for.
const MODULE_TARGET: &str = "wasm32-unknown-unknown";
/// What the module of the tests is built for, because it looks for what a system has.
const MODULE_TEST_TARGET: &str = "wasm32-wasip1";
const MODULE_TESTS: &str = "gantry-extism-guests";

/// Hosts of guests in folders of their own; each folder is a package of its name.
const FOLDERS: &[&str] = &["examples", "plugins"];

/// The guests of the tests are examples of one package.
const TESTS: &str = "gantry-guests";

/// What a plugin may weigh. A larger one compiles longer at each deployment: about 0.4 ms for a KiB.
const SIZES_KIB_MAX: &[(&str, u64)] = &[
    ("blobs_reports", 200),
    ("cache_rates", 200),
    ("extism_count_vowels", 200),
    ("extism_quote", 250),
    ("guard", 100),
    ("hello", 80),
    ("images", 1200),
    ("kv_counter", 200),
    ("sse", 160),
    ("techplus", 700),
    ("transform_csv", 200),
    ("wasi_http", 120),
    ("wasi_http_03", 160),
];

/// Builds all guests and checks them; with `--list` also prints what each imports and exports.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    let shows_interfaces = match options {
        [] => false,
        [option] if option == "--list" => true,
        _ => bail!("`cargo xtask guests` takes only `--list`"),
    };
    build()?;
    check_all(shows_interfaces)
}

/// Holds what was built to its sizes and prints them.
fn check_all(shows_interfaces: bool) -> anyhow::Result<()> {
    let folder = target_folder().join(TARGET).join("guest");
    let mut files = wasm_files(&folder)?;
    files.extend(wasm_files(&folder.join("examples"))?);
    for target in [MODULE_TARGET, MODULE_TEST_TARGET] {
        let folder = target_folder().join(target).join("guest");
        if folder.is_dir() {
            files.extend(wasm_files(&folder)?);
        }
    }
    for file in &files {
        check(file, shows_interfaces).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Builds all guests: the components with one call of cargo, the modules with one for each of their targets.
pub(crate) fn build() -> anyhow::Result<()> {
    add_target()?;
    let mut components = vec![TESTS.to_owned()];
    let mut modules = Vec::new();
    for folder in FOLDERS {
        for package in packages(&crate::root().join(folder))? {
            match package.starts_with(EXTISM) {
                true => modules.push(package),
                false => components.push(package),
            }
        }
    }
    build_for(TARGET, &["--lib", "--examples"], &components)?;
    build_modules(MODULE_TARGET, &modules)?;
    build_modules(MODULE_TEST_TARGET, &[MODULE_TESTS.to_owned()])
}

fn build_for(target: &str, kinds: &[&str], packages: &[String]) -> anyhow::Result<()> {
    let mut cargo = command::cargo(&["build", "--target", target, "--profile", "guest"]);
    cargo.args(kinds);
    for package in packages {
        cargo.args(["--package", package]);
    }
    command::run(&mut cargo).context("the guests do not build")
}

/// Modules of Extism need targets of their own. Without a connection they are left out, and their tests say so.
fn build_modules(target: &str, packages: &[String]) -> anyhow::Result<()> {
    if let Err(error) = add(target) {
        eprintln!("{} left out: {error:#}", packages.join(", "));
        return Ok(());
    }
    build_for(target, &["--lib"], packages)
}

/// Adds the target that components are built for to the toolchain, unless it is there.
pub(crate) fn add_target() -> anyhow::Result<()> {
    add(TARGET)
}

fn add(target: &str) -> anyhow::Result<()> {
    let mut rustc = Command::new("rustc");
    rustc
        .current_dir(crate::root())
        .args(["--print", "target-libdir", "--target", target]);
    // Asked of the compiler rather than of rustup: the target may have come with a package.
    if Path::new(command::output(&mut rustc)?.trim()).is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    command::run(
        rustup
            .current_dir(crate::root())
            .args(["target", "add", target]),
    )
    .with_context(|| {
        format!(
            "guests need the standard library for {target} and rustup could not fetch it; \
             once you are connected, run `rustup target add {target}`"
        )
    })
}

/// The names of the folders that are crates.
fn packages(folder: &Path) -> anyhow::Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut packages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("Cargo.toml").exists()
            && let Some(name) = path.file_name()
        {
            packages.push(name.to_string_lossy().into_owned());
        }
    }
    packages.sort();
    Ok(packages)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => crate::root().join(folder),
        None => crate::root().join("target"),
    }
}

fn wasm_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Beside each component cargo keeps one with a hash in its name.
        let is_copy = path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().contains('-'));
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
            && !is_copy
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn check(file: &Path, shows_interfaces: bool) -> anyhow::Result<()> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let bytes = fs::read(file)?;
    // The library of the package of the tests is empty.
    if name == TESTS.replace('-', "_") {
        return Ok(());
    }
    let size_kib = bytes.len().div_ceil(1024);
    println!("{size_kib:>5} KiB  {name}");
    if shows_interfaces && let Ok(DecodedWasm::Component(resolve, world)) = decode(&bytes) {
        let world = &resolve.worlds[world];
        for (word, interfaces) in [("imports", &world.imports), ("exports", &world.exports)] {
            for key in interfaces.keys() {
                println!("           {word} {}", resolve.name_world_key(key));
            }
        }
    }
    let limit = SIZES_KIB_MAX
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, limit)| *limit);
    if let Some(limit) = limit {
        ensure!(
            u64::try_from(size_kib)? <= limit,
            "{size_kib} KiB is more than {limit} KiB"
        );
    }
    Ok(())
}
