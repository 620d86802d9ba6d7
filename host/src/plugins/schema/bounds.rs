//! What a schema may be: keywords that are known, references to what stands in the same manifest and never to itself, and
//! work that its size bounds.

use std::collections::BTreeMap;

use serde_json::Value;

/// How a schema refers to one that has a name.
pub const NAMED: &str = "#/$defs/";
/// Most keywords that may be looked at for one value, references followed.
pub const WORK_MAX: usize = 2000;
/// Deepest nesting, references followed.
const DEPTH_MAX: usize = 32;
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1000;
/// Most patterns in one schema, references followed.
const PATTERNS_MAX: usize = 100;

/// Keywords whose value is a schema.
const ONE: [&str; 9] = [
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "$ref",
];
/// Keywords whose value is a list of schemas.
const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value is a table of schemas.
const TABLE: [&str; 3] = ["dependentSchemas", "patternProperties", "properties"];
/// Keywords that say something of a value themselves.
const PLAIN: [&str; 19] = [
    "const",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
];
/// Keywords for people.
const WORDS: [&str; 11] = [
    "$comment",
    "default",
    "deprecated",
    "description",
    "example",
    "examples",
    "readOnly",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
];

/// Goes through the schemas of one manifest.
pub struct Bounds<'a> {
    named: &'a BTreeMap<String, Value>,
    /// What has been seen of those with a name.
    seen: BTreeMap<&'a str, Seen>,
}

#[derive(Clone, Copy)]
enum Seen {
    /// It is being looked at: who refers to it now, refers to itself.
    Open,
    Done(Cost),
}

#[derive(Clone, Copy, Default)]
struct Cost {
    work: usize,
    patterns: usize,
    depth: usize,
}

impl<'a> Bounds<'a> {
    /// Schemas that may refer to these.
    pub fn new(named: &'a BTreeMap<String, Value>) -> Self {
        Self {
            named,
            seen: BTreeMap::new(),
        }
    }

    /// How much work a schema is at most. The error is a sentence for the author.
    pub fn work(&mut self, schema: &Value) -> Result<usize, String> {
        Ok(self.schema(schema, 0)?.work)
    }

