//! A value that fits a JSON Schema: the same each time, and as small as it may be while it still shows every field. What an
//! author gives as an example comes first.

use serde_json::{Map, Number, Value, json};

use super::resolve;

/// Deepest nesting. Below half of it, only what must be there is.
const DEPTH_MAX: usize = 12;
/// Most values of one sample, so that a schema that grows at each step ends.
const VALUES_MAX: usize = 2000;
/// Longest text and longest list.
const LENGTH_MAX: u64 = 1000;

/// A value for a schema of this document; nothing if none is found within the bounds. Whether it fits is for a validator
/// to say: schemas can say more than is looked at here.
pub fn sample(schema: &Value, document: &Value) -> Option<Value> {
    let mut maker = Maker {
        document,
        left: VALUES_MAX,
    };
    maker.value(schema, 0, 0)
}

struct Maker<'a> {
    document: &'a Value,
    left: usize,
}

impl Maker<'_> {
    /// `turn` makes values of one list differ.
    fn value(&mut self, schema: &Value, depth: usize, turn: u64) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if depth > DEPTH_MAX {
            return None;
        }
        let map = match schema {
            Value::Object(map) => map,
            Value::Bool(true) => return Some(Value::Null),
            _ => return None,
        };
        if let Some(value) = map.get("const") {
            return Some(value.clone());
        }
        if let Some(values) = map.get("enum").and_then(Value::as_array) {
            return values
                .get(usize::try_from(turn).ok()? % values.len().max(1))
                .cloned();
        }
        if turn == 0
            && let Some(value) = given(map)
        {
            return Some(value.clone());
        }
        if let Some(reference) = map.get("$ref") {
            let target = resolve(self.document, schema);
            if target.get("$ref") == Some(reference) {
                return None;
            }
            if map.len() == 1 {
                return self.value(target, depth + 1, turn);
            }
        }
        if map.contains_key("allOf") || map.contains_key("$ref") {
            let merged = self.merged(map, depth)?;
            return self.value(&Value::Object(merged), depth + 1, turn);
        }
        for key in ["oneOf", "anyOf"] {
            let Some(choices) = map.get(key).and_then(Value::as_array) else {
                continue;
            };
            let mut rest = map.clone();
            rest.remove(key);
            for choice in choices {
                let left = self.left;
                let both = match rest.keys().all(|key| is_annotation(key)) {
                    true => choice.clone(),
                    false => json!({ "allOf": [choice, rest] }),
                };
                if let Some(value) = self.value(&both, depth + 1, turn) {
                    return Some(value);
                }
                self.left = left.saturating_sub(1);
            }
            return None;
        }
        match kind(map) {
            "object" => self.object(map, depth),
            "array" => self.array(map, depth),
            "string" => text(map, turn).map(Value::String),
            "integer" => number(map, turn, true),
            "number" => number(map, turn, false),
            "boolean" => Some(Value::Bool(turn.is_multiple_of(2))),
            _ => Some(Value::Null),
        }
    }

    /// What several schemas say together, as far as it can be written as one.
    fn merged(&mut self, map: &Map<String, Value>, depth: usize) -> Option<Map<String, Value>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut all = Map::new();
        let parts = map.get("allOf").and_then(Value::as_array);
        let parts = parts.map(Vec::as_slice).unwrap_or_default();
        let target = map.get("$ref").map(|target| json!({ "$ref": target }));
        for part in target.iter().chain(parts) {
            self.left = self.left.checked_sub(1)?;
            let part = resolve(self.document, part);
            let Some(part) = part.as_object() else {
                continue;
            };
            let part = if part.contains_key("allOf") || part.contains_key("$ref") {
                self.merged(part, depth + 1)?
            } else {
                part.clone()
            };
            add(&mut all, part);
        }
        let mut own = map.clone();
        own.remove("allOf");
        own.remove("$ref");
        add(&mut all, own);
        Some(all)
    }

    fn object(&mut self, map: &Map<String, Value>, depth: usize) -> Option<Value> {
        let none = Map::new();
        let properties = map.get("properties").and_then(Value::as_object);
        let properties = properties.unwrap_or(&none);
        let required: Vec<&str> = names(map.get("required")).collect();
        let most = bound(map, "maxProperties").unwrap_or(u64::MAX);
        let mut object = Map::new();
        for name in &required {
            let schema = properties
                .get(*name)
                .or_else(|| map.get("additionalProperties"));
            let anything = Value::Bool(true);
            let value = self.value(schema.unwrap_or(&anything), depth + 1, 0)?;
            object.insert((*name).to_owned(), value);
        }
        for (name, schema) in properties {
            let is_there = object.contains_key(name);
            let is_wanted = depth < DEPTH_MAX / 2 && (object.len() as u64) < most;
            if is_there || !is_wanted {
                continue;
            }
            let left = self.left;
            // What cannot be shown may be left out.
            match self.value(schema, depth + 1, 0) {
                Some(value) => {
                    object.insert(name.clone(), value);
                }
                None => self.left = left.saturating_sub(1),
            }
        }
        let least = bound(map, "minProperties").unwrap_or(0).min(LENGTH_MAX);
        let mut turn = 0;
        while (object.len() as u64) < least {
            turn += 1;
            let anything = Value::Bool(true);
            let schema = map.get("additionalProperties").unwrap_or(&anything);
            let value = self.value(schema, depth + 1, 0)?;
            object.insert(format!("key{turn}"), value);
        }
        Some(Value::Object(object))
    }

    fn array(&mut self, map: &Map<String, Value>, depth: usize) -> Option<Value> {
        let least = bound(map, "minItems").unwrap_or(0);
        let most = bound(map, "maxItems").unwrap_or(u64::MAX);
        let first = map.get("prefixItems").and_then(Value::as_array);
        let first = first.map(Vec::as_slice).unwrap_or_default();
        let anything = Value::Bool(true);
        let rest = map.get("items");
        let is_closed = rest == Some(&Value::Bool(false));
        // One shows what a list holds, unless it must be empty or nothing is said of its items.
        let shown = match rest {
            Some(Value::Object(_)) if depth < DEPTH_MAX / 2 => 1,
            _ => first.len() as u64,
        };
        let count = least.max(shown.min(most));
        if count > LENGTH_MAX {
            return None;
        }
        let is_unique = map.get("uniqueItems") == Some(&Value::Bool(true));
        let mut items: Vec<Value> = Vec::new();
        if let Some(schema) = map.get("contains") {
            items.push(self.value(schema, depth + 1, 0)?);
        }
        let mut turn = 0;
        while (items.len() as u64) < count {
            let schema = match first.get(items.len()) {
                Some(schema) => schema,
                None if is_closed => return None,
                None => rest.unwrap_or(&anything),
            };
            let asked = if is_unique { turn } else { 0 };
            let Some(item) = self.value(schema, depth + 1, asked) else {
                if (items.len() as u64) >= least {
                    break;
                }
                return None;
            };
            turn += 1;
            if !is_unique || !items.contains(&item) {
                items.push(item);
            } else if turn > 2 * LENGTH_MAX {
                return None;
            }
        }
        Some(Value::Array(items))
    }
}

