//! What a route says of its requests and answers, compiled: made when the table is made, asked by the gateway.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::plugins::manifest::{Contract, Parameter, Place, Schemas, Statuses, is_json};
use crate::plugins::schema::{Mismatch, NAMED, Schema};

/// What must hold of the requests and answers of a route.
#[derive(Debug)]
pub struct Checks {
    /// In the order of the manifest.
    pub parameters: Vec<ParameterCheck>,
    pub body: Option<Schema>,
    /// Media types of bodies: `application/json`, `image/*`. Empty means all.
    pub consumes: Vec<String>,
    /// Media types of answers. Empty means that nothing is said.
    pub produces: Vec<String>,
    /// Schemas of answers in JSON; the first that is for a status decides.
    pub answers: Vec<(Statuses, Schema)>,
}

/// What must hold of one parameter.
#[derive(Debug)]
pub struct ParameterCheck {
    pub place: Place,
    /// Of a header in small letters.
    pub name: String,
    pub is_required: bool,
    /// Whether it may stand there several times.
    pub is_list: bool,
    kind: Kind,
    schema: Schema,
}

/// What the text of a parameter is read as. What cannot be read so stays text, and its schema says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Boolean,
}

impl Checks {
    /// The checks of a route; nothing if there is nothing to check. The error is a sentence for the author.
    pub(super) fn new(contract: &Contract, schemas: &Schemas) -> Result<Option<Box<Self>>, String> {
        if contract.is_empty() {
            return Ok(None);
        }
        let parameters = contract.parameters.iter();
        let parameters = parameters.map(|parameter| ParameterCheck::new(parameter, schemas));
        let body = contract.request_schema.as_ref();
        let body = body
            .map(|schema| Schema::compile(schema, schemas))
            .transpose()
            .map_err(|error| format!("`request_schema`: {error}"))?;
        let mut consumes = contract.consumes.clone();
        if consumes.is_empty() && body.is_some() {
            consumes.push("application/json".to_owned());
        }
        let answers = contract.response_schemas.iter().map(|(statuses, schema)| {
            let schema = Schema::compile(schema, schemas);
            let schema =
                schema.map_err(|error| format!("`response_schema` of {statuses}: {error}"));
            Ok((*statuses, schema?))
        });
        Ok(Some(Box::new(Self {
            parameters: parameters.collect::<Result<_, String>>()?,
            body,
            consumes,
            produces: contract.produces.clone(),
            answers: answers.collect::<Result<_, String>>()?,
        })))
    }

    /// Whether a body of this type may come: of a header, with its parameters.
    pub fn consumes(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        self.consumes
            .iter()
            .any(|known| match known.strip_suffix('*') {
                Some(kind) => essence.starts_with(kind),
                None => essence == *known,
            })
    }

    /// The schema of an answer with this status and type.
    pub fn answer(&self, status: u16, content_type: &str) -> Option<&Schema> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !is_json(&essence.to_ascii_lowercase()) {
            return None;
        }
        let mut answers = self.answers.iter();
        let found = answers.find(|(statuses, _)| statuses.has(status));
        found.map(|(_, schema)| schema)
    }

    /// How much work all of them are at most.
    pub(super) fn work(&self) -> usize {
        let parameters = self.parameters.iter().map(|check| &check.schema);
        let answers = self.answers.iter().map(|(_, schema)| schema);
        parameters
            .chain(&self.body)
            .chain(answers)
            .map(Schema::work)
            .sum()
    }
}

impl ParameterCheck {
    fn new(parameter: &Parameter, schemas: &Schemas) -> Result<Self, String> {
        let schema = Schema::compile(&parameter.schema, schemas)
            .map_err(|error| format!("the parameter `{}`: {error}", parameter.name))?;
        let plain = resolved(&parameter.schema, schemas);
        let is_list = type_of(plain) == Some("array");
        let kind = if is_list {
            let items = plain.get("items");
            items.map_or(Kind::Text, |items| Kind::of(resolved(items, schemas)))
        } else {
            Kind::of(plain)
        };
        Ok(Self {
            place: parameter.place,
            name: parameter.name.clone(),
            is_required: parameter.is_required,
            is_list,
            kind,
            schema,
        })
    }

