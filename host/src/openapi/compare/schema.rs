//! Two schemas: of what a server takes, the new one must take all that the old one does; of what it gives, it must give
//! nothing that the old one does not promise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::Comparison;
use super::flat::{choices_of, flat};

/// Most pairs of schemas that are compared.
pub(super) const STEPS_MAX: usize = 1_000_000;
/// Deepest nesting that is looked at.
pub(super) const DEPTH_MAX: usize = 64;
/// What is said of documents, or parts of them, that are not compared to their end.
pub(super) const UNSEEN: &str = "what differs there is not seen";

/// Bounds of which a larger value takes less.
pub(super) const LOWER: [&str; 5] = [
    "minLength",
    "minimum",
    "minItems",
    "minProperties",
    "exclusiveMinimum",
];
/// Bounds of which a smaller value takes less.
pub(super) const UPPER: [&str; 5] = [
    "maxLength",
    "maximum",
    "maxItems",
    "maxProperties",
    "exclusiveMaximum",
];

/// Lower bounds of which nothing said is 0.
const LENGTHS: [&str; 3] = ["minLength", "minItems", "minProperties"];

impl<'a> Comparison<'a> {
    /// Compares two schemas of requests, or of answers.
    pub(super) fn schema(&mut self, old: &Value, new: &Value, is_request: bool, pointer: &str) {
        self.pair(old, new, is_request, pointer, 0);
    }

    pub(super) fn pair(
        &mut self,
        old: &Value,
        new: &Value,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        // Then size does not matter.
        if self.is_unchanged(old, new) {
            return;
        }
        if depth > DEPTH_MAX || self.left == 0 {
            self.cut(pointer);
            return;
        }
        self.left -= 1;
        // Where nothing was taken nothing is lost, and what never comes surprises nobody.
        if *(if is_request { old } else { new }) == Value::Bool(false) {
            return;
        }
        let is_schema = |value: &Value| value.is_object() || value.is_boolean();
        if !is_schema(old) || !is_schema(new) {
            self.keyword("schema", Some(old), Some(new), is_request, pointer);
            return;
        }
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
        let one = flat(self.old, old, &mut self.left, depth);
        let other = flat(self.new, new, &mut self.left, depth);
        match (one, other) {
            (Some(one), Some(other)) => self.flat_pair(&one, &other, is_request, pointer, depth),
            _ => self.cut(pointer),
        }
        if let Some(mark) = mark {
            self.seen.remove(&mark);
        }
    }

    /// Whether two values say the same, with all that they lead to.
    pub(super) fn is_unchanged(&self, old: &Value, new: &Value) -> bool {
        let mut found = BTreeSet::new();
        old == new && {
            references(old, &mut found);
            found.iter().all(|name| self.unchanged.contains(*name))
        }
    }

    /// What is below here is not looked at. Whoever reads the differences must not take that for none.
    fn cut(&mut self, pointer: &str) {
        let what = "too large or too deep to compare".to_owned();
        self.block(pointer, what, UNSEEN);
    }

    fn flat_pair(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
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
        self.array(old, new, is_request, pointer, depth);
        self.keywords(old, new, is_request, pointer);
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
            let (mut is_met, mut is_unseen) = (false, false);
            // Most stay where they were.
            let same_place = offered.get(index).into_iter();
            let elsewhere = offered.iter().enumerate().filter(|(at, _)| *at != index);
            for other in same_place.chain(elsewhere.map(|(_, other)| other)) {
                let (before, after) = if is_request {
                    (one, other)
                } else {
                    (other, one)
                };
                let known = std::mem::take(&mut self.found);
                self.pair(before, after, is_request, pointer, depth + 1);
                let is_fine = self.found.blocking.is_empty();
                is_unseen |= self.found.blocking.iter().any(|one| one.why == UNSEEN);
                self.found = known;
                if is_fine {
                    is_met = true;
                    break;
                }
            }
            if is_met {
                continue;
            }
            if is_unseen {
                self.cut(pointer);
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
        for (key, is_lower) in LOWER
            .iter()
            .map(|key| (*key, true))
            .chain(UPPER.iter().map(|key| (*key, false)))
        {
            let (one, other) = (old.get(key), new.get(key));
            let at = format!("{pointer}/{key}");
            let is_number = |value: Option<&Value>| value.is_none_or(Value::is_number);
            if !is_number(one) || !is_number(other) {
                // OpenAPI 3.0.
                self.keyword(key, one, other, is_request, &at);
                continue;
            }
            // Nothing has a negative length.
            let is_said = |bound: &f64| *bound != 0.0 || !LENGTHS.contains(&key);
            let number = |value: Option<&Value>| value.and_then(Value::as_f64).filter(is_said);
            let (before, after) = (number(one), number(other));
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
            if is_request && is_narrower {
                self.block(&at, what, "values that were taken are refused");
            } else if !is_request && is_wider {
                self.warn(&at, what, "values may come that did not before");
            }
        }
    }
}

/// The types that a value may have; nothing if nothing is said.
pub(super) fn types_of(map: &Map<String, Value>) -> Option<BTreeSet<String>> {
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

/// Whether something in it leads elsewhere, where the documents may differ.
/// References to named schemas that are the same in both documents, with all that they lead to.
pub(super) fn unchanged(old: &Value, new: &Value) -> BTreeSet<String> {
    let schemas = |document: &Value| -> Map<String, Value> {
        let schemas = document.pointer("/components/schemas");
        schemas
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (before, after) = (schemas(old), schemas(new));
    let same = before
        .iter()
        .filter(|(name, schema)| after.get(*name) == Some(*schema));
    let mut same: BTreeMap<String, BTreeSet<&str>> = same
        .map(|(name, schema)| {
            let mut found = BTreeSet::new();
            references(schema, &mut found);
            (format!("#/components/schemas/{name}"), found)
        })
        .collect();
    loop {
        let is_left = |name: &&str| same.contains_key(*name);
        let changed = same.iter().filter(|(_, leads)| !leads.iter().all(is_left));
        let changed: Vec<String> = changed.map(|(name, _)| name.clone()).collect();
        if changed.is_empty() {
            return same.into_keys().collect();
        }
        for name in changed {
            same.remove(&name);
        }
    }
}

fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(reference) if key.ends_with("$ref") || key.ends_with("Ref") => {
                        found.insert(reference);
                    }
                    value => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
