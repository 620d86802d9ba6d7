//! What the documents tell people to write is understood by the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use gantry::plugins::manifest::Manifest;
use gantry_harness::guests;

use super::{after, assert_none, files};

/// What stands above a part of a manifest.
const HEAD: &str = "schema = 1\n[plugin]\nname = \"part\"\nversion = \"1.0.0\"\n[component]\npath = \"part.wasm\"\n";

#[test]
fn manifests_in_the_guide_are_valid() {
    let mut mistakes = Vec::new();
    let mut read = 0;
    for file in files("docs/guide", ".md") {
        for block in blocks(&file.text, "toml").filter(|block| !block.contains("dependencies]")) {
            let is_whole = block.starts_with("schema");
            let text = if is_whole {
                block.to_owned()
            } else {
                format!("{HEAD}{block}")
            };
            read += 1;
            if let Err(found) = Manifest::parse(&text) {
                mistakes.extend(
                    found
                        .iter()
                        .map(|mistake| format!("{}: {mistake}", file.path)),
                );
            }
        }
    }
    assert!(read > 5, "this test looks in the wrong place");
    assert_none(&mistakes, "the host would refuse these:");
}

#[test]
fn commands_in_documents_exist() {
    let mut wrong = Vec::new();
    let mut helps = BTreeMap::new();
    for file in files("", ".md") {
        for line in commands(&file.text) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let path: Vec<&str> = words
                .iter()
                .copied()
                .take_while(|word| is_subcommand(word))
                .collect();
            let path = &path[..path.len().min(depth(&path))];
            let help = helps.entry(path.join(" ")).or_insert_with(|| help(path));
            let Some(help) = help else {
                wrong.push(format!("{}: gantry {line}", file.path));
                continue;
            };
            let flags: BTreeSet<&str> = words
                .iter()
                .copied()
                .filter(|word| word.starts_with("--"))
                .collect();
            for flag in flags {
                let flag = flag
                    .split('=')
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches([',', '.']);
                if !help.contains(flag) {
                    wrong.push(format!("{}: gantry {line}: there is no {flag}", file.path));
                }
            }
        }
    }
    assert!(helps.len() > 10, "this test looks in the wrong place");
    assert_none(&wrong, "the command line does not know these:");
}

/// How many words name a command: `status`, `plugin deploy`.
fn depth(path: &[&str]) -> usize {
    match path.first() {
        Some(
            &("cache" | "plugin" | "user" | "role" | "key" | "token-key" | "secret" | "trust"
            | "config" | "audit" | "openapi" | "contract" | "service-account"),
        ) => 2,
        _ => 1,
    }
}

fn is_subcommand(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

/// What the command says about itself, if there is such a command.
fn help(path: &[&str]) -> Option<String> {
    let output = Command::new(guests::gantry())
        .args(path)
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let named = format!("Usage: gantry {}", path.join(" "));
    (output.status.success() && text.contains(&named)).then_some(text)
}

/// Lines for the command line, in blocks and in the middle of a text, without `gantry`.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let in_blocks = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("gantry "));
    let in_text = after(text, "`gantry ").filter_map(|rest| rest.split('`').next());
    in_blocks
        .chain(in_text)
        .map(|line| line.split([';', '#', '&']).next().unwrap_or_default())
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// The blocks of a language in a document.
fn blocks<'a>(text: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("```{language}\n");
    let starts: Vec<usize> = text
        .match_indices(&start)
        .map(|(at, _)| at + start.len())
        .collect();
    starts
        .into_iter()
        .filter_map(move |at| text[at..].split("\n```").next())
}
