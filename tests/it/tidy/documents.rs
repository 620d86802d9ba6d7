//! What is written down agrees with what is there.

use std::collections::BTreeSet;

use super::{File, after, assert_none, files, root};

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
            let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
            let chore = rest.split(is_end).next().unwrap_or_default();
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

#[test]
fn every_guest_is_in_a_test() {
    let scenes: String = files("tests/it", ".rs")
        .into_iter()
        .chain(files("tests/bench", ".rs"))
        .filter(|file| !file.path.starts_with("tests/it/tidy/"))
        .map(|file| file.text)
        .collect();
    let manifest = std::fs::read_to_string(root().join("tests/guests/Cargo.toml")).unwrap();
    let examples = manifest.split("[[example]]").skip(1);
    let guests =
        examples.filter_map(|example| after(example, "name = \"").next()?.split('"').next());
    let unused: Vec<String> = guests
        .filter(|guest| {
            let is_named = |name: &str| scenes.contains(&format!("\"{name}\""));
            !is_named(guest) && !is_named(&guest.replace('-', "_"))
        })
        .map(str::to_owned)
        .collect();
    assert_none(&unused, "no test uses these guests:");
}

#[test]
fn the_hostile_set_and_its_table_agree() {
    holds_together("docs/operate/hostile.md", "hostile");
}

#[test]
fn the_security_suite_and_its_table_agree() {
    holds_together("docs/operate/security-suite.md", "security");
}

#[test]
fn what_documents_name_as_proof_exists() {
    let mut known = scenes("tests/it");
    known.extend(scenes("host/src"));
    let mut absent = Vec::new();
    let mut count = 0;
    for file in files("docs/operate", ".md") {
        let proof = after(&file.text, "## What shows that it holds").next();
        let proof = proof.and_then(|rest| rest.split("\n## ").next());
        // Every second piece stands between back quotes; a scene is in the last cell of a row.
        let cells = proof.unwrap_or_default().lines().filter_map(|line| {
            let cells = line.strip_suffix(" |")?;
            (!line.starts_with("| claim") && !line.starts_with("| ---")).then_some(cells)
        });
        for cell in cells.filter_map(|line| line.rsplit(" | ").next()) {
            for named in cell.split('`').skip(1).step_by(2) {
                let within = format!("{named}::");
                let is_there = |scene: &String| scene == named || scene.starts_with(&within);
                let is_figure = named.contains('.');
                count += 1;
                if !is_figure && !known.iter().any(is_there) {
                    absent.push(format!("{}: {named}", file.path));
                }
            }
        }
    }
    assert!(count >= 60, "this test looks in the wrong place: {count}");
    assert_none(&absent, "these scenes do not exist:");
}

/// All tests below this folder, with their modules.
fn scenes(folder: &str) -> BTreeSet<String> {
    const TESTS: [&str; 3] = [
        "#[tokio::test(flavor = \"multi_thread\")]\n",
        "#[tokio::test]\n",
        "#[test]\n",
    ];
    let mut scenes = BTreeSet::new();
    for file in files(folder, ".rs") {
        let place = file.path[folder.len() + 1..].trim_end_matches(".rs");
        let place = place.trim_end_matches("/mod").replace('/', "::");
        for rest in TESTS.iter().flat_map(|test| after(&file.text, test)) {
            let declared = rest.split("fn ").nth(1).unwrap_or_default();
            scenes.insert(format!("{place}::{}", super::name(declared)));
        }
    }
    scenes
}

/// The table in this document names scenes that exist, and every one that is in a module of this name.
fn holds_together(document: &str, module: &str) {
    let scenes = scenes("tests/it");
    let is_own = |scene: &&String| {
        let mut parts: Vec<&str> = scene.split("::").collect();
        parts.pop();
        parts.contains(&module)
    };
    let own: BTreeSet<String> = scenes.iter().filter(is_own).cloned().collect();
    let table = std::fs::read_to_string(root().join(document)).unwrap();
    let lines = table.lines().filter_map(|line| line.strip_suffix("` |"));
    let listed: BTreeSet<String> = lines
        .filter_map(|line| line.rsplit('`').next().map(str::to_owned))
        .collect();
    assert!(listed.len() >= 30, "this test looks in the wrong place");
    let absent: Vec<String> = listed.difference(&scenes).cloned().collect();
    assert_none(
        &absent,
        &format!("{document} names scenes that do not exist:"),
    );
    let unlisted: Vec<String> = own.difference(&listed).cloned().collect();
    assert_none(&unlisted, &format!("list these scenes in {document}:"));
}

