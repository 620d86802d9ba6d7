//! JSON Schemas of authors: read strictly, bounded when a plugin is deployed, compiled when it becomes live. A schema is a
//! stranger's data: it must neither reach out nor take long.

mod bounds;
pub mod json;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

pub use bounds::{Bounds, NAMED, WORK_MAX};

/// Most mistakes of one value that are told.
const MISTAKES_MAX: usize = 16;
/// Longest message about a mistake, in bytes.
const MESSAGE_BYTES_MAX: usize = 200;
/// Most memory of one pattern, in bytes; the time for it grows with that.
const PATTERN_BYTES_MAX: usize = 64 << 10;

/// A schema, ready to check values.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    work: usize,
}

/// One thing that is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where: a JSON Pointer; empty for the whole value.
    pub pointer: String,
    /// What was expected there. The value itself is not repeated.
    pub message: String,
}

impl Schema {
    /// Compiles a schema that may refer to these by `#/$defs/NAME`. The error is a sentence for the author.
    pub fn compile(schema: &Value, named: &BTreeMap<String, Value>) -> Result<Self, String> {
        let mut bounds = Bounds::new(named);
        let work = bounds.work(schema)?;
        let mut document = match schema {
            Value::Object(object) => object.clone(),
            other => Map::from_iter([("allOf".to_owned(), Value::Array(vec![other.clone()]))]),
        };
        let used = bounds
            .used()
            .map(|name| (name.to_owned(), named[name].clone()));
        document.insert("$defs".to_owned(), Value::Object(used.collect()));
        let validator = jsonschema::options()
            .offline()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            // Only patterns that take linear time.
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
            .build(&Value::Object(document))
            .map_err(|error| clip(&error.to_string()))?;
        Ok(Self { validator, work })
    }

    /// How many keywords may be looked at for one value, at most.
    pub fn work(&self) -> usize {
        self.work
    }

    /// What is wrong with a value; nothing if it fits. If `is_large`, only the first mistake is looked for.
    pub fn mismatches(&self, value: &Value, is_large: bool) -> Vec<Mismatch> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        if is_large {
            let first = self.validator.validate(value).err();
            return first.iter().map(mismatch).collect();
        }
        let errors = self.validator.iter_errors(value);
        errors
            .take(MISTAKES_MAX)
            .map(|error| mismatch(&error))
            .collect()
    }
}

fn mismatch(error: &ValidationError<'_>) -> Mismatch {
    Mismatch {
        pointer: clip(error.instance_path().as_str()),
        message: clip(&error.masked().to_string()),
    }
}

fn clip(message: &str) -> String {
    let mut clipped = String::new();
    for c in message.chars().filter(|c| !c.is_control()) {
        if clipped.len() + c.len_utf8() > MESSAGE_BYTES_MAX {
            clipped.push('…');
            break;
        }
        clipped.push(c);
    }
    clipped
}
