//! Finds the export that answers. The host learns what a component is by looking at it, never by running it.

use super::component::Interfaces;
use super::imports::split_name;
use crate::plugins::Mistake;
use crate::runtime::EntryKind;

const ENTRIES: &[(&str, &str, EntryKind)] = &[
    ("gantry:http/handler", "0.1.", EntryKind::Handler),
    ("wasi:http/incoming-handler", "0.2.", EntryKind::WasiHttp02),
    ("wasi:http/handler", "0.3.", EntryKind::WasiHttp03),
    ("gantry:transform/transform", "0.1.", EntryKind::Transform),
    ("gantry:http/request-filter", "0.1.", EntryKind::Filter),
    ("gantry:http/response-filter", "0.1.", EntryKind::Filter),
];

/// What a plugin may export beside the one that answers.
const HOOKS: &[(&str, &str)] = &[
    ("gantry:lifecycle/health", "0.1."),
    ("gantry:lifecycle/migrate", "0.1."),
];

pub(super) fn find(interfaces: &Interfaces) -> Result<EntryKind, Vec<Mistake>> {
    let mut found = Vec::new();
    let mut mistakes = Vec::new();
    for export in &interfaces.exports {
        let (name, version) = split_name(&export.name);
        if let Some((_, known, entry)) = ENTRIES.iter().find(|(entry, ..)| *entry == name) {
            if version.is_some_and(|version| version.starts_with(known)) {
                found.push((*entry, &export.name));
            } else {
                let message = format!(
                    "the component exports `{}`, which this host does not know",
                    export.name
                );
                mistakes
                    .push(Mistake::new(message).with_help(format!("it knows `{name}@{known}x`")));
            }
        } else if HOOKS.iter().any(|(hook, known)| {
            *hook == name && version.is_some_and(|version| version.starts_with(known))
        }) {
            // Called before the version goes live, if it is there.
        } else if name.starts_with("gantry:") && export.has_functions {
            mistakes.push(Mistake::new(format!(
                "the export `{}` is not supported yet",
                export.name
            )));
        }
    }
    match &found[..] {
        _ if !mistakes.is_empty() => Err(mistakes),
        [(entry, _)] => Ok(*entry),
        // Both directions are one filter.
        [(EntryKind::Filter, _), (EntryKind::Filter, _)] => Ok(EntryKind::Filter),
        [] => {
            let mistake = Mistake::new("the component exports nothing that the host could call");
            let help = "export `gantry:http/handler@0.1.0`, `wasi:http/incoming-handler@0.2`, \
                        `wasi:http/handler@0.3`, `gantry:transform/transform@0.1.0`, or a filter: \
                        `gantry:http/request-filter@0.1.0` or `gantry:http/response-filter@0.1.0`";
            Err(vec![mistake.with_help(help)])
        }
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|(_, name)| format!("`{name}`"))
                .collect();
            let message = format!("the component exports {}", names.join(" and "));
            Err(vec![
                Mistake::new(message).with_help("export exactly one of them"),
            ])
        }
    }
}