/// Writes one schema into another. What both say of the same thing is joined where that is simple; else the later wins.
fn add(all: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        match (all.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) if key == "properties" => {
                for (name, schema) in more {
                    match known.get_mut(&name) {
                        Some(known) => *known = json!({ "allOf": [known.take(), schema] }),
                        None => {
                            known.insert(name, schema);
                        }
                    }
                }
            }
            (Some(Value::Array(known)), Value::Array(more)) if key == "required" => {
                known.extend(more);
            }
            (Some(Value::Array(known)), Value::Array(more)) if key == "enum" => {
                known.retain(|value| more.contains(value));
            }
            (Some(known), value) if key.starts_with("min") || key == "exclusiveMinimum" => {
                if value.as_f64() > known.as_f64() {
                    *known = value;
                }
            }
            (Some(known), value) if key.starts_with("max") || key == "exclusiveMaximum" => {
                if value.as_f64() < known.as_f64() {
                    *known = value;
                }
            }
            (_, value) => {
                all.insert(key, value);
            }
        }
    }
}

/// What the author shows.
fn given(map: &Map<String, Value>) -> Option<&Value> {
    let examples = map.get("examples").and_then(Value::as_array);
    map.get("example")
        .or_else(|| examples?.first())
        .or_else(|| map.get("default"))
}

