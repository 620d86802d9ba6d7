//! The configuration of a plugin: what the operator set, checked against the schema in the manifest and completed with
//! its defaults. Pure; keeps nothing. Once per deployment.

use jsonschema::Validator;
use serde_json::{Map, Value};

/// Most keys of one plugin.
pub const KEYS_MAX: usize = 100;
/// Longest value as text, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Most bytes of all keys and values.
pub const TOTAL_BYTES_MAX: usize = 256 << 10;
/// Longest schema as text, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// Whether a manifest's schema can be used: it is a JSON Schema of an object and refers to nothing outside of itself.
/// The error is a sentence for the author.
pub fn check_schema(schema: &Value) -> Result<(), String> {
    compile(schema).map(drop)
}

/// The values that the plugin will see, by key in ascending order: text as it is, everything else as JSON. The error
/// holds every mistake, each with the JSON pointer to it.
///
/// A key that the schema does not name is a mistake, unless the schema says something about such keys itself: a typing
/// error must not silently leave the default in place.
pub fn resolve(
    schema: Option<&Value>,
    values: &Map<String, Value>,
) -> Result<Vec<(String, String)>, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut complete = Value::Object(values.clone());
    if let Some(schema) = schema {
        let validator = compile(schema).map_err(|message| vec![message])?;
        mistakes.extend(unknown_keys(schema, values));
        add_defaults(schema, &mut complete);
        mistakes.extend(validator.iter_errors(&complete).map(|error| {
            let pointer = error.instance_path().as_str();
            // The value itself is left out: somebody may have typed a password into it.
            let message = error.masked();
            if pointer.is_empty() {
                message.to_string()
            } else {
                format!("`{pointer}`: {message}")
            }
        }));
    }
    let Value::Object(complete) = complete else {
        return Err(mistakes);
    };
    let mut resolved: Vec<(String, String)> = complete
        .into_iter()
        .map(|(key, value)| (key, as_text(value)))
        .collect();
    resolved.sort();
    mistakes.extend(excess(&resolved));
    if mistakes.is_empty() {
        Ok(resolved)
    } else {
        Err(mistakes)
    }
}

/// The values without those that the schema does not name. For going back to an earlier version: what only the later one
/// knows must not keep it from starting.
pub fn without_unknown(schema: Option<&Value>, values: &Map<String, Value>) -> Map<String, Value> {
    let known = schema.and_then(known_keys);
    let is_known = |key: &str| known.is_none_or(|known| known.contains_key(key));
    let values = values.iter().filter(|(key, _)| is_known(key));
    values
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn compile(schema: &Value) -> Result<Validator, String> {
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return Err(format!(
            "the configuration's schema has more than {SCHEMA_BYTES_MAX} bytes"
        ));
    }
    if schema.get("type").is_some_and(|name| name != "object") {
        return Err("the configuration's schema must have `type = \"object\"`".to_owned());
    }
    // The `regex` crate takes linear time, whatever the pattern.
    let options = jsonschema::options().with_pattern_options(jsonschema::PatternOptions::regex());
    let validator = options.build(schema);
    validator.map_err(|error| format!("the configuration's schema is not valid: {error}"))
}

/// The keys that a schema names, if it names all there may be.
fn known_keys(schema: &Value) -> Option<&Map<String, Value>> {
    let says_itself = [
        "additionalProperties",
        "patternProperties",
        "unevaluatedProperties",
        "$ref",
    ];
    if says_itself.iter().any(|word| schema.get(word).is_some()) {
        return None;
    }
    schema.get("properties").and_then(Value::as_object)
}

fn unknown_keys(schema: &Value, values: &Map<String, Value>) -> Vec<String> {
    let Some(known) = known_keys(schema) else {
        return Vec::new();
    };
    let unknown = values.keys().filter(|key| !known.contains_key(*key));
    unknown
        .map(|key| {
            let near = known
                .keys()
                .filter(|name| strsim::damerau_levenshtein(name, key) <= 2);
            let near = near.min_by_key(|name| strsim::damerau_levenshtein(name, key));
            let advice = near
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            format!("`/{key}`: the plugin has no such setting{advice}")
        })
        .collect()
}

/// Fills in the defaults of properties that are absent, also inside of objects that are there.
fn add_defaults(schema: &Value, value: &mut Value) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let Value::Object(object) = value else { return };
    for (key, schema) in properties {
        match (object.get_mut(key), schema.get("default")) {
            (Some(value), _) => add_defaults(schema, value),
            (None, Some(default)) => {
                let mut value = default.clone();
                add_defaults(schema, &mut value);
                object.insert(key.clone(), value);
            }
            (None, None) => {}
        }
    }
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

