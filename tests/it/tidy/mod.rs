//! What can be said about the source as text: who imports whom, who owns what, and whether documents and code agree.

mod documents;
mod form;
mod guide;
mod layers;
mod ownership;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository, as text.
struct File {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl File {
    /// The lines that are code, with their numbers. Comments are prose: they may name what the code must not.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line))
    }

    /// The code that runs in production: without test files and without the module `tests` at the end of a file.
    fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test = self.path.ends_with("tests.rs") || self.path.contains("/tests/");
        let mut is_over = is_test;
        let mut after_attribute = false;
        self.code().take_while(move |(_, line)| {
            is_over |= after_attribute && line.starts_with("mod ") && line.ends_with('{');
            after_attribute = *line == "#[cfg(test)]";
            !is_over
        })
    }
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// All files below a folder whose name ends in this way. Folders of build results are left out.
fn files(folder: &str, ending: &str) -> Vec<File> {
    let mut paths = Vec::new();
    collect(&root().join(folder), ending, &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "{folder} has no {ending}");
    paths
        .into_iter()
        .map(|path| File {
            text: fs::read_to_string(&path).unwrap(),
            path: path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/"),
        })
        .collect()
}

fn collect(folder: &Path, ending: &str, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_foreign = name.starts_with('.') || name == "target" || name == "node_modules";
        if path.is_dir() && !is_foreign {
            collect(&path, ending, paths);
        } else if path.is_file() && name.ends_with(ending) {
            paths.push(path);
        }
    }
}

/// Fails with all of them at once.
fn assert_none(mistakes: &[String], rule: &str) {
    assert!(mistakes.is_empty(), "{rule}\n{}", mistakes.join("\n"));
}

/// Every place where `start` stands, with what follows.
fn after<'a>(line: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(start)
        .map(|(at, _)| &line[at + start.len()..])
}

/// The name that a text begins with.
fn name(text: &str) -> &str {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .next()
        .unwrap_or_default()
}