fn is_annotation(key: &str) -> bool {
    matches!(
        key,
        "title"
            | "description"
            | "deprecated"
            | "readOnly"
            | "writeOnly"
            | "discriminator"
            | "$comment"
            | "$defs"
    )
}

/// The kind of value to make: the first that is named, else the one that the keywords are about.
fn kind(map: &Map<String, Value>) -> &str {
    match map.get("type") {
        Some(Value::String(kind)) => return kind,
        Some(Value::Array(kinds)) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            return kinds.find(|kind| *kind != "null").unwrap_or("null");
        }
        _ => {}
    }
    let has = |keys: &[&str]| keys.iter().any(|key| map.contains_key(*key));
    if has(&[
        "properties",
        "required",
        "additionalProperties",
        "minProperties",
    ]) {
        "object"
    } else if has(&["items", "prefixItems", "minItems", "contains"]) {
        "array"
    } else if has(&["pattern", "format", "minLength", "maxLength"]) {
        "string"
    } else if has(&[
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
    ]) {
        "number"
    } else {
        "null"
    }
}

fn text(map: &Map<String, Value>, turn: u64) -> Option<String> {
    let least = bound(map, "minLength").unwrap_or(0);
    let most = bound(map, "maxLength").unwrap_or(u64::MAX);
    if least > LENGTH_MAX || least > most {
        return None;
    }
    if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
        return (0..=least.max(turn)).rev().chain(0..1).find_map(|more| {
            let text = fitting(pattern, more)?;
            let length = text.chars().count() as u64;
            (least <= length && length <= most).then_some(text)
        });
    }
    let format = map
        .get("format")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if let Some(text) = of_format(format, turn) {
        return Some(text);
    }
    let mut text = match turn {
        0 => "text".to_owned(),
        turn => format!("text{turn}"),
    };
    let mut length = text.chars().count() as u64;
    while length < least {
        text.push('a');
        length += 1;
    }
    if length > most {
        let skipped = usize::try_from(length - most).unwrap_or(usize::MAX);
        text = text.chars().skip(skipped).collect();
    }
    Some(text)
}

fn of_format(format: &str, turn: u64) -> Option<String> {
    let n = turn % 60;
    Some(match format {
        "date-time" => format!("2026-01-01T00:00:{n:02}Z"),
        "date" => format!("2026-01-{:02}", 1 + turn % 28),
        "time" => format!("00:00:{n:02}Z"),
        "duration" => format!("P{}D", 1 + turn),
        "email" | "idn-email" => format!("user{turn}@example.com"),
        "hostname" | "idn-hostname" => format!("host{turn}.example.com"),
        "ipv4" => format!("192.0.2.{}", turn % 256),
        "ipv6" => format!("2001:db8::{turn:x}"),
        "uri" | "iri" | "url" => format!("https://example.com/{turn}"),
        "uri-reference" | "iri-reference" => format!("/{turn}"),
        "uri-template" => "/{id}".to_owned(),
        "uuid" => format!("00000000-0000-4000-8000-{turn:012x}"),
        "json-pointer" => format!("/{turn}"),
        "relative-json-pointer" => format!("{turn}"),
        "regex" => "^a$".to_owned(),
        _ => return None,
    })
}