    /// The names that were referred to so far.
    pub(super) fn used(&self) -> impl Iterator<Item = &'a str> {
        self.seen.keys().copied()
    }

    fn schema(&mut self, schema: &Value, depth: usize) -> Result<Cost, String> {
        if depth > DEPTH_MAX {
            return Err(format!(
                "the schema is nested deeper than {DEPTH_MAX} levels"
            ));
        }
        let keywords = match schema {
            Value::Bool(_) => return Cost::default().and(1),
            Value::Object(keywords) => keywords,
            _ => return Err("a schema is a table, or true or false".to_owned()),
        };
        let mut cost = Cost::default();
        for (keyword, value) in keywords {
            let more = self.keyword(keyword, value, depth + 1)?;
            cost = cost.with(more)?.and(1)?;
        }
        Ok(cost)
    }

    fn keyword(&mut self, keyword: &str, value: &Value, depth: usize) -> Result<Cost, String> {
        let mut cost = Cost::default();
        match keyword {
            "$ref" => return self.reference(value, depth),
            _ if ONE.contains(&keyword) => return self.schema(value, depth),
            _ if LIST.contains(&keyword) => {
                let list = value.as_array();
                for schema in list.ok_or_else(|| format!("`{keyword}` has a list of schemas"))? {
                    cost = cost.with(self.schema(schema, depth)?)?;
                }
            }
            _ if TABLE.contains(&keyword) => {
                let table = value.as_object();
                let table = table.ok_or_else(|| format!("`{keyword}` has a table of schemas"))?;
                for (name, schema) in table {
                    if keyword == "patternProperties" {
                        cost = cost.with(pattern(name)?)?;
                    }
                    cost = cost.with(self.schema(schema, depth)?)?;
                }
            }
            "pattern" => cost = pattern(value.as_str().unwrap_or_default())?,
            // Each word of a list is looked at.
            _ if PLAIN.contains(&keyword) => cost = cost.and(size(value))?,
            _ if WORDS.contains(&keyword) || keyword.starts_with("x-") => {}
            "$defs" | "definitions" => {
                let help = "put it under `[schemas]` with a name and refer to it by `#/$defs/NAME`";
                return Err(format!("`{keyword}` within a schema is not read; {help}"));
            }
            "unevaluatedItems" | "unevaluatedProperties" => {
                let plain = keyword.replace("unevaluated", "additional");
                let plain = plain.replace("additionalItems", "items");
                return Err(format!("`{keyword}` is not supported; write `{plain}`"));
            }
            other => {
                let near = nearest(other);
                let near =
                    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let other: String = other.chars().take(64).filter(|c| !c.is_control()).collect();
                return Err(format!("`{other}` is no keyword of schemas here{near}"));
            }
        }
        Ok(cost)
    }

    fn reference(&mut self, value: &Value, depth: usize) -> Result<Cost, String> {
        let text = value.as_str().unwrap_or_default();
        let name = text.strip_prefix(NAMED).unwrap_or_default();
        let Some((name, schema)) = self.named.get_key_value(name) else {
            let shown: String = text.chars().take(64).filter(|c| !c.is_control()).collect();
            return Err(format!(
                "`$ref = \"{shown}\"` leads nowhere; write `{NAMED}NAME` and `[schemas.NAME]`"
            ));
        };
        match self.seen.get(name.as_str()) {
            Some(Seen::Open) => Err(format!(
                "the schema `{name}` refers to itself; write as many levels as you need"
            )),
            Some(Seen::Done(cost)) if depth + cost.depth <= DEPTH_MAX => Ok(*cost),
            _ => {
                self.seen.insert(name, Seen::Open);
                let mut cost = self.schema(schema, depth)?;
                cost.depth = deepest(schema);
                self.seen.insert(name, Seen::Done(cost));
                Ok(cost)
            }
        }
    }
}

impl Cost {
    fn and(self, work: usize) -> Result<Self, String> {
        self.with(Self {
            work,
            ..Self::default()
        })
    }

    fn with(self, other: Self) -> Result<Self, String> {
        let sum = Self {
            work: self.work.saturating_add(other.work),
            patterns: self.patterns.saturating_add(other.patterns),
            depth: self.depth.max(other.depth),
        };
        if sum.work > WORK_MAX {
            return Err(format!(
                "the schema has more than {WORK_MAX} keywords, those of schemas that it refers to counted each time"
            ));
        }
        if sum.patterns > PATTERNS_MAX {
            return Err(format!("the schema has more than {PATTERNS_MAX} patterns"));
        }
        Ok(sum)
    }
}

fn pattern(text: &str) -> Result<Cost, String> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("a pattern has at most {PATTERN_BYTES_MAX} bytes"));
    }
    Ok(Cost {
        work: 1,
        patterns: 1,
        depth: 0,
    })
}

/// How deep a schema goes by itself. Those that it refers to were looked at from where it stood.
fn deepest(schema: &Value) -> usize {
    match schema {
        Value::Object(object) => 1 + object.values().map(deepest).max().unwrap_or_default(),
        Value::Array(list) => list.iter().map(deepest).max().unwrap_or_default(),
        _ => 0,
    }
}

/// How many values there are in this one.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(object) => object.values().map(size).sum(),
        _ => 1,
    }
}

fn nearest(word: &str) -> Option<&'static str> {
    let known = ONE
        .iter()
        .chain(&LIST)
        .chain(&TABLE)
        .chain(&PLAIN)
        .chain(&WORDS);
    let word: String = word.chars().take(64).collect();
    known
        .map(|known| (strsim::damerau_levenshtein(&word, known), *known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}