    /// What is wrong with these texts of it, of which there is at least one.
    pub fn mismatches(&self, texts: &[&str]) -> Vec<Mismatch> {
        let value = if self.is_list {
            texts.iter().map(|text| self.kind.read(text)).collect()
        } else {
            self.kind.read(texts.first().copied().unwrap_or_default())
        };
        self.schema.mismatches(&value, false)
    }
}

impl Kind {
    fn of(schema: &Value) -> Self {
        match type_of(schema) {
            Some("integer" | "number") => Self::Number,
            Some("boolean") => Self::Boolean,
            _ => Self::Text,
        }
    }

    fn read(self, text: &str) -> Value {
        let read = match self {
            Self::Text => None,
            // As JSON writes it: readers do not agree on `+1`, ` 1` and `1_000`.
            Self::Number if text.bytes().all(|byte| b"0123456789+-.eE".contains(&byte)) => {
                serde_json::from_str::<Number>(text).ok().map(Value::Number)
            }
            Self::Boolean if text == "true" || text == "false" => Some((text == "true").into()),
            Self::Number | Self::Boolean => None,
        };
        read.unwrap_or_else(|| text.into())
    }
}

/// The schema itself where one with a name stands. They do not refer to themselves.
fn resolved<'a>(schema: &'a Value, schemas: &'a BTreeMap<String, Value>) -> &'a Value {
    let mut schema = schema;
    for _ in 0..=schemas.len() {
        let name = schema.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix(NAMED));
        match name.and_then(|name| schemas.get(name)) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

/// What the values of a schema are; of several types, the first that is not null.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str);
            names.find(|name| *name != "null")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(schema: &Value) -> ParameterCheck {
        let schemas = Schemas::from([(
            "count".to_owned(),
            json!({ "type": "integer", "minimum": 1 }),
        )]);
        let parameter = Parameter {
            place: Place::Query,
            name: "p".to_owned(),
            is_required: false,
            schema: schema.clone(),
            description: None,
        };
        ParameterCheck::new(&parameter, &schemas).unwrap()
    }

    #[test]
    fn a_parameter_is_read_by_its_type_and_by_nothing_else() {
        for (schema, text, fits) in [
            (json!({ "$ref": "#/$defs/count" }), "3", true),
            (json!({ "$ref": "#/$defs/count" }), "0", false),
            (json!({ "type": "integer" }), "-3", true),
            (json!({ "type": "integer" }), "3.5", false),
            (json!({ "type": "integer" }), "+3", false),
            (json!({ "type": "integer" }), " 3", false),
            (json!({ "type": "integer" }), "03", false),
            (json!({ "type": "integer" }), "", false),
            (json!({ "type": "integer" }), "1e999", false),
            (json!({ "type": "integer" }), "٣", false),
            (json!({ "type": ["null", "number"] }), "1.5", true),
            (json!({ "type": "boolean" }), "true", true),
            (json!({ "type": "boolean" }), "TRUE", false),
            (json!({ "type": "boolean" }), "1", false),
            (json!({ "type": "string" }), "3", true),
            (
                json!({ "type": "string", "format": "date" }),
                "2026-02-30",
                false,
            ),
            (json!({ "enum": ["a", "b"] }), "b", true),
        ] {
            let found = check(&schema).mismatches(&[text]);
            assert_eq!(found.is_empty(), fits, "{schema} {text:?}: {found:?}");
        }
        let list =
            check(&json!({ "type": "array", "maxItems": 2, "items": { "type": "integer" } }));
        assert_eq!(list.mismatches(&["1", "2"]), []);
        assert_eq!(list.mismatches(&["1", "x"])[0].pointer, "/1");
        assert_eq!(list.mismatches(&["1", "2", "3"]).len(), 1);
    }
}
