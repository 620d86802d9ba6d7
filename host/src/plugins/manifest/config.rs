//! `[config]`: a JSON Schema of the settings that the plugin takes. The operator's values are checked against it by
//! `services::config`.

use serde_json::{Map, Value};
use toml::{Spanned, de::DeValue};

use super::reader::Reader;

/// Deepest nesting of a schema; more would only exhaust the stack of whoever walks it.
const DEPTH_MAX: usize = 32;

/// Which settings a plugin takes.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigSchema {
    schema: Value,
}

impl ConfigSchema {
    pub(super) fn read(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Self> {
        if !value.get_ref().is_table() {
            reader.mistake(
                value.span(),
                "`[config]` must be a table with a JSON Schema",
            );
            return None;
        }
        let mut schema = match json(value, 0) {
            Ok(Value::Object(schema)) => schema,
            Ok(_) => return None,
            Err((at, message)) => {
                reader.mistake(at, message);
                return None;
            }
        };
        let kind = schema.entry("type").or_insert_with(|| "object".into());
        if kind != "object" {
            let help = "settings have names: describe each under `[config.properties]`";
            reader.mistake_with_help(
                value.span(),
                "`[config]` must have `type = \"object\"`",
                help,
            );
            return None;
        }
        let config = Self {
            schema: Value::Object(schema),
        };
        match config.validator() {
            Ok(validator) => {
                let mut defaults = Value::Object(Map::new());
                apply_defaults(&config.schema, &mut defaults);
                for error in validator.iter_errors(&defaults) {
                    // At the root, values may still be missing: the operator will give them.
                    if !error.instance_path().as_str().is_empty() {
                        let place = error.instance_path().as_str();
                        let message = format!("the default at `{place}` does not fit: {error}");
                        reader.mistake(value.span(), message);
                    }
                }
                Some(config)
            }
            Err(message) => {
                reader.mistake(
                    value.span(),
                    format!("`[config]` is not a JSON Schema: {message}"),
                );
                None
            }
        }
    }

    /// The schema as JSON, for the console and for documentation.
    pub fn as_json(&self) -> &Value {
        &self.schema
    }

    fn validator(&self) -> Result<jsonschema::Validator, String> {
        jsonschema::options()
            .offline()
            // Patterns come from the author: only those that take linear time.
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(&self.schema)
            .map_err(|error| error.to_string())
    }
}

/// Fills in what is not set, at the root and in nested objects that are set.
fn apply_defaults(schema: &Value, value: &mut Value) {
    let (Some(Value::Object(properties)), Value::Object(values)) =
        (schema.get("properties"), value)
    else {
        return;
    };
    for (name, property) in properties {
        if let Some(default) = property.get("default")
            && !values.contains_key(name)
        {
            values.insert(name.clone(), default.clone());
        }
        if let Some(value) = values.get_mut(name) {
            apply_defaults(property, value);
        }
    }
}

/// Where and why a value has no form as JSON.
pub(super) type Refusal = (std::ops::Range<usize>, String);

/// A value of TOML as JSON. Begins with a depth of 0.
pub(super) fn json(value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Value, Refusal> {
    if depth > DEPTH_MAX {
        let message = format!("this is nested deeper than {DEPTH_MAX} levels");
        return Err((value.span(), message));
    }
    let no_number = || (value.span(), "this number has no JSON form".to_owned());
    Ok(match value.get_ref() {
        DeValue::String(text) => Value::String(text.as_ref().to_owned()),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Integer(digits) => {
            let digits_only = digits.as_str().replace('_', "");
            let number = i64::from_str_radix(&digits_only, digits.radix());
            Value::from(number.map_err(|_| no_number())?)
        }
        DeValue::Float(digits) => {
            let number: f64 = digits
                .as_str()
                .replace('_', "")
                .parse()
                .map_err(|_| no_number())?;
            serde_json::Number::from_f64(number)
                .map(Value::Number)
                .ok_or_else(no_number)?
        }
        DeValue::Datetime(_) => {
            let message = "JSON has no dates: write it as a string";
            return Err((value.span(), message.to_owned()));
        }
        DeValue::Array(list) => Value::Array(
            list.iter()
                .map(|value| json(value, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => {
            let mut object = Map::new();
            for (key, value) in table {
                object.insert(key.get_ref().as_ref().to_owned(), json(value, depth + 1)?);
            }
            Value::Object(object)
        }
    })
}
