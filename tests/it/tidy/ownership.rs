//! Each kind of knowledge has one home.

use super::{File, assert_none, files};

/// A rule: these words stand only in files that `is_home` accepts, or that are excused with a reason.
struct Rule {
    words: &'static [&'static str],
    is_home: fn(&str) -> bool,
    excused: &'static [(&'static str, &'static str)],
}

const SQL: Rule = Rule {
    words: &["sqlx::query"],
    is_home: |path| path.ends_with("/store.rs") || path.starts_with("host/src/db/"),
    excused: &[],
};

const STATUS: Rule = Rule {
    words: &["StatusCode"],
    is_home: |path| {
        [
            "host/src/gateway/",
            "host/src/admin/",
            "host/src/http/",
            "host/src/cli/",
        ]
        .iter()
        .any(|home| path.starts_with(home))
    },
    excused: &[
        (
            "host/src/services/outbound/mod.rs",
            "reads the answers of other servers",
        ),
        (
            "host/src/runtime/response.rs",
            "reads the answers of plugins",
        ),
    ],
};

const WASM: Rule = Rule {
    words: &["wasmtime"],
    is_home: |path| {
        path.starts_with("host/src/runtime/")
            || path == "host/src/bindings.rs"
            || (path.starts_with("host/src/services/") && path.ends_with("/host.rs"))
    },
    excused: &[],
};

const UNSAFE: Rule = Rule {
    words: &["unsafe_code"],
    is_home: |path| path == "host/src/runtime/compile.rs",
    excused: &[
        (
            "host/src/services/sql/sandbox.rs",
            "sets SQLite's authorizer and limits, which sqlx cannot (decision 13)",
        ),
        (
            "host/src/services/sql/functions.rs",
            "defines functions on a connection, which sqlx cannot (decision 13)",
        ),
        (
            "host/src/services/sql/temp.rs",
            "opens SQLite's temporary files, to count what they take (decision 16)",
        ),
        (
            "host/src/db/thread.rs",
            "reads the clock of the thread that works for a connection (decision 25)",
        ),
    ],
};

#[test]
fn unsafe_code_stands_only_where_it_was_decided() {
    UNSAFE.check("the compiler cannot help there; find a safe way or write a decision:");
}

#[test]
fn sql_stands_only_in_stores() {
    SQL.check("only a module's `store.rs` knows its tables:");
}

#[test]
fn status_codes_stand_only_at_the_front_doors() {
    STATUS.check("modules return errors in their own words; the front doors choose the status:");
}

#[test]
fn wasm_types_stand_only_in_the_runtime() {
    WASM.check("only the runtime and the services' `host.rs` drive wasmtime:");
}

#[test]
fn only_the_host_depends_on_the_wasm_runtime() {
    // `deny.toml` says the same of crates that are not ours.
    let others: Vec<String> = files("", "Cargo.toml")
        .iter()
        .filter(|file| !["Cargo.toml", "host/Cargo.toml"].contains(&file.path.as_str()))
        // Extism's own host, a workspace of its own.
        .filter(|file| !file.path.starts_with("tests/extism-reference/"))
        .filter(|file| file.text.lines().any(|line| line.starts_with("wasmtime")))
        .map(|file| file.path.clone())
        .collect();
    assert_none(&others, "ask `gantry` instead of wasmtime:");
}

impl Rule {
    fn check(&self, rule: &str) {
        let files = files("host/src", ".rs");
        let uses = |file: &File| -> Option<usize> {
            file.production()
                .find(|(_, line)| self.words.iter().any(|word| line.contains(word)))
                .map(|(number, _)| number)
        };
        let is_excused = |path: &str| self.excused.iter().any(|(excused, _)| *excused == path);
        let mistakes: Vec<String> = files
            .iter()
            .filter(|file| !(self.is_home)(&file.path) && !is_excused(&file.path))
            .filter_map(|file| uses(file).map(|line| format!("{}:{line}", file.path)))
            .collect();
        assert_none(&mistakes, rule);
        let needless: Vec<String> = files
            .iter()
            .filter(|file| is_excused(&file.path) && uses(file).is_none())
            .map(|file| file.path.clone())
            .collect();
        assert_none(&needless, "these need no excuse any more:");
    }
}
