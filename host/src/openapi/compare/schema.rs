//! Two schemas: of what a server takes, the new one must take all that the old one does; of what it gives, it must give
//! nothing that the old one does not promise.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Comparison, escaped};
use crate::openapi::resolve;

/// Most pairs of schemas that are compared.
pub(super) const STEPS_MAX: usize = 200_000;
/// Deepest nesting that is looked at.
const DEPTH_MAX: usize = 64;

/// Bounds of which a larger value takes less.
const LOWER: [&str; 5] = [
    "minLength",
    "minimum",
    "minItems",
    "minProperties",
    "exclusiveMinimum",
];
/// Bounds of which a smaller value takes less.
const UPPER: [&str; 5] = [
    "maxLength",
    "maximum",
    "maxItems",
    "maxProperties",
    "exclusiveMaximum",
];

impl<'a> Comparison<'a> {
    /// Compares two schemas of requests, or of answers.
    pub(super) fn schema(&mut self, old: &Value, new: &Value, is_request: bool, pointer: &str) {
        self.pair(old, new, is_request, pointer, 0);
    }

    fn pair(&mut self, old: &Value, new: &Value, is_request: bool, pointer: &str, depth: usize) {
        if depth > DEPTH_MAX || self.left == 0 {
            return;
        }
        self.left -= 1;
        // Schemas with a name may contain themselves.
        let reference =
            |value: &Value| value.get("$ref").and_then(Value::as_str).map(str::to_owned);
        let mark = match (reference(old), reference(new)) {
            (None, None) => None,
            (one, other) => Some((
                one.unwrap_or_else(|| old.to_string()),
                other.unwrap_or_else(|| new.to_string()),
                is_request,
            )),
        };
        if let Some(mark) = &mark
            && !self.seen.insert(mark.clone())
        {
            return;
        }
        let (one, other) = (flat(self.old, old, 0), flat(self.new, new, 0));
        self.flat_pair(&one, &other, is_request, pointer, depth);
        if let Some(mark) = mark {
            self.seen.remove(&mark);
        }
    }

    fn flat_pair(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        if old == new && !has_reference(old) {
            return;
        }
        let (choices, others) = (choices_of(old), choices_of(new));
        if choices.is_some() || others.is_some() {
            let whole = |map: &Map<String, Value>| vec![Value::Object(map.clone())];
            let before = choices.unwrap_or_else(|| whole(old));
            let after = others.unwrap_or_else(|| whole(new));
            self.choices(&before, &after, is_request, pointer, depth);
            return;
        }
        self.types(old, new, is_request, pointer);
        self.values(old, new, is_request, pointer);
        self.bounds(old, new, is_request, pointer);
        self.object(old, new, is_request, pointer, depth);
        if let Some(one) = old.get("items") {
            let pointer = format!("{pointer}/items");
            match new.get("items") {
                Some(other) => self.pair(one, other, is_request, &pointer, depth + 1),
                None if !is_request => {
                    self.warn(
                        &pointer,
                        "nothing is said of the items any more".to_owned(),
                        "they may be anything",
                    );
                }
                None => {}
            }
        }
    }

    /// Several schemas of which one fits: each that must still be there needs one on the other side that has all of it.
    fn choices(
        &mut self,
        old: &[Value],
        new: &[Value],
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        let (needed, offered) = if is_request { (old, new) } else { (new, old) };
        for (index, one) in needed.iter().enumerate() {
            let mut is_met = false;
            for other in offered {
                let (before, after) = if is_request {
                    (one, other)
                } else {
                    (other, one)
                };
                let found = std::mem::take(&mut self.found);
                self.pair(before, after, is_request, pointer, depth + 1);
                let is_fine = self.found.iter().all(|difference| !difference.is_blocking);
                self.found = found;
                if is_fine {
                    is_met = true;
                    break;
                }
            }
            if is_met {
                continue;
            }
            let at = format!("{pointer}/{index}");
            if is_request {
                let what = format!("the variant {} is not taken any more", index + 1);
                self.block(&at, what, "such bodies are refused");
            } else {
                let what = format!("the variant {} is new", index + 1);
                self.block(&at, what, "callers do not know such answers");
            }
        }
    }

