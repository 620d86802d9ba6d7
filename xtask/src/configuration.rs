//! Writes the operator's reference of settings out of the structs that hold them, so that the two cannot differ.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

const PAGE: &str = "docs/operate/configuration.md";

const HEAD: &str = "\
# Configuration

Written by `cargo xtask configuration` from the settings' own documentation.

Every setting has a default; a server needs no file. `gantry serve --config gantry.toml` reads one. A variable of the
environment sets one value and wins over the file: `GANTRY_RUNTIME__CONCURRENCY_MAX=64` is `concurrency_max` under
`[runtime]`. Unknown keys are mistakes. `gantry config check` tells them and prints the result.
";

/// Writes the page, or with `--check` fails if it is not what the structs say.
pub(crate) fn run(options: &[String]) -> anyhow::Result<()> {
    match options {
        [] => {
            fs::write(crate::root().join(PAGE), page()?)?;
            println!("wrote {PAGE}");
            Ok(())
        }
        [option] if option == "--check" => check(),
        _ => bail!("`cargo xtask configuration` takes only `--check`"),
    }
}

/// Fails if the page is not what the structs say.
pub(crate) fn check() -> anyhow::Result<()> {
    if fs::read_to_string(crate::root().join(PAGE))
        .is_ok_and(|text| text == page().unwrap_or_default())
    {
        return Ok(());
    }
    bail!("{PAGE} is stale: run `cargo xtask configuration`")
}

fn page() -> anyhow::Result<String> {
    let source = crate::root().join("host/src");
    let mut structs = Vec::new();
    read_folder(&source, &mut Vec::new(), &mut structs)?;
    let start = structs
        .iter()
        .position(|one| one.module == ["config"] && one.name == "Config")
        .context("host/src/config.rs has no `Config`")?;
    let mut page = HEAD.to_owned();
    write_section(&structs, start, "", "", &mut page)?;
    Ok(page)
}

/// A struct that is read from settings.
struct Settings {
    module: Vec<String>,
    name: String,
    doc: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    doc: String,
    kind: String,
}

/// One table of the file, its values first and the tables below it after them.
fn write_section(
    structs: &[Settings],
    index: usize,
    table: &str,
    about: &str,
    page: &mut String,
) -> anyhow::Result<()> {
    let settings = &structs[index];
    let mut below = Vec::new();
    let mut rows = String::new();
    for field in &settings.fields {
        if field.doc.is_empty() && find(structs, settings, &field.kind).is_none() {
            bail!(
                "`{}` of `{}` has no documentation",
                field.name,
                settings.name
            );
        }
        match find(structs, settings, &field.kind) {
            Some(inner) => below.push((inner, field)),
            None => writeln!(
                rows,
                "| `{}` | {} |",
                field.name,
                field.doc.replace('|', "\\|")
            )?,
        }
    }
    if !table.is_empty() {
        writeln!(page, "\n## `[{table}]`\n\n{about}")?;
    }
    if !rows.is_empty() {
        writeln!(page, "\n| key | |\n| --- | --- |\n{}", rows.trim_end())?;
    }
    for (inner, field) in below {
        let name = &field.name;
        let name = if table.is_empty() {
            name.clone()
        } else {
            format!("{table}.{name}")
        };
        let about = if field.doc.is_empty() {
            &structs[inner].doc
        } else {
            &field.doc
        };
        write_section(structs, inner, &name, about, page)?;
    }
    Ok(())
}

/// The struct that a field's type names, if it is one of settings: by the modules in front of the name, or else the only
/// one of that name.
fn find(structs: &[Settings], from: &Settings, kind: &str) -> Option<usize> {
    let mut path: Vec<&str> = kind.split("::").collect();
    let name = path.pop()?;
    let named: Vec<usize> = (0..structs.len())
        .filter(|index| structs[*index].name == name)
        .collect();
    if path.is_empty() {
        let near = named
            .iter()
            .find(|index| structs[**index].module == from.module);
        return near.copied().or(match &named[..] {
            [only] => Some(*only),
            _ => None,
        });
    }
    named.into_iter().find(|index| {
        let module: Vec<&str> = structs[*index].module.iter().map(String::as_str).collect();
        module
            .strip_suffix(&["config"])
            .unwrap_or(&module)
            .ends_with(&path)
            || module.ends_with(&path)
    })
}

fn read_folder(
    folder: &Path,
    module: &mut Vec<String>,
    structs: &mut Vec<Settings>,
) -> anyhow::Result<()> {
    let mut entries = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        entries.insert(entry?.path());
    }
    for path in entries {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_module = !["mod", "lib", "main"].contains(&stem.as_str());
        if is_module {
            module.push(stem);
        }
        if path.is_dir() {
            read_folder(&path, module, structs)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            read_file(&fs::read_to_string(&path)?, module, structs);
        }
        if is_module {
            module.pop();
        }
    }
    Ok(())
}

/// Reads the structs that `rustfmt` has laid out: an attribute, a comment or a field on a line of its own.
fn read_file(text: &str, module: &[String], structs: &mut Vec<Settings>) {
    let (mut doc, mut is_read, mut open) = (String::new(), false, None::<Settings>);
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(more) = trimmed.strip_prefix("///") {
            let more = more.trim();
            doc = if doc.is_empty() {
                more.to_owned()
            } else {
                format!("{doc} {more}")
            };
            continue;
        }
        if trimmed.starts_with("#[") {
            is_read |= trimmed.starts_with("#[derive") && trimmed.contains("Deserialize");
            continue;
        }
        if let Some(settings) = &mut open {
            if line == "}" {
                structs.extend(open.take());
            } else if let Some((name, kind)) = trimmed
                .strip_prefix("pub ")
                .and_then(|field| field.split_once(": "))
            {
                settings.fields.push(Field {
                    name: name.to_owned(),
                    doc: std::mem::take(&mut doc),
                    kind: kind.trim_end_matches(',').to_owned(),
                });
            }
        } else if is_read
            && let Some(name) = line
                .strip_prefix("pub struct ")
                .and_then(|rest| rest.strip_suffix(" {"))
        {
            open = Some(Settings {
                module: module.to_vec(),
                name: name.to_owned(),
                doc: std::mem::take(&mut doc),
                fields: Vec::new(),
            });
        }
        doc.clear();
        is_read = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_structs_say() {
        check().unwrap();
    }
}
