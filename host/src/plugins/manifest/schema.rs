//! `[schemas]`: JSON Schemas with a name, and the places where routes use them.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::{Spanned, de::DeValue};

use super::ENTRIES_MAX;
use super::config::json;
use super::reader::{Fields, Reader, clip, nearest, refuse_duplicates};
use crate::plugins::schema::NAMED;

/// Schemas by name. They refer to one another by `#/$defs/NAME`, and so do routes.
pub type Schemas = BTreeMap<String, Value>;

/// Reads all schemas with a name. Whether they can be used is decided in `validate`.
pub(super) fn read_all(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Schemas {
    let mut schemas = Schemas::new();
    let Some(value) = fields.get("schemas") else {
        return schemas;
    };
    let DeValue::Table(table) = value.get_ref() else {
        reader.mistake(value.span(), "`[schemas]` must be a table of schemas");
        return schemas;
    };
    if table.len() > ENTRIES_MAX {
        let message = format!("`[schemas]` has more than {ENTRIES_MAX} entries");
        reader.mistake(value.span(), message);
        return schemas;
    }
    for (name, value) in table {
        let text: &str = name.get_ref();
        if !is_name(text) {
            let message = format!("`{}` is no name of a schema", clip(text));
            let help = "1 to 64 letters, digits, `_` and `-`";
            reader.mistake_with_help(name.span(), message, help);
            continue;
        }
        if let Some(schema) = read(reader, value) {
            reader.remember(format!("schema:{text}"), name.span());
            schemas.insert(text.to_owned(), schema);
        }
    }
    schemas
}

/// The schema that stands here, or the one whose name does.
pub(super) fn read_use(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    schemas: &Schemas,
) -> Option<Value> {
    let DeValue::String(name) = value.get_ref() else {
        return read(reader, value);
    };
    if !schemas.contains_key(name.as_ref()) {
        let known: Vec<&str> = schemas.keys().map(String::as_str).collect();
        let message = format!("`{key}`: there is no schema `{}`", clip(name));
        let help = match nearest(name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add `[schemas.{}]`", clip(name)),
        };
        reader.mistake_with_help(value.span(), message, help);
        return None;
    }
    Some(serde_json::json!({ "$ref": format!("{NAMED}{name}") }))
}

/// A schema as a table, or as JSON in a string.
fn read(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let found = match value.get_ref() {
        DeValue::Table(_) | DeValue::Boolean(_) => json(value, 0),
        DeValue::String(text) => crate::plugins::schema::json::read(text.as_bytes())
            .map_err(|error| (value.span(), error.to_string())),
        _ => {
            let message = "a schema is a table, or JSON in a string";
            Err((value.span(), message.to_owned()))
        }
    };
    match found {
        Ok(schema) => Some(schema),
        Err((at, message)) => {
            reader.mistake(at, message);
            None
        }
    }
}

/// The schemas of answers, by status: `200`, `4xx`, `default`. A schema alone is that of `2xx`.
pub(super) fn read_answers(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    schemas: &Schemas,
) -> Vec<(Statuses, Value)> {
    let key = "response_schema";
    let Some(value) = fields.get(key) else {
        return Vec::new();
    };
    let by_status = match value.get_ref() {
        DeValue::Table(table) => {
            let is_status =
                |name: &Spanned<_>| Statuses::parse(AsRef::<str>::as_ref(name.get_ref())).is_some();
            let all = !table.is_empty() && table.keys().all(is_status);
            all.then_some(table)
        }
        _ => None,
    };
    let Some(table) = by_status else {
        let schema = read_use(reader, key, value, schemas);
        return schema
            .into_iter()
            .map(|schema| (Statuses::Class(2), schema))
            .collect();
    };
    let mut answers = Vec::new();
    for (name, value) in table.iter().take(ENTRIES_MAX) {
        let statuses = Statuses::parse(name.get_ref().as_ref());
        let schema = read_use(reader, key, value, schemas);
        if let (Some(statuses), Some(schema)) = (statuses, schema) {
            answers.push((name.span(), statuses, schema));
        }
    }
    let found = answers
        .iter()
        .map(|(at, statuses, _)| (at.clone(), *statuses));
    refuse_duplicates(reader, "the status", found);
    let mut answers: Vec<_> = answers
        .into_iter()
        .map(|(_, statuses, schema)| (statuses, schema))
        .collect();
    // The narrowest first: it decides.
    answers.sort_by_key(|(statuses, _)| *statuses);
    answers
}

/// Which answers a schema is for. In the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statuses {
    /// This one.
    One(u16),
    /// All that begin with this digit: `2xx`.
    Class(u16),
    /// All that no other schema is for: `default`.
    Others,
}

impl Statuses {
    fn parse(text: &str) -> Option<Self> {
        if text == "default" {
            return Some(Self::Others);
        }
        let (first, rest) = text.split_at_checked(1)?;
        let class = first.parse().ok().filter(|class| (1..=5).contains(class))?;
        if rest.eq_ignore_ascii_case("xx") {
            return Some(Self::Class(class));
        }
        let status = text.parse().ok()?;
        (text.len() == 3 && (100..600).contains(&status)).then_some(Self::One(status))
    }

    /// Whether it is for this status.
    pub fn has(self, status: u16) -> bool {
        match self {
            Self::One(own) => own == status,
            Self::Class(class) => status / 100 == class,
            Self::Others => true,
        }
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
            Self::Others => f.write_str("default"),
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (1..=64).contains(&name.len()) && name.chars().all(is_plain)
}