    fn types(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
    ) {
        let (before, after) = (types_of(old), types_of(new));
        let (taken, given) = if is_request {
            (&after, &before)
        } else {
            (&before, &after)
        };
        let Some(taken) = taken else { return };
        let shown =
            |types: &BTreeSet<String>| types.iter().cloned().collect::<Vec<_>>().join(" or ");
        let Some(given) = given else {
            let what = match is_request {
                true => format!("only {} is taken", shown(taken)),
                false => "the type is not said any more".to_owned(),
            };
            if is_request {
                self.block(&format!("{pointer}/type"), what, "other values are refused");
            } else {
                self.warn(&format!("{pointer}/type"), what, "it may be anything");
            }
            return;
        };
        let fits =
            |kind: &String| taken.contains(kind) || (kind == "integer" && taken.contains("number"));
        if given.iter().all(fits) {
            return;
        }
        let (was, is) = if is_request {
            (given, taken)
        } else {
            (taken, given)
        };
        let what = format!("{} has become {}", shown(was), shown(is));
        let why = match is_request {
            true => "what was sent before is refused",
            false => "it is read as something else",
        };
        self.block(&format!("{pointer}/type"), what, why);
    }

    fn values(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
    ) {
        let (before, after) = (values_of(old), values_of(new));
        let at = format!("{pointer}/enum");
        match (before, after) {
            (Some(before), Some(after)) if is_request => {
                for value in before.iter().filter(|value| !after.contains(value)) {
                    self.block(
                        &at,
                        format!("{value} is not taken any more"),
                        "calls with it are refused",
                    );
                }
            }
            (Some(before), Some(after)) => {
                for value in after.iter().filter(|value| !before.contains(value)) {
                    self.block(&at, format!("{value} is new"), "callers do not know it");
                }
            }
            (None, Some(_)) if is_request => {
                self.block(
                    &at,
                    "only some values are taken now".to_owned(),
                    "calls with others are refused",
                );
            }
            (Some(_), None) if !is_request => {
                self.block(
                    &at,
                    "other values may come now".to_owned(),
                    "callers do not know them",
                );
            }
            _ => {}
        }
    }

    fn bounds(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
    ) {
        let number = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_f64);
        for (key, is_lower) in LOWER
            .iter()
            .map(|key| (*key, true))
            .chain(UPPER.iter().map(|key| (*key, false)))
        {
            let (before, after) = (number(old, key), number(new, key));
            // No bound is the widest one. Upper bounds count the other way round, so that more is narrower for both.
            let of = |bound: Option<f64>| {
                let least = bound.map(|bound| if is_lower { bound } else { -bound });
                least.unwrap_or(f64::NEG_INFINITY)
            };
            let is_narrower = of(after) > of(before);
            let is_wider = of(after) < of(before);
            let shown = |value: Option<f64>| {
                value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
            };
            let what = format!("`{key}` was {} and is {}", shown(before), shown(after));
            let at = format!("{pointer}/{key}");
            if is_request && is_narrower {
                self.block(&at, what, "values that were taken are refused");
            } else if !is_request && is_wider {
                self.warn(&at, what, "values may come that did not before");
            }
        }
        for key in ["pattern", "format", "multipleOf"] {
            let (before, after) = (old.get(key), new.get(key));
            if before == after {
                continue;
            }
            let at = format!("{pointer}/{key}");
            match (before, after) {
                (None, Some(value)) if is_request => {
                    self.block(
                        &at,
                        format!("`{key}` is {value} now"),
                        "values that were taken may be refused",
                    );
                }
                (Some(was), value) if !(is_request && value.is_none()) => {
                    let is = value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                    self.warn(
                        &at,
                        format!("`{key}` was {was} and is {is}"),
                        "values may look different",
                    );
                }
                _ => {}
            }
        }
    }

    fn object(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        let properties = |map: &Map<String, Value>| {
            let properties = map.get("properties").and_then(Value::as_object);
            properties.cloned().unwrap_or_default()
        };
        let (before, after) = (properties(old), properties(new));
        let (needed_before, needed_after) = (required_of(old), required_of(new));
        let is_closed =
            |map: &Map<String, Value>| map.get("additionalProperties") == Some(&Value::Bool(false));
        if is_request {
            for name in needed_after.difference(&needed_before) {
                let what = match before.contains_key(name) {
                    true => format!("the field `{name}` is required now"),
                    false => format!("the field `{name}` is new and required"),
                };
                let at = format!("{pointer}/properties/{}", escaped(name));
                self.block(&at, what, "bodies without it are refused");
            }
            if is_closed(new) && !is_closed(old) {
                let at = format!("{pointer}/additionalProperties");
                self.block(
                    &at,
                    "unknown fields are refused now".to_owned(),
                    "bodies with more fields are refused",
                );
            }
        } else {
            let promised = before.keys().cloned().collect::<BTreeSet<_>>();
            for name in needed_before.difference(&needed_after) {
                // One that is gone is told below.
                if after.contains_key(name) || !promised.contains(name) {
                    let what = format!("the field `{name}` may be missing");
                    let at = format!("{pointer}/properties/{}", escaped(name));
                    self.block(&at, what, "callers rely on it");
                }
            }
        }
        for (name, one) in &before {
            let at = format!("{pointer}/properties/{}", escaped(name));
            match after.get(name) {
                Some(other) => self.pair(one, other, is_request, &at, depth + 1),
                None if !is_request => {
                    self.block(
                        &at,
                        format!("the field `{name}` is gone"),
                        "callers rely on it",
                    );
                }
                None if is_closed(new) => {
                    self.block(
                        &at,
                        format!("the field `{name}` is not taken any more"),
                        "bodies with it are refused",
                    );
                }
                None => {
                    self.warn(
                        &at,
                        format!("the field `{name}` is gone"),
                        "what it did is not done any more",
                    );
                }
            }
        }
        if let (Some(one @ Value::Object(_)), Some(other @ Value::Object(_))) = (
            old.get("additionalProperties"),
            new.get("additionalProperties"),
        ) {
            let at = format!("{pointer}/additionalProperties");
            self.pair(one, other, is_request, &at, depth + 1);
        }
    }
}

