//! Examples of requests and answers: what the author shows, else what the tests of the manifest send and expect; and the
//! answer that the host gives in a plugin's place.

use bytes::Bytes;
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::openapi::sample::sample;
use crate::plugins::manifest::{Manifest, Route, Statuses, TestBody};
use crate::plugins::schema::Schema;

/// What is shown of one route.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) request: Option<Value>,
    pub(super) response: Option<Value>,
    /// Of the answer, where it is known.
    pub(super) status: Option<u16>,
    /// Values of the parameters of the path.
    pub(super) params: Vec<(String, String)>,
}

/// An answer that the host gives in the place of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mock {
    pub status: u16,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// What is shown of a route of the manifest.
pub(super) fn of_route(manifest: &Manifest, index: usize, method: &Method) -> Shown {
    let Some(route) = manifest.routes.get(index) else {
        return Shown::default();
    };
    let mut shown = Shown {
        request: route.docs.example_request.clone(),
        response: route.docs.example_response.clone(),
        ..Shown::default()
    };
    if shown.response.is_some() {
        shown.status = success(route).map(|(status, _)| status);
    }
    // A table of this route alone says which steps of tests lead to it.
    let mut table = matchit::Router::new();
    if table.insert(route.path.clone(), ()).is_err() {
        return shown;
    }
    let steps = manifest.tests.iter().flat_map(|test| &test.steps);
    let mut steps =
        steps.filter(|step| step.method == *method && (200..300).contains(&step.expected.status));
    let found = steps.find_map(|step| {
        let path = step.path.split('?').next().unwrap_or_default();
        // Steps may have values that are only known while they run.
        let params = table
            .at(path)
            .ok()
            .filter(|_| !step.path.contains("${"))?
            .params;
        let params: Vec<(String, String)> = params
            .iter()
            .map(|(name, value)| {
                // Whoever reads an example encodes it.
                let value = percent_decode_str(value).decode_utf8_lossy();
                (name.to_owned(), value.into_owned())
            })
            .collect();
        Some((step, params))
    });
    if let Some((step, params)) = found {
        shown.status = shown.status.or(Some(step.expected.status));
        shown.params = params;
        if shown.request.is_none()
            && let Some(TestBody::Json(body)) = &step.body
            && is_literal(body)
        {
            shown.request = Some(body.clone());
        }
        if shown.response.is_none() {
            shown.response = step.expected.json.clone();
            shown.response = shown
                .response
                .filter(|json| is_literal(json) && fits(manifest, route, json));
        }
    }
    shown
}

/// Whether nothing in it stands for a value that is only known while a test runs.
fn is_literal(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains("${"),
        Value::Array(list) => list.iter().all(is_literal),
        Value::Object(map) => map.values().all(is_literal),
        _ => true,
    }
}

/// Whether a value that a test expects could be a whole answer: tests need not name every field.
fn fits(manifest: &Manifest, route: &Route, value: &Value) -> bool {
    let Some((_, schema)) = success(route) else {
        return true;
    };
    let schema = Schema::compile(schema, &manifest.schemas);
    schema.is_ok_and(|schema| schema.mismatches(value, true).is_empty())
}

/// The schema of what a route answers when all goes well.
pub fn success(route: &Route) -> Option<(u16, &Value)> {
    let schemas = &route.contract.response_schemas;
    let one = schemas
        .iter()
        .find_map(|(statuses, schema)| match statuses {
            Statuses::One(status) if (200..300).contains(status) => Some((*status, schema)),
            _ => None,
        });
    one.or_else(|| {
        let class = schemas
            .iter()
            .find(|(statuses, _)| *statuses == Statuses::Class(2));
        class.map(|(_, schema)| (200, schema))
    })
}

/// The answer that stands for that of the plugin: the example, else a value that fits the schema, else nothing but a status.
/// The error says what to add to the manifest.
pub fn mock_of(manifest: &Manifest, index: usize) -> Result<Mock, String> {
    let Some(route) = manifest.routes.get(index) else {
        return Err("there is no such route".to_owned());
    };
    let method = route.methods.first().cloned().unwrap_or(Method::GET);
    let shown = of_route(manifest, index, &method);
    let found = success(route);
    let status = found
        .map(|(status, _)| status)
        .or(shown.status)
        .unwrap_or(200);
    let content_type = route.contract.produces.first().cloned();
    let value = match (shown.response, found) {
        (Some(value), _) => Some(value),
        (None, None) => None,
        (None, Some((_, schema))) => {
            let document = json!({ "$defs": manifest.schemas });
            let value = sample(schema, &document);
            let value = value.filter(|value| fits(manifest, route, value));
            let missing = || {
                "its schema is too intricate to make an answer of; give `example = { response = … }`".to_owned()
            };
            Some(value.ok_or_else(missing)?)
        }
    };
    let Some(value) = value else {
        return Ok(Mock {
            status,
            content_type: None,
            body: Bytes::new(),
        });
    };
    let is_text = content_type
        .as_ref()
        .is_some_and(|name| !name.contains("json"));
    let body = match &value {
        Value::String(text) if is_text => text.clone().into_bytes(),
        value => serde_json::to_vec(value).unwrap_or_default(),
    };
    Ok(Mock {
        status,
        content_type: Some(content_type.unwrap_or_else(|| "application/json".to_owned())),
        body: body.into(),
    })
}
