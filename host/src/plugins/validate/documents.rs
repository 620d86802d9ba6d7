//! What a manifest shows must be true: examples fit their schemas, and where the host answers in the plugin's place, there
//! is an answer.

use crate::plugins::Mistake;
use crate::plugins::describe::{mock_of, success};
use crate::plugins::manifest::Manifest;
use crate::plugins::schema::Schema;

pub(super) fn check(manifest: &Manifest) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (index, route) in manifest.routes.iter().enumerate() {
        let place = manifest.place(&format!("route:{index}"));
        let examples = [
            (
                "request",
                &route.docs.example_request,
                route.contract.request_schema.as_ref(),
            ),
            (
                "response",
                &route.docs.example_response,
                success(route).map(|(_, schema)| schema),
            ),
        ];
        for (key, example, schema) in examples {
            let (Some(example), Some(schema)) = (example, schema) else {
                continue;
            };
            // Whether the schema itself can be used is told elsewhere.
            let Ok(schema) = Schema::compile(schema, &manifest.schemas) else {
                continue;
            };
            for mismatch in schema.mismatches(example, false) {
                let (path, pointer, what) = (&route.path, &mismatch.pointer, &mismatch.message);
                let message = format!(
                    "`{path}`: the example `{key}` does not fit its schema at `{pointer}`: {what}"
                );
                mistakes.push(Mistake::new(message).at(place));
            }
        }
        if route.docs.is_mock
            && let Err(reason) = mock_of(manifest, index)
        {
            let message = format!("`{}`: `mock`: {reason}", route.path);
            mistakes.push(Mistake::new(message).at(place));
        }
    }
    mistakes
}
