//! The form of files: how long they are, what they may not leave behind.

use super::{File, assert_none, files};

const LINES_MAX: usize = 600;

/// Files that may be longer, and why.
const LONGER: &[(&str, &str)] = &[
    (
        "host/src/plugins/deploy.rs",
        "the steps of a deployment, in their order, and the operator's changes",
    ),
    ("plugin-sdk/src/bindings/checked.rs", "generated"),
    ("plugin-sdk/src/bindings/filtering_requests.rs", "generated"),
    (
        "plugin-sdk/src/bindings/filtering_responses.rs",
        "generated",
    ),
    ("plugin-sdk/src/bindings/migrating.rs", "generated"),
    ("plugin-sdk/src/bindings/module.rs", "generated"),
    ("plugin-sdk/src/bindings/transformation.rs", "generated"),
    ("tests/guests/keyvalue_02/bindings.rs", "generated"),
    (
        "host/src/services/sql/tests.rs",
        "one case for each way out of the sandbox",
    ),
    (
        "host/src/services/outbound/tests.rs",
        "one case for each way around the guard",
    ),
];

#[test]
fn files_are_short_enough_to_be_read() {
    let long: Vec<String> = ours()
        .iter()
        .filter(|file| !LONGER.iter().any(|(path, _)| *path == file.path))
        .map(|file| (file, length(file)))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| format!("{}: {lines} lines", file.path))
        .collect();
    assert_none(&long, "split these, or list them with a reason:");
}

#[test]
fn nothing_is_left_unfinished() {
    // Written so that this file does not contain them.
    let words = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("#[", "ignore"),
    ];
    let mut mistakes = Vec::new();
    for file in ours() {
        for (number, line) in file.code() {
            if words.iter().any(|word| line.contains(word)) {
                mistakes.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    assert_none(&mistakes, "finish these or leave them out:");
}

#[test]
fn every_module_says_what_it_is_for() {
    let mute: Vec<String> = ours()
        .iter()
        .filter(|file| !is_test(file) && !file.path.contains("/bindings/"))
        .filter(|file| file.text.lines().count() > 1 && !file.text.trim_start().starts_with("//!"))
        .map(|file| file.path.clone())
        .collect();
    assert_none(&mute, "begin these with one or two sentences:");
}

/// Lines without the tests at the end, which have a length of their own.
fn length(file: &File) -> usize {
    if is_test(file) {
        return file.text.lines().count();
    }
    file.production().last().map_or(0, |(number, _)| number)
}

fn is_test(file: &File) -> bool {
    file.path.ends_with("tests.rs")
        || file.path.contains("/tests/")
        || file.path.starts_with("tests/")
}

/// All Rust of this repository.
fn ours() -> Vec<File> {
    files("", ".rs")
}