/// A text that a pattern finds, in which what may be repeated is so `more` times.
fn fitting(pattern: &str, more: u64) -> Option<String> {
    use regex_syntax::hir::{Class, Hir, HirKind};

    fn write(hir: &Hir, more: u64, text: &mut String) -> Option<()> {
        if text.len() as u64 > LENGTH_MAX {
            return None;
        }
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
            HirKind::Class(Class::Unicode(class)) => {
                let is_plain = |c: char| c.is_ascii_alphanumeric();
                let ranges = class.ranges();
                let plain = ranges.iter().find_map(|range| {
                    let from = ['a', 'A', '0'];
                    let mut starts = from.into_iter().chain([range.start(), range.end()]);
                    starts.find(|c| is_plain(*c) && range.start() <= *c && *c <= range.end())
                });
                text.push(plain.or_else(|| Some(ranges.first()?.start()))?);
            }
            HirKind::Class(Class::Bytes(class)) => {
                text.push(char::from(class.ranges().first()?.start()));
            }
            HirKind::Repetition(repetition) => {
                let most = repetition.max.map_or(u64::MAX, u64::from);
                for _ in 0..u64::from(repetition.min).max(more.min(most)) {
                    write(&repetition.sub, more, text)?;
                }
            }
            HirKind::Capture(capture) => write(&capture.sub, more, text)?,
            HirKind::Concat(parts) => {
                for part in parts {
                    write(part, more, text)?;
                }
            }
            HirKind::Alternation(choices) => write(choices.first()?, more, text)?,
        }
        Some(())
    }

    let hir = regex_syntax::Parser::new().parse(pattern).ok()?;
    let mut text = String::new();
    write(&hir, more, &mut text)?;
    Some(text)
}

fn number(map: &Map<String, Value>, turn: u64, is_integer: bool) -> Option<Value> {
    let of = |key: &str| map.get(key).and_then(Value::as_f64);
    // In OpenAPI 3.0 the exclusive bounds are words about the others.
    let is_open = |key: &str| map.get(key) == Some(&Value::Bool(true));
    let step = of("multipleOf").filter(|step| *step > 0.0);
    let unit = step.unwrap_or(1.0);
    let (low, low_open) = match (of("minimum"), of("exclusiveMinimum")) {
        (Some(low), Some(open)) if open >= low => (Some(open), true),
        (None, Some(open)) => (Some(open), true),
        (low, _) => (low, is_open("exclusiveMinimum")),
    };
    let (high, high_open) = match (of("maximum"), of("exclusiveMaximum")) {
        (Some(high), Some(open)) if open <= high => (Some(open), true),
        (None, Some(open)) => (Some(open), true),
        (high, _) => (high, is_open("exclusiveMaximum")),
    };
    let is_within = |value: f64| {
        low.is_none_or(|low| if low_open { value > low } else { value >= low })
            && high.is_none_or(|high| {
                if high_open {
                    value < high
                } else {
                    value <= high
                }
            })
    };
    let turn = turn as f64;
    let up = low.map(|low| {
        let first = (low / unit).ceil() * unit;
        let first = if low_open && first <= low {
            first + unit
        } else {
            first
        };
        first + turn * unit
    });
    let down = high.map(|high| {
        let last = (high / unit).floor() * unit;
        let last = if high_open && last >= high {
            last - unit
        } else {
            last
        };
        last - turn * unit
    });
    let plain = [(1.0 + turn) * unit, 0.0];
    let between = match (low, high) {
        (Some(low), Some(high)) if !is_integer && step.is_none() => {
            Some(low + (high - low) / (2.0 + turn))
        }
        (Some(low), None) if !is_integer && step.is_none() => Some(low + 0.5),
        _ => None,
    };
    let candidates = plain.into_iter().chain(up).chain(down).chain(between);
    let mut fitting = candidates.filter(|value| is_within(*value));
    let value = fitting.next()?;
    if is_integer || value.fract() == 0.0 {
        return Some(Value::Number(Number::from(value as i64)));
    }
    Number::from_f64(value).map(Value::Number)
}

fn bound(map: &Map<String, Value>, key: &str) -> Option<u64> {
    let value = map.get(key)?;
    value.as_u64().or_else(|| {
        let value = value.as_f64().filter(|value| *value >= 0.0)?;
        Some(value as u64)
    })
}

fn names(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}
