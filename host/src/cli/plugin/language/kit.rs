//! The kits: small libraries in each language through which plugins use the contract. They are part of this program, and
//! written into `gantry/` of a plugin's folder, where editors find them.

use std::{fs, path::Path};

use anyhow::Context as _;
use rust_embed::RustEmbed;

use crate::plugins::manifest::{Capabilities, Language};

#[derive(RustEmbed)]
#[folder = "../languages/js/gantry"]
struct JavaScript;

#[derive(RustEmbed)]
#[folder = "../languages/python/gantry"]
#[include = "*.py"]
struct Python;

#[derive(RustEmbed)]
#[folder = "../languages/c/gantry"]
struct C;

/// The folder of a kit, in a plugin's folder.
const FOLDER: &str = "gantry";

/// Keeps the kit out of the author's repository: each build writes it anew.
const IGNORED: &str = "# Written by `gantry plugin build`. Changes here are lost.\n*\n";

pub(super) fn lay(
    folder: &Path,
    capabilities: &Capabilities,
    language: Language,
) -> anyhow::Result<()> {
    let kit = folder.join(FOLDER);
    fs::create_dir_all(&kit).with_context(|| format!("cannot create {}", kit.display()))?;
    write(&kit.join(".gitignore"), IGNORED.as_bytes())?;
    match language {
        Language::JavaScript => {
            write_all::<JavaScript>(&kit)?;
            let services = services(capabilities);
            write(&kit.join("services.js"), services.as_bytes())
        }
        Language::Python => write_all::<Python>(&kit),
        Language::C => write_all::<C>(&kit),
    }
}

fn write_all<Kit: RustEmbed>(folder: &Path) -> anyhow::Result<()> {
    for name in Kit::iter() {
        if let Some(file) = Kit::get(&name) {
            write(&folder.join(&*name), &file.data)?;
        }
    }
    Ok(())
}

/// Leaves a file alone that has this content already, so that nobody who watches it sees a change.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// A module cannot import what its world does not have, so what is not asked for is replaced by something that says so.
fn services(capabilities: &Capabilities) -> String {
    let mut text = String::from(
        "// Written by `gantry plugin build`: the services that plugin.toml asks for.\n\n\
         import { undeclared } from \"./errors.js\";\n\n",
    );
    for (module, is_declared, line) in [
        ("kv", !capabilities.kv.is_empty(), r#"kv = ["LABEL"]"#),
        (
            "sql",
            !capabilities.sql.is_empty(),
            r#"sql = [{ label = "main", migrations = "migrations/" }]"#,
        ),
        (
            "secrets",
            capabilities.reveals(),
            r#"secrets = [{ label = "LABEL", use = "reveal" }]"#,
        ),
        (
            "outbound",
            !capabilities.http.is_empty(),
            r#"http = [{ host = "api.example.com", reason = "…" }]"#,
        ),
    ] {
        let line = match is_declared {
            true => format!("export * as {module} from \"./{module}.js\";\n"),
            false => format!("export const {module} = undeclared(\"{module}\", '{line}');\n"),
        };
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kit_is_written_once_and_mended_when_somebody_changed_it() {
        let dir = tempfile::tempdir().unwrap();
        for language in Language::ALL {
            let folder = dir.path().join(language.word());
            fs::create_dir(&folder).unwrap();
            lay(&folder, &Capabilities::default(), language).unwrap();
            let first = match language {
                Language::JavaScript => "index.js",
                Language::Python => "__init__.py",
                Language::C => "gantry.h",
            };
            let path = folder.join("gantry").join(first);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, "changed").unwrap();
            lay(&folder, &Capabilities::default(), language).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(folder.join("gantry/.gitignore").is_file());
        }
    }

    #[test]
    fn a_service_that_is_not_asked_for_says_what_to_write() {
        let mut capabilities = Capabilities::default();
        let none = services(&capabilities);
        assert!(none.contains("kv = undeclared(\"kv\""), "{none}");
        capabilities.kv.push("notes".parse().unwrap());
        let kv = services(&capabilities);
        assert!(kv.contains("export * as kv from \"./kv.js\";"), "{kv}");
        assert!(kv.contains("sql = undeclared("), "{kv}");
    }
}
