//! JSON Schemas of routes: each can be compiled, and all of them together stay small.

use crate::plugins::Mistake;
use crate::plugins::checks::Checks;
use crate::plugins::manifest::Manifest;
use crate::plugins::schema::{Bounds, Schema};

/// Most keywords of all schemas of one plugin, those that are referred to counted each time: they stay in memory compiled.
const WORK_MAX: usize = 20_000;

pub(super) fn check(manifest: &Manifest) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut refuse = |place: &str, message: String| {
        mistakes.push(Mistake::new(message).at(manifest.place(place)));
    };
    for (name, schema) in &manifest.schemas {
        // First those with a name, so that a mistake is told where it is and not where it is used.
        let found = Bounds::new(&manifest.schemas).work(schema);
        let found = found.and_then(|_| Schema::compile(schema, &manifest.schemas).map(drop));
        if let Err(error) = found {
            refuse(
                &format!("schema:{name}"),
                format!("the schema `{name}`: {error}"),
            );
        }
    }
    let has_mistakes = !mistakes.is_empty();
    if has_mistakes {
        return mistakes;
    }
    let mut work = 0usize;
    for (index, route) in manifest.routes.iter().enumerate() {
        let place = manifest.place(&format!("route:{index}"));
        match Checks::new(&route.contract, &manifest.schemas) {
            Ok(checks) => work += checks.map_or(0, |checks| checks.work()),
            Err(error) => {
                let message = format!("`{}`: {error}", route.path);
                mistakes.push(Mistake::new(message).at(place));
            }
        }
        if work > WORK_MAX {
            let message = format!(
                "the schemas of all routes have more than {WORK_MAX} keywords, those with a name counted at each use"
            );
            mistakes.push(Mistake::new(message).at(place));
            break;
        }
    }
    mistakes
}
