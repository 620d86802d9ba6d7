//! Decides whether an upload may be deployed. Pure, and complete before anything is compiled or run: one file per check,
//! and every mistake is told at once.

mod component;
mod documents;
mod entry;
mod filters;
mod grants;
mod imports;
mod limits;
mod migrations;
mod module;
mod routes;
mod schemas;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::ids::Digest;
use crate::plugins::Mistake;
use crate::plugins::bundle::{Bundle, Migration};
use crate::plugins::manifest::Manifest;
use crate::runtime::EntryKind;

pub use component::{Interface, Interfaces, read as interfaces};
pub(in crate::plugins) use filters::{blocking_filters, missing_filters};
pub use grants::{Grant, Grants, InvalidGrant};
pub use limits::Ceilings;

/// An upload that may be deployed. Only [`validate`] makes one.
#[derive(Debug, Clone)]
pub struct ValidPlugin {
    /// What the author asks for; all of it is granted.
    pub manifest: Manifest,
    /// The manifest as its author wrote it.
    pub manifest_text: String,
    /// Which export answers.
    pub entry: EntryKind,
    /// A component or a core module, checked to its end.
    pub component: Bytes,
    /// Of the component: its address in the artifact store.
    pub digest: Digest,
    /// By label and version.
    pub migrations: Vec<Migration>,
}

/// Checks everything that can be checked without compiling. Takes as long as reading the component takes, so call it
/// where blocking is allowed.
pub fn validate(
    bundle: Bundle,
    grants: &Grants,
    ceilings: &Ceilings,
) -> Result<ValidPlugin, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let manifest = keep(Manifest::parse(&bundle.manifest), &mut mistakes);
    let interfaces = keep(component::read(&bundle.component), &mut mistakes);
    let mut entry = None;
    match &interfaces {
        Some(module) if module.is_module => {
            entry = Some(EntryKind::Extism);
            mistakes.extend(module::check(module, manifest.as_ref()));
        }
        Some(interfaces) => {
            entry = keep(entry::find(interfaces), &mut mistakes);
            mistakes.extend(imports::check(interfaces, entry, manifest.as_ref()));
            mistakes.extend(manifest.iter().flat_map(module::refuse_keys));
        }
        None => {}
    }
    if let Some(manifest) = &manifest {
        mistakes.extend(grants::check(manifest, grants));
        mistakes.extend(limits::check(manifest, ceilings));
        mistakes.extend(migrations::check(manifest, &bundle.migrations));
        mistakes.extend(routes::check(manifest, entry));
        mistakes.extend(documents::check(manifest));
        mistakes.extend(schemas::check(manifest));
        mistakes.extend(filters::check(manifest, entry, interfaces.as_ref()));
    }
    match (manifest, entry) {
        (Some(manifest), Some(entry)) if mistakes.is_empty() => Ok(ValidPlugin {
            manifest,
            manifest_text: bundle.manifest,
            entry,
            digest: Digest::of(&bundle.component),
            component: bundle.component,
            migrations: bundle.migrations,
        }),
        _ => {
            // In the order of the manifest; what is not in the manifest comes last.
            mistakes.sort_by_key(|mistake| (mistake.location.is_none(), mistake.location));
            Err(mistakes)
        }
    }
}

fn keep<T>(result: Result<T, Vec<Mistake>>, mistakes: &mut Vec<Mistake>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(found) => {
            mistakes.extend(found);
            None
        }
    }
}
