//! The world of one plugin: what its manifest asks for, and no more. Engines of other languages import everything that
//! their world has, used or not, and a plugin must not import what it does not ask for.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rust_embed::RustEmbed;

use super::names;
use crate::plugins::manifest::{Capabilities, Language};

#[derive(RustEmbed)]
#[folder = "../wit"]
#[exclude = "worlds/*"]
struct Contract;

/// The name of the world.
pub(super) const WORLD: &str = "plugin";

/// Packages of WASI that a request to the outside needs.
const OUTBOUND: [&str; 3] = ["wasi-clocks", "wasi-http", "wasi-io"];

/// Writes the contract and the world into a folder of their own, and returns it.
pub(super) fn write(
    scratch: &Path,
    capabilities: &Capabilities,
    language: Language,
) -> anyhow::Result<PathBuf> {
    let folder = scratch.join("wit");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    for name in Contract::iter() {
        let Some(file) = Contract::get(&name) else {
            continue;
        };
        let path = name.strip_prefix("deps/").unwrap_or(&name);
        put(&folder.join("deps").join(path), &file.data)?;
        let package = path.split('/').next().unwrap_or_default();
        if language == Language::JavaScript && OUTBOUND.contains(&package) {
            let text = names::hidden(&String::from_utf8_lossy(&file.data));
            let path = format!("hidden-{path}");
            put(&folder.join("deps").join(path), text.as_bytes())?;
        }
    }
    put(
        &folder.join("world.wit"),
        text(capabilities, language).as_bytes(),
    )?;
    Ok(folder)
}

fn put(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn text(capabilities: &Capabilities, language: Language) -> String {
    let mut imports: Vec<Cow<'static, str>> = [
        "gantry:context/identity@0.1.0",
        "gantry:context/invocation@0.1.0",
        "gantry:http/request-headers@0.1.0",
        "gantry:tokens/tokens@0.1.0",
        "wasi:config/store@0.2.0-rc.1",
        "wasi:logging/logging@0.1.0-draft",
    ]
    .map(Cow::Borrowed)
    .to_vec();
    if language == Language::JavaScript {
        imports.push("wasi:random/random@0.2.12".into());
    }
    // C has bindings of everything, and its linker leaves out what is not used.
    let all = language == Language::C;
    if all || !capabilities.kv.is_empty() {
        imports.push("gantry:kv/store@0.1.0".into());
    }
    if all || !capabilities.sql.is_empty() {
        imports.push("gantry:sql/client@0.1.0".into());
    }
    if all || capabilities.reveals() {
        imports.push("gantry:secrets/store@0.1.0".into());
        imports.push("gantry:secrets/reveal@0.1.0".into());
    }
    if all || !capabilities.http.is_empty() {
        const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
        imports.push(match language {
            Language::JavaScript => names::hidden(HANDLER).into(),
            _ => HANDLER.into(),
        });
    }
    let imports: String = imports
        .iter()
        .map(|import| format!("  import {import};\n"))
        .collect();
    format!(
        "package gantry:built@0.1.0;\n\nworld {WORLD} {{\n{imports}  export gantry:http/handler@0.1.0;\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_has_what_the_manifest_asks_for_and_no_more() {
        let mut capabilities = Capabilities::default();
        for service in [
            "gantry:kv",
            "gantry:sql",
            "gantry:secrets",
            "outgoing-handler",
        ] {
            for language in [Language::JavaScript, Language::Python] {
                assert!(
                    !text(&capabilities, language).contains(service),
                    "{service}"
                );
            }
        }
        capabilities.kv.push("notes".parse().unwrap());
        assert!(text(&capabilities, Language::Python).contains("import gantry:kv/store@0.1.0;"));
    }
}