fn excess(resolved: &[(String, String)]) -> Vec<String> {
    let mut mistakes = Vec::new();
    if resolved.len() > KEYS_MAX {
        mistakes.push(format!(
            "{} settings; at most {KEYS_MAX} are allowed",
            resolved.len()
        ));
    }
    let too_long = resolved
        .iter()
        .filter(|(_, value)| value.len() > VALUE_BYTES_MAX);
    mistakes.extend(too_long.map(|(key, value)| {
        format!(
            "`/{key}`: {} bytes; at most {VALUE_BYTES_MAX} are allowed",
            value.len()
        )
    }));
    let total: usize = resolved
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if total > TOTAL_BYTES_MAX {
        mistakes.push(format!(
            "{total} bytes altogether; at most {TOTAL_BYTES_MAX} are allowed"
        ));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["title"],
            "properties": {
                "title": { "type": "string", "minLength": 2 },
                "seats": { "type": "integer", "maximum": 10, "default": 4 },
                "open": { "type": "boolean", "default": true },
                "mail": {
                    "type": "object",
                    "default": {},
                    "properties": { "from": { "type": "string", "default": "me" } },
                },
            },
        })
    }

    fn resolve_json(
        schema: Option<&Value>,
        values: &Value,
    ) -> Result<Vec<(String, String)>, Vec<String>> {
        resolve(schema, values.as_object().unwrap())
    }

    #[test]
    fn defaults_fill_what_is_absent_and_nothing_else() {
        let values = json!({ "title": "Bistro", "open": false, "mail": {} });
        let resolved = resolve_json(Some(&schema()), &values).unwrap();
        let resolved: Vec<_> = resolved
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let wanted = [
            ("mail", "{\"from\":\"me\"}"),
            ("open", "false"),
            ("seats", "4"),
            ("title", "Bistro"),
        ];
        assert_eq!(resolved, wanted);
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place_and_without_its_value() {
        let values = json!({ "title": "x", "seats": 99, "mail": { "from": 5 }, "seat": 1 });
        let mistakes = resolve_json(Some(&schema()), &values).unwrap_err();
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
        for part in ["`/title`: ", "`/seats`: ", "`/mail/from`: ", "`/seat`: "] {
            assert_eq!(
                mistakes
                    .iter()
                    .filter(|mistake| mistake.starts_with(part))
                    .count(),
                1
            );
        }
        assert!(
            mistakes
                .iter()
                .any(|mistake| mistake.ends_with("did you mean `seats`?"))
        );
        assert!(
            !mistakes.iter().any(|mistake| mistake.contains("99")),
            "{mistakes:?}"
        );
        let mistakes = resolve_json(Some(&schema()), &json!({})).unwrap_err();
        assert!(mistakes[0].contains("title"), "{mistakes:?}");
    }

    #[test]
    fn without_a_schema_values_pass_as_they_are() {
        let resolved = resolve_json(None, &json!({ "b": [1, 2], "a": "x" })).unwrap();
        assert_eq!(
            resolved,
            [
                ("a".to_owned(), "x".to_owned()),
                ("b".to_owned(), "[1,2]".to_owned())
            ]
        );
    }

    #[test]
    fn more_than_fits_is_refused() {
        let many: Map<String, Value> = (0..101).map(|n| (n.to_string(), json!(1))).collect();
        let long = json!({ "a": "x".repeat(VALUE_BYTES_MAX + 1) });
        let total: Map<String, Value> = (0..5)
            .map(|n| (n.to_string(), json!("x".repeat(VALUE_BYTES_MAX))))
            .collect();
        for values in [Value::Object(many), long, Value::Object(total)] {
            assert_eq!(resolve_json(None, &values).unwrap_err().len(), 1);
        }
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_refused() {
        check_schema(&schema()).unwrap();
        for schema in [
            json!({ "type": "array" }),
            json!({ "type": "object", "properties": { "a": { "type": "nonsense" } } }),
            json!({ "properties": { "a": { "$ref": "https://example.com/schema.json" } } }),
            json!({ "properties": { "a": { "$ref": "file:///etc/passwd" } } }),
            json!({ "description": "x".repeat(SCHEMA_BYTES_MAX) }),
        ] {
            assert!(
                check_schema(&schema).is_err(),
                "{}",
                &schema.to_string()[..40]
            );
        }
    }
}
