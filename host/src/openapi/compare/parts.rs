//! What schemas say of the parts of a value, its fields and its items, and keywords of which can only be told whether they
//! are the same.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::{Map, Value};

use super::flat::{flat, is_word};
use super::schema::{DEPTH_MAX, LOWER, UPPER};
use super::{Comparison, escaped};

/// A schema that takes everything.
const ANY: Value = Value::Bool(true);
/// A schema that takes nothing.
const NOTHING: Value = Value::Bool(false);
/// So many items must fit where nothing is said.
static ONE: LazyLock<Value> = LazyLock::new(|| Value::from(1));

/// Keywords that are compared by what they mean, beside bounds.
const KNOWN: [&str; 22] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "enum",
    "if",
    "items",
    "maxContains",
    "minContains",
    "nullable",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "then",
    "type",
];
/// Keywords whose value is a table of schemas, with names that are no keywords.
const TABLES: [&str; 3] = ["dependentSchemas", "patternProperties", "properties"];
/// Keywords that say nothing by `false`.
const SWITCHES: [&str; 3] = ["exclusiveMaximum", "exclusiveMinimum", "uniqueItems"];
/// Longest value of a keyword that is shown, in characters.
const SHOWN_MAX: usize = 80;

const REFUSED: &str = "values that were taken may be refused";

