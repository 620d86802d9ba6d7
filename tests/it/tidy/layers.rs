//! Imports point down, the way data flows.

use super::{File, after, assert_none, files, name};

/// Top row first. A module may import itself and any row below its own.
const LAYERS: &[&[&str]] = &[
    &["cli"],
    &["app"],
    &["config", "telemetry"],
    &["gateway", "admin", "jobs"],
    &["flows"],
    &["plugins"],
    &["runtime"],
    &["services"],
    &["auth", "limits", "http", "cache", "idempotency", "openapi"],
    &["audit"],
    &["mail"],
    &["db", "cluster"],
    &["ledger"],
    &[
        "ids",
        "clock",
        "bindings",
        "seal",
        "condition",
        "pattern",
        "address",
    ],
];

#[test]
fn imports_point_down() {
    let mut mistakes = Vec::new();
    for file in files("host/src", ".rs") {
        let here = module(&file);
        let Some(from) = row(here) else { continue };
        for (line, there) in imports(&file) {
            let is_down = row(&there).is_none_or(|to| from < to);
            if !is_down && there != here {
                mistakes.push(format!("{}:{line}: `{here}` uses `{there}`", file.path));
            }
        }
    }
    assert_none(&mistakes, "a module uses only rows below its own:");
}

#[test]
fn every_module_has_its_row() {
    let unknown: Vec<String> = files("host/src", ".rs")
        .iter()
        .filter(|file| !["lib", "main"].contains(&module(file)) && row(module(file)).is_none())
        .map(|file| file.path.clone())
        .collect();
    assert_none(
        &unknown,
        "add these to the rows above and in ARCHITECTURE.md:",
    );
}

#[test]
fn one_service_does_not_use_another() {
    let files = files("host/src/services", ".rs");
    let services: Vec<&str> = files.iter().map(service).collect();
    let mut mistakes = Vec::new();
    for file in &files {
        for (number, line) in file.code() {
            for start in ["crate::services::", "super::super::", "super::"] {
                for rest in after(line, start) {
                    let there = name(rest);
                    // The folder's own files (`error.rs`, `rehearsal.rs`) are for all services.
                    let is_other = there != service(file)
                        && services.contains(&there)
                        && !["error", "mod", "rehearsal"].contains(&there);
                    if is_other && (start.starts_with("crate") || leaves_the_service(file, start)) {
                        mistakes.push(format!("{}:{number}: uses `{there}`", file.path));
                    }
                }
            }
        }
    }
    assert_none(&mistakes, "services meet in `runtime`, not in each other:");
}

/// Whether these steps up lead from the file's module to the folder of services.
fn leaves_the_service(file: &File, steps: &str) -> bool {
    let depth = file.path.matches('/').count() - "host/src/services".matches('/').count();
    let is_folder = file.path.ends_with("/mod.rs");
    let modules = if is_folder { depth - 1 } else { depth };
    steps.matches("super::").count() == modules
}

/// The names of the host's modules that a file uses, whether in `use crate::…` or in the middle of a line.
fn imports(file: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in file.code() {
        for rest in after(line, "crate::").chain(after(line, "gantry::")) {
            match rest.strip_prefix('{') {
                None => found.push((number, name(rest).to_owned())),
                Some(group) => found.extend(
                    group
                        .split(',')
                        .map(|part| (number, name(part.trim()).to_owned())),
                ),
            }
        }
    }
    found
}

fn row(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn module(file: &File) -> &str {
    name(file.path.strip_prefix("host/src/").unwrap())
}

fn service(file: &File) -> &str {
    name(file.path.strip_prefix("host/src/services/").unwrap())
}
