//! Migrations in the bundle and databases in the manifest must belong together.

use std::collections::BTreeSet;

use crate::plugins::Mistake;
use crate::plugins::bundle::Migration;
use crate::plugins::manifest::Manifest;

pub(super) fn check(manifest: &Manifest, migrations: &[Migration]) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut found: BTreeSet<_> = migrations
        .iter()
        .map(|migration| &migration.label)
        .collect();
    for database in &manifest.capabilities.sql {
        let label = &database.label;
        let is_found = found.remove(label);
        let message = match (&database.migrations, is_found) {
            (Some(_), false) => {
                format!(
                    "the database `{label}` declares migrations, but the bundle has none for it"
                )
            }
            (None, true) => {
                format!(
                    "the bundle has migrations for `{label}`, but the manifest does not declare them"
                )
            }
            _ => continue,
        };
        mistakes.push(Mistake::new(message).at(manifest.place(&format!("sql:{label}"))));
    }
    for label in found {
        let message =
            format!("the bundle has migrations for `{label}`, which the manifest does not declare");
        let help = format!("add `sql = [{{ label = \"{label}\", migrations = \"migrations/\" }}]`");
        mistakes.push(
            Mistake::new(message)
                .at(manifest.place("capabilities"))
                .with_help(help),
        );
    }
    mistakes
}