impl Comparison<'_> {
    /// The fields of objects.
    pub(super) fn object(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        let nothing = Map::new();
        let before = table(old, "properties").unwrap_or(&nothing);
        let after = table(new, "properties").unwrap_or(&nothing);
        self.required(old, new, is_request, pointer);
        let is_closed =
            |map: &Map<String, Value>| map.get("additionalProperties") == Some(&Value::Bool(false));
        // Fields without a name of their own.
        let rest_before = rest_of(old).filter(|rest| rest.is_object());
        let rest_after = rest_of(new).filter(|rest| rest.is_object());
        for (name, one) in before {
            let at = format!("{pointer}/properties/{}", escaped(name));
            match (after.get(name), rest_after) {
                (Some(other), _) => self.pair(one, other, is_request, &at, depth + 1),
                (None, _) if !is_request => {
                    let what = format!("the field `{name}` is gone");
                    self.block(&at, what, "callers rely on it");
                }
                (None, _) if is_closed(new) => {
                    let what = format!("the field `{name}` is not taken any more");
                    self.block(&at, what, "bodies with it are refused");
                }
                (None, rest) => {
                    let what = format!("the field `{name}` is gone");
                    self.warn(&at, what, "what it did is not done any more");
                    if let Some(rest) = rest {
                        self.pair(one, rest, is_request, &at, depth + 1);
                    }
                }
            }
        }
        if let Some(rest) = rest_before {
            let is_new = |(name, _): &(&String, &Value)| !before.contains_key(*name);
            for (name, other) in after.iter().filter(is_new) {
                let at = format!("{pointer}/properties/{}", escaped(name));
                self.pair(rest, other, is_request, &at, depth + 1);
            }
        }
        let at = format!("{pointer}/additionalProperties");
        if is_request && is_closed(new) {
            if !is_closed(old) {
                let what = "unknown fields are refused now".to_owned();
                self.block(&at, what, "bodies with more fields are refused");
            }
        } else if !is_closed(old) && !is_closed(new) {
            self.below(rest_before, rest_after, is_request, &at, depth);
        }
        self.tables(old, new, is_request, pointer, depth);
        let (one, other) = (old.get("propertyNames"), new.get("propertyNames"));
        let at = format!("{pointer}/propertyNames");
        self.below(one, other, is_request, &at, depth);
    }

    /// Fields that must be there.
    fn required(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
    ) {
        let is_in = |map: &Map<String, Value>, name: &String| {
            table(map, "properties").is_some_and(|table| table.contains_key(name))
        };
        let (needed_before, needed_after) = (names_of(old), names_of(new));
        if is_request {
            for name in needed_after.difference(&needed_before) {
                let what = match is_in(old, name) {
                    true => format!("the field `{name}` is required now"),
                    false => format!("the field `{name}` is new and required"),
                };
                let at = format!("{pointer}/properties/{}", escaped(name));
                self.block(&at, what, "bodies without it are refused");
            }
            return;
        }
        for name in needed_before.difference(&needed_after) {
            // One that is gone is told elsewhere.
            if is_in(new, name) || !is_in(old, name) {
                let what = format!("the field `{name}` may be missing");
                let at = format!("{pointer}/properties/{}", escaped(name));
                self.block(&at, what, "callers rely on it");
            }
        }
    }

    /// Schemas and names that hang on what fields are called, and on which are there.
    fn tables(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        let nothing = Map::new();
        for key in ["patternProperties", "dependentSchemas"] {
            let before = table(old, key).unwrap_or(&nothing);
            let after = table(new, key).unwrap_or(&nothing);
            // What fits no pattern is one of the other fields.
            let has_rest = key == "patternProperties";
            let (rest_before, rest_after) = (rest_of(old), rest_of(new));
            // More that comes in answers breaks nobody.
            let rest_before = rest_before.filter(|rest| is_request || **rest != NOTHING);
            let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let one = before.get(name).or(rest_before.filter(|_| has_rest));
                let other = after.get(name).or(rest_after.filter(|_| has_rest));
                let at = format!("{pointer}/{key}/{}", escaped(name));
                self.below(one, other, is_request, &at, depth);
            }
        }
        let key = "dependentRequired";
        let before = table(old, key).unwrap_or(&nothing);
        let after = table(new, key).unwrap_or(&nothing);
        let (needed, given) = match is_request {
            true => (after, before),
            false => (before, after),
        };
        let always = match is_request {
            true => names_of(old),
            false => names_of(new),
        };
        let is_there = |field: &Value| field.as_str().is_some_and(|field| always.contains(field));
        for (name, list) in needed {
            let given = given.get(name).and_then(Value::as_array);
            let is_given =
                |name: &&Value| given.is_some_and(|given| given.iter().any(|one| one == *name));
            let list = list.as_array().into_iter().flatten();
            for field in list.filter(|name| !is_given(name) && !is_there(name)) {
                let at = format!("{pointer}/{key}/{}", escaped(name));
                match is_request {
                    true => {
                        let what = format!("with `{name}`, {field} is required now");
                        self.block(&at, what, "bodies without it are refused");
                    }
                    false => {
                        let what = format!("with `{name}`, {field} may be missing");
                        self.warn(&at, what, "callers may rely on it");
                    }
                }
            }
        }
    }

    /// The items of lists.
    pub(super) fn array(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        let (before, after) = (first_of(old), first_of(new));
        let (items_before, items_after) = (old.get("items"), new.get("items"));
        for index in 0..before.len().max(after.len()) {
            let rest = items_before.filter(|rest| is_request || **rest != NOTHING);
            let one = before.get(index).or(rest);
            let other = after.get(index).or(items_after);
            let at = format!("{pointer}/prefixItems/{index}");
            self.below(one, other, is_request, &at, depth);
        }
        let at = format!("{pointer}/items");
        self.below(items_before, items_after, is_request, &at, depth);
    }

    /// A schema of parts of a value, or that nothing is said of them.
    fn below(
        &mut self,
        old: Option<&Value>,
        new: Option<&Value>,
        is_request: bool,
        pointer: &str,
        depth: usize,
    ) {
        match (old, new) {
            (Some(one), Some(other)) => self.pair(one, other, is_request, pointer, depth + 1),
            (None, Some(other)) => self.pair(&ANY, other, is_request, pointer, depth + 1),
            (Some(one), None) if !is_request && *one != ANY => {
                let what = "nothing is said of it any more".to_owned();
                self.warn(pointer, what, "it may be anything");
            }
            _ => {}
        }
    }

    /// What can only be the same or not.
    pub(super) fn keywords(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_request: bool,
        pointer: &str,
    ) {
        let (one, other) = match is_request {
            true => (new, old),
            false => (old, new),
        };
        for key in one.keys() {
            let key = key.as_str();
            // These say something together.
            let group: &[&str] = match key {
                "if" => &["if", "then", "else"],
                "contains" => &["contains", "minContains", "maxContains"],
                _ if KNOWN.contains(&key) || LOWER.contains(&key) || UPPER.contains(&key) => {
                    continue;
                }
                _ if is_word(key) => continue,
                _ => &[key],
            };
            let first = group.first().copied().unwrap_or(key);
            for key in group {
                // Then that is told, and decides.
                if *key != first && !other.contains_key(first) {
                    continue;
                }
                let at = format!("{pointer}/{key}");
                let (old, new) = (said(old, key), said(new, key));
                self.keyword(key, old, new, is_request, &at);
            }
        }
    }

    /// One keyword that can only be the same or not.
    pub(super) fn keyword(
        &mut self,
        key: &str,
        old: Option<&Value>,
        new: Option<&Value>,
        is_request: bool,
        pointer: &str,
    ) {
        let is_said = |value: &&Value| **value != Value::Bool(false) || !SWITCHES.contains(&key);
        let (old, new) = (old.filter(is_said), new.filter(is_said));
        let is_kept = match (old, new) {
            (None, None) => true,
            (Some(one), Some(other)) => {
                let (from, to) = if is_request {
                    (one, other)
                } else {
                    (other, one)
                };
                is_wider(key, from, to) || self.is_same(one, other, true, 0)
            }
            (Some(_), None) => is_request,
            (None, Some(_)) => !is_request,
        };
        if is_kept {
            return;
        }
        let what = match (old, new) {
            (None, Some(value)) => format!("`{key}` is {} now", shown(value)),
            (one, other) => {
                let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), shown);
                format!("`{key}` was {} and is {}", shown(one), shown(other))
            }
        };
        match is_request {
            true => self.block(pointer, what, REFUSED),
            false => self.warn(pointer, what, "values may look different"),
        }
    }

    /// Whether two schemas, or values of keywords, say the same: references followed, and without words for people. In doubt
    /// they do not.
    fn is_same(&mut self, old: &Value, new: &Value, is_schema: bool, depth: usize) -> bool {
        if depth > DEPTH_MAX || self.left == 0 {
            return false;
        }
        self.left -= 1;
        if self.is_unchanged(old, new) {
            return true;
        }
        match (old, new) {
            (Value::Array(old), Value::Array(new)) => {
                let mut pairs = old.iter().zip(new);
                old.len() == new.len()
                    && pairs.all(|(one, other)| self.is_same(one, other, is_schema, depth + 1))
            }
            (Value::Object(one), Value::Object(other)) if !is_schema => {
                self.is_same_table(one, other, false, depth)
            }
            (Value::Object(_), Value::Object(_)) => {
                let reference = |value: &Value| value.get("$ref").map(|to| format!("={to}"));
                let mark = reference(old).zip(reference(new));
                let mark = mark.map(|(one, other)| (one, other, true));
                if let Some(mark) = &mark
                    && !self.seen.insert(mark.clone())
                {
                    return true;
                }
                let one = flat(self.old, old, &mut self.left, depth);
                let other = flat(self.new, new, &mut self.left, depth);
                let is_same = match (&one, &other) {
                    (Some(one), Some(other)) => self.is_same_table(one, other, is_schema, depth),
                    _ => false,
                };
                if let Some(mark) = mark {
                    self.seen.remove(&mark);
                }
                is_same
            }
            _ => old == new,
        }
    }

    fn is_same_table(
        &mut self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        is_schema: bool,
        depth: usize,
    ) -> bool {
        let counts = |key: &&String| !is_schema || !is_word(key);
        let keys = |map: &Map<String, Value>| map.keys().filter(counts).cloned().collect();
        let (before, after): (BTreeSet<String>, BTreeSet<String>) = (keys(old), keys(new));
        before == after
            && before.iter().all(|key| match (old.get(key), new.get(key)) {
                (Some(one), Some(other)) => match key.as_str() {
                    // Values, and not what is said of them.
                    "const" | "dependentRequired" | "enum" if is_schema => one == other,
                    // Names are no keywords.
                    key => {
                        let is_schema = !is_schema || !TABLES.contains(&key);
                        self.is_same(one, other, is_schema, depth + 1)
                    }
                },
                _ => false,
            })
    }
}