#[test]
fn types_of_one_api_have_names_of_their_own() {
    for folder in ["host/src/admin", "host/src/gateway/accounts"] {
        let mut seen = BTreeSet::new();
        let mut twice = Vec::new();
        for file in files(folder, ".rs") {
            for rest in after(&file.text, "ToSchema)]") {
                let kinds = ["struct ", "enum "].into_iter();
                let place = kinds.filter_map(|kind| Some(rest.find(kind)? + kind.len()));
                let Some(place) = place.min() else { continue };
                let name = super::name(&rest[place..]);
                if !seen.insert(name.to_owned()) {
                    twice.push(format!("{}: {name}", file.path));
                }
            }
        }
        assert!(seen.len() > 10, "this test looks in the wrong place");
        assert_none(&twice, "a document has one schema for each name:");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for file in files("", ".md") {
        let folder = root().join(&file.path);
        for link in after(&file.text, "](").filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://");
            if !is_elsewhere && !folder.parent().unwrap().join(path).exists() {
                broken.push(format!("{}: {link}", file.path));
            }
        }
    }
    assert_none(&broken, "these links lead nowhere:");
}

/// What a code begins with.
const AREAS: &[&str] = &[
    "approval",
    "auth",
    "blobs",
    "cache",
    "capability",
    "config",
    "deploy",
    "deployment",
    "filter",
    "grant",
    "host",
    "idempotency",
    "kv",
    "limit",
    "log",
    "logs",
    "outbound",
    "plugin",
    "rendition",
    "request",
    "rollout",
    "route",
    "secrets",
    "sql",
    "token",
    "transform",
    "trust",
    "tus",
];

/// What looks like a code and is none.
const NO_CODES: &[&str] = &[
    "filter.request_body_max",
    "filter.response_body_max",
    "plugin.name",
    "request.id",
    // Actions of the audit trail.
    "cache.purged",
    "capability.refused",
    "grant.removed",
    "host.started",
    "plugin.configured",
    "plugin.deleted",
    "plugin.deployed",
    "plugin.mounted",
    "plugin.rolled_back",
];
const FILES: &[&str] = &["json", "md", "sig", "toml", "wasm"];

#[test]
fn every_error_has_a_page_and_every_page_an_error() {
    let pages: BTreeSet<String> = files("docs/errors", ".md")
        .iter()
        .filter_map(|file| {
            file.path
                .rsplit('/')
                .next()?
                .strip_suffix(".md")
                .map(str::to_owned)
        })
        .filter(|page| page != "README")
        .collect();
    let mut codes = BTreeSet::new();
    for file in files("host/src", ".rs")
        .into_iter()
        .chain(files("plugin-sdk/src", ".rs"))
    {
        if !file.path.starts_with("plugin-sdk/src/testing") {
            codes.extend(file.production().flat_map(|(_, line)| codes_in(line)));
        }
    }
    assert!(
        codes.contains("kv.value_too_large"),
        "this test looks in the wrong place"
    );
    let missing: Vec<String> = codes.difference(&pages).cloned().collect();
    assert_none(&missing, "write a page in docs/errors for:");
    let needless: Vec<String> = pages.difference(&codes).cloned().collect();
    assert_none(&needless, "nothing has these codes any more:");
    let index = std::fs::read_to_string(root().join("docs/errors/README.md")).unwrap();
    let unlisted: Vec<String> = pages
        .into_iter()
        .filter(|page| !index.contains(&format!("[{page}]({page}.md)")))
        .collect();
    assert_none(&unlisted, "list these in docs/errors/README.md:");
}

/// Text between quotation marks that is an area, a dot and a reason.
fn codes_in(line: &str) -> Vec<String> {
    line.split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| {
            let is_reason = |reason: &str| {
                !reason.is_empty() && reason.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            };
            text.split_once('.').is_some_and(|(area, reason)| {
                AREAS.contains(&area) && is_reason(reason) && !FILES.contains(&reason)
            })
        })
        .filter(|text| !NO_CODES.contains(text))
        .map(str::to_owned)
        .collect()
}
