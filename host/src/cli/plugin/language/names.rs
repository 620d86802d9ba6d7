//! Names of imports, hidden while a component of JavaScript is made and put back afterwards.
//!
//! The tool runs the plugin once to take a snapshot of it, with WASI as it has it and traps for everything else. Types that
//! come from both do not go together, and `wasi:http` is made of types of `wasi:io`. Under names that the tool does not
//! know, all of them are traps in the snapshot; what the component imports in the end is `wasi:http` as it should be.

use std::ops::Range;

use anyhow::Context as _;
use wasmparser::{Parser, Payload};

/// As they are and as they are hidden: of one length, so that they can be exchanged in place. The version is another one
/// than that of the WASI that the engine itself imports, because no name may be imported twice.
const REAL: (&str, &str) = ("wasi:", "0.2.12");
const HIDDEN: (&str, &str) = ("gate:", "0.2.10");

/// WIT in which packages of WASI have hidden names. Worlds are left out: they name packages that are not hidden.
pub(super) fn hidden(wit: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut is_in_world = false;
    for line in wit.lines() {
        if line.starts_with("world ") {
            is_in_world = true;
            if lines.last().is_some_and(|last| last.starts_with('@')) {
                lines.pop();
            }
        }
        if !is_in_world {
            lines.push(line);
        }
        is_in_world &= line != "}";
    }
    lines
        .join("\n")
        .replace(REAL.0, HIDDEN.0)
        .replace(REAL.1, HIDDEN.1)
}

/// The component with the names of its imports put back.
pub(super) fn put_back(mut component: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    for range in hidden_names(&component)? {
        component[range][..REAL.0.len()].copy_from_slice(REAL.0.as_bytes());
    }
    Ok(component)
}

/// Where they stand among the imports of the component itself.
fn hidden_names(component: &[u8]) -> anyhow::Result<Vec<Range<usize>>> {
    let start = component.as_ptr() as usize;
    let mut ranges = Vec::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.context("the tool did not make a component")? {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let name = import
                        .context("the tool did not make a component")?
                        .name
                        .name;
                    if name.starts_with(HIDDEN.0) {
                        let at = name.as_ptr() as usize - start;
                        ranges.push(at..at + name.len());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_wit_has_other_names_and_no_worlds() {
        let wit = "package wasi:http@0.2.12;\n\ninterface types {\n  use wasi:io/poll@0.2.12.{pollable};\n}\n\n\
                   @since(version = 0.2.0)\nworld proxy {\n  import wasi:cli/stdin@0.2.12;\n}\n";
        assert_eq!(
            hidden(wit).trim_end(),
            "package gate:http@0.2.10;\n\ninterface types {\n  use gate:io/poll@0.2.10.{pollable};\n}"
        );
    }

    #[test]
    fn only_the_names_of_imports_are_put_back() {
        let component = wat::parse_str(
            r#"(component
                (import "gate:io/poll@0.2.10" (instance))
                (import "gantry:kv/store@0.1.0" (instance))
                (core module (memory 1) (data (i32.const 0) "gate:io/poll@0.2.10")))"#,
        )
        .unwrap();
        let back = put_back(component).unwrap();
        let text = String::from_utf8_lossy(&back);
        assert!(text.contains("wasi:io/poll@0.2.10"));
        assert!(text.contains("gantry:kv/store@0.1.0"));
        assert!(text.contains("gate:io/poll@0.2.10"), "data stays as it is");
    }
}