/// Whether what a keyword says is the same, or takes more.
fn is_wider(key: &str, old: &Value, new: &Value) -> bool {
    match key {
        "multipleOf" => match (old.as_u64(), new.as_u64()) {
            (Some(old), Some(new)) => new > 0 && old % new == 0,
            _ => false,
        },
        "format" => {
            let pair = (old.as_str(), new.as_str());
            pair == (Some("int32"), Some("int64")) || pair == (Some("float"), Some("double"))
        }
        "minContains" => old.as_f64() >= new.as_f64(),
        "maxContains" => old.as_f64() <= new.as_f64(),
        _ => false,
    }
}

fn table<'m>(map: &'m Map<String, Value>, key: &str) -> Option<&'m Map<String, Value>> {
    map.get(key).and_then(Value::as_object)
}

/// What is said of fields without a name of their own.
fn rest_of(map: &Map<String, Value>) -> Option<&Value> {
    map.get("additionalProperties")
}

/// What is said of the first items.
fn first_of(map: &Map<String, Value>) -> &[Value] {
    let list = map.get("prefixItems").and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

/// What a keyword says, also where that is so without it.
fn said<'m>(map: &'m Map<String, Value>, key: &str) -> Option<&'m Value> {
    let value = map.get(key);
    let is_one = value.is_none() && key == "minContains" && map.contains_key("contains");
    if is_one { Some(&*ONE) } else { value }
}

/// Fields that must be there.
fn names_of(map: &Map<String, Value>) -> BTreeSet<String> {
    let list = map.get("required").and_then(Value::as_array);
    let names = list.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