/// A schema with what its reference and `allOf` say in one place.
fn flat(document: &Value, schema: &Value, depth: usize) -> Map<String, Value> {
    let Some(map) = schema.as_object() else {
        return match schema {
            Value::Bool(false) => Map::from_iter([("enum".to_owned(), json!([]))]),
            _ => Map::new(),
        };
    };
    if depth > DEPTH_MAX || !(map.contains_key("$ref") || map.contains_key("allOf")) {
        return map.clone();
    }
    let mut all = Map::new();
    if let Some(reference) = map.get("$ref") {
        let only = json!({ "$ref": reference });
        let target = resolve(document, &only);
        if target.get("$ref").is_none() {
            join(&mut all, flat(document, target, depth + 1));
        }
    }
    let parts = map.get("allOf").and_then(Value::as_array);
    for part in parts.into_iter().flatten() {
        join(&mut all, flat(document, part, depth + 1));
    }
    let mut own = map.clone();
    own.remove("$ref");
    own.remove("allOf");
    join(&mut all, own);
    all
}

fn join(all: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        match (all.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) if key == "properties" => {
                known.extend(more)
            }
            (Some(Value::Array(known)), Value::Array(more)) if key == "required" => {
                known.extend(more)
            }
            (_, value) => {
                all.insert(key, value);
            }
        }
    }
}

/// The schemas of which one fits, each with what stands beside them.
fn choices_of(map: &Map<String, Value>) -> Option<Vec<Value>> {
    let key = ["oneOf", "anyOf"]
        .into_iter()
        .find(|key| map.contains_key(*key))?;
    let list = map.get(key)?.as_array()?;
    let mut beside = map.clone();
    beside.remove(key);
    beside.retain(|key, _| {
        !matches!(
            key.as_str(),
            "discriminator" | "title" | "description" | "example" | "examples"
        )
    });
    let with = |choice: &Value| match beside.is_empty() {
        true => choice.clone(),
        false => json!({ "allOf": [beside, choice] }),
    };
    Some(list.iter().map(with).collect())
}

/// The types that a value may have; nothing if nothing is said.
fn types_of(map: &Map<String, Value>) -> Option<BTreeSet<String>> {
    let mut types: BTreeSet<String> = match map.get("type")? {
        Value::String(kind) => BTreeSet::from([kind.clone()]),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => return None,
    };
    // OpenAPI 3.0.
    if map.get("nullable") == Some(&Value::Bool(true)) {
        types.insert("null".to_owned());
    }
    Some(types)
}

fn values_of(map: &Map<String, Value>) -> Option<Vec<Value>> {
    match (map.get("enum"), map.get("const")) {
        (_, Some(value)) => Some(vec![value.clone()]),
        (Some(Value::Array(values)), None) => Some(values.clone()),
        _ => None,
    }
}

fn required_of(map: &Map<String, Value>) -> BTreeSet<String> {
    let list = map.get("required").and_then(Value::as_array);
    let names = list.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// Whether something in it leads elsewhere, where the documents may differ.
fn has_reference(map: &Map<String, Value>) -> bool {
    map.iter()
        .any(|(key, value)| key == "$ref" || leads_elsewhere(value))
}

fn leads_elsewhere(value: &Value) -> bool {
    match value {
        Value::Object(map) => has_reference(map),
        Value::Array(list) => list.iter().any(leads_elsewhere),
        _ => false,
    }
}
