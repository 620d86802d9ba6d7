//! What is written down agrees with what is there.

use std::collections::BTreeSet;

use super::{File, after, assert_none, files, name, root};

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| -> BTreeSet<String> {
        let files = files(folder, ".sql");
        files
            .iter()
            .filter_map(|file| file.path.rsplit('/').next().map(str::to_owned))
            .collect()
    };
    assert_eq!(names("migrations/sqlite"), names("migrations/postgres"));
}

#[test]
fn every_chore_that_is_named_exists() {
    let main = std::fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
    let mut texts: Vec<File> = [".md", ".rs", ".toml"]
        .iter()
        .flat_map(|end| files("", end))
        .collect();
    texts.extend(files(".ci", "run"));
    let mut mistakes = Vec::new();
    for file in texts {
        for rest in after(&file.text, "cargo xtask ") {
            let chore = name(rest);
            if !chore.is_empty() && !main.contains(&format!("\"{chore}\" => ")) {
                mistakes.push(format!("{}: `cargo xtask {chore}`", file.path));
            }
        }
    }
    assert_none(&mistakes, "there is no such chore:");
}

#[test]
fn the_readme_and_the_checks_run_the_same_tests() {
    const TEST: &str = "cargo xtask test\n";
    for path in ["README.md", ".ci/run"] {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        assert!(
            text.contains(TEST),
            "{path} does not call `{}`",
            TEST.trim()
        );
    }
}
