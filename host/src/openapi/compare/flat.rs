//! A schema with all that it says in one place: what its reference leads to, what `allOf` joins, and of several schemas of
//! which one fits, each with what stands beside them.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::schema::{DEPTH_MAX, LOWER, UPPER, types_of};
use crate::openapi::resolve;

/// Most variants that come of several lists of them which must all be met.
const VARIANTS_MAX: usize = 1000;

/// Words for people, and for those who draw forms or write clients. They take and promise nothing.
const WORDS: [&str; 22] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$defs",
    "$id",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "readOnly",
    "title",
    "writeOnly",
    "xml",
];

/// Whether a keyword of a schema says nothing of values.
pub(super) fn is_word(key: &str) -> bool {
    WORDS.contains(&key) || key.starts_with("x-")
}

/// A schema with what its reference and `allOf` say in one place. Nothing if that is too much for the steps that are left.
pub(super) fn flat<'v>(
    document: &Value,
    schema: &'v Value,
    left: &mut usize,
    depth: usize,
) -> Option<Cow<'v, Map<String, Value>>> {
    let Some(map) = schema.as_object() else {
        return Some(Cow::Owned(match schema {
            Value::Bool(false) => Map::from_iter([("enum".to_owned(), json!([]))]),
            _ => Map::new(),
        }));
    };
    if !(map.contains_key("$ref") || map.contains_key("allOf")) {
        return Some(Cow::Borrowed(map));
    }
    if depth > DEPTH_MAX || *left == 0 {
        return None;
    }
    *left -= 1;
    let mut all = Map::new();
    if let Some(reference) = map.get("$ref") {
        let only = json!({ "$ref": reference });
        let target = resolve(document, &only);
        if target.get("$ref").is_none() {
            let target = flat(document, target, left, depth + 1)?;
            join(&mut all, target.into_owned())?;
        } else {
            // It leads out of the document: all that can be told is whether it is the same.
            all.insert("$ref".to_owned(), reference.clone());
        }
    }
    let parts = map.get("allOf").and_then(Value::as_array);
    for part in parts.into_iter().flatten() {
        let part = flat(document, part, left, depth + 1)?;
        join(&mut all, part.into_owned())?;
    }
    let mut own = map.clone();
    own.remove("$ref");
    own.remove("allOf");
    join(&mut all, own)?;
    Some(Cow::Owned(all))
}

/// Puts one part beside others: values must fit all of them.
fn join(all: &mut Map<String, Value>, part: Map<String, Value>) -> Option<()> {
    for (key, value) in part {
        let Some(known) = all.get_mut(&key) else {
            all.insert(key, value);
            continue;
        };
        if *known == value || is_word(&key) {
            *known = value;
            continue;
        }
        join_keyword(&key, known, value)?;
    }
    Some(())
}

/// The same keyword in two parts, which do not say the same with it.
fn join_keyword(key: &str, known: &mut Value, value: Value) -> Option<()> {
    if let (Some(one), Some(other)) = (known.as_f64(), value.as_f64()) {
        let is_narrower =
            (LOWER.contains(&key) && other > one) || (UPPER.contains(&key) && other < one);
        if LOWER.contains(&key) || UPPER.contains(&key) {
            if is_narrower {
                *known = value;
            }
            return Some(());
        }
    }
    match (key, &mut *known, value) {
        (
            "properties" | "patternProperties" | "dependentSchemas",
            Value::Object(known),
            Value::Object(more),
        ) => {
            for (name, schema) in more {
                match known.get_mut(&name) {
                    Some(one) if *one != schema => *one = json!({ "allOf": [one, schema] }),
                    Some(_) => {}
                    None => {
                        known.insert(name, schema);
                    }
                }
            }
        }
        ("required", Value::Array(known), Value::Array(more)) => known.extend(more),
        ("enum", Value::Array(known), Value::Array(more)) => {
            known.retain(|one| more.contains(one));
        }
        ("oneOf" | "anyOf", Value::Array(known), Value::Array(more)) => {
            if known.len().saturating_mul(more.len()) > VARIANTS_MAX {
                return None;
            }
            let each = |one: &Value| -> Vec<Value> {
                let both = more.iter().map(|other| json!({ "allOf": [one, other] }));
                both.collect()
            };
            *known = known.iter().flat_map(each).collect();
        }
        ("items" | "additionalProperties" | "propertyNames", known, value) => {
            *known = json!({ "allOf": [known, value] });
        }
        ("not", known, value) => *known = json!({ "anyOf": [known, value] }),
        ("type", known, value) => {
            let of = |kind: Value| types_of(&Map::from_iter([("type".to_owned(), kind)]));
            let (one, other) = (of(known.take()), of(value));
            let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
            let mut both: Vec<&str> = one.intersection(&other).map(String::as_str).collect();
            let is_whole = one.contains("integer") || other.contains("integer");
            let is_number = one.contains("number") || other.contains("number");
            if is_whole && is_number && !both.contains(&"number") && !both.contains(&"integer") {
                both.push("integer");
            }
            *known = json!(both);
        }
        // Both count, and can only be found to be the same, or not.
        (_, known, value) => *known = json!([known, value]),
    }
    Some(())
}

/// The schemas of which one fits, each with what stands beside them.
pub(super) fn choices_of(map: &Map<String, Value>) -> Option<Vec<Value>> {
    let key = ["oneOf", "anyOf"]
        .into_iter()
        .find(|key| map.contains_key(*key))?;
    let list = map.get(key)?.as_array()?;
    let mut beside = map.clone();
    beside.remove(key);
    beside.retain(|key, _| !is_word(key));
    let with = |choice: &Value| match beside.is_empty() {
        true => choice.clone(),
        false => json!({ "allOf": [beside, choice] }),
    };
    Some(list.iter().map(with).collect())
}
