//! What an author writes for those who read about the API: `[docs]`, and of a route its description, its errors, its
//! examples and whether the host answers for it.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;

use super::ENTRIES_MAX;
use super::config::json;
use super::reader::{Fields, Reader, clip, refuse_duplicates, string};

/// Most bytes of a description.
const TEXT_BYTES_MAX: usize = 4000;
/// Most error codes of one route.
const ERRORS_MAX: usize = 50;

/// About the API as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Docs {
    /// Its name for readers. Nothing means that of the plugin.
    pub title: Option<String>,
    /// What it is for, in Markdown. Nothing means the description of the plugin.
    pub description: Option<String>,
    /// What the groups of routes are about, by tag, in Markdown.
    pub tags: BTreeMap<String, String>,
}

/// About one route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteDocs {
    /// What it does, in Markdown.
    pub description: Option<String>,
    /// Whether documents have it at all. Default: true.
    pub is_documented: bool,
    /// Errors that the plugin answers with.
    pub errors: Vec<DeclaredError>,
    /// A body of a request.
    pub example_request: Option<Value>,
    /// The body of an answer to it.
    pub example_response: Option<Value>,
    /// Whether the host answers with the example in the plugin's place.
    pub is_mock: bool,
}

/// An error that a plugin answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredError {
    /// 400 to 599.
    pub status: u16,
    /// `orders.closed`
    pub code: String,
    pub description: Option<String>,
}

impl Default for RouteDocs {
    fn default() -> Self {
        Self {
            description: None,
            is_documented: true,
            errors: Vec::new(),
            example_request: None,
            example_response: None,
            is_mock: false,
        }
    }
}

impl Docs {
    pub(super) fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Self {
        let Some(mut table) = fields.table(reader, "docs", "`[docs]`") else {
            return Self::default();
        };
        let title = table.string(reader, "title", 100);
        let description = markdown(reader, &mut table, "description");
        let mut tags = BTreeMap::new();
        if let Some(value) = table.get("tags") {
            match value.get_ref().as_table() {
                Some(list) if list.len() <= ENTRIES_MAX => {
                    for (name, value) in list {
                        if let Some(text) = text_of(reader, "tags", value) {
                            let name: &str = name.get_ref();
                            tags.insert(name.to_owned(), text);
                        }
                    }
                }
                _ => {
                    let help = "write `tags = { Orders = \"What they are\" }`";
                    let message = format!("`tags` is a table with at most {ENTRIES_MAX} entries");
                    reader.mistake_with_help(value.span(), message, help);
                }
            }
        }
        table.finish(reader, &[], &[]);
        Self {
            title: title.map(|title| (*title.get_ref()).to_owned()),
            description,
            tags,
        }
    }
}

impl RouteDocs {
    pub(super) fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Self {
        let description = markdown(reader, fields, "description");
        let is_documented = boolean(reader, fields, "documented").unwrap_or(true);
        let is_mock = boolean(reader, fields, "mock").unwrap_or(false);
        let errors = read_errors(reader, fields);
        let (mut example_request, mut example_response) = (None, None);
        if let Some(mut table) = fields.table(reader, "example", "`example`") {
            example_request = value(reader, &mut table, "request");
            example_response = value(reader, &mut table, "response");
            table.finish(reader, &[], &[("body", "write `request` or `response`")]);
        }
        Self {
            description,
            is_documented,
            errors,
            example_request,
            example_response,
            is_mock,
        }
    }
}

fn read_errors(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<DeclaredError> {
    let mut errors = Vec::new();
    for mut table in fields.tables(reader, "errors", "`errors`", ERRORS_MAX) {
        let at = table.span();
        for key in ["status", "code"] {
            if !table.has(key) {
                let help = "for example `errors = [{ status = 409, code = \"orders.closed\" }]`";
                let message = format!("`{key}` is missing in `errors`");
                reader.mistake_with_help(at.clone(), message, help);
            }
        }
        let status = table.integer(reader, "status", 400..=599);
        let code = table.string(reader, "code", 100);
        if let Some(code) = &code
            && !is_code(code.get_ref())
        {
            let message = format!("`{}` is no code", clip(code.get_ref()));
            let help = "letters, digits, `.`, `_` and `-`: `orders.closed`";
            reader.mistake_with_help(code.span(), message, help);
        }
        let description = table.string(reader, "description", 300);
        table.finish(reader, &[], &[]);
        let (Some(status), Some(code)) = (status, code) else {
            continue;
        };
        let error = DeclaredError {
            // Within bounds, as it was read.
            status: u16::try_from(status.into_inner()).unwrap_or(500),
            code: (*code.get_ref()).to_owned(),
            description: description.map(|text| (*text.get_ref()).to_owned()),
        };
        errors.push((at, error));
    }
    let keys = errors
        .iter()
        .map(|(at, error)| (at.clone(), format!("{} {}", error.status, error.code)));
    let keys: Vec<_> = keys.collect();
    refuse_duplicates(reader, "the error", keys);
    errors.into_iter().map(|(_, error)| error).collect()
}

fn is_code(code: &str) -> bool {
    code.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn value(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Value> {
    match json(fields.get(key)?, 0) {
        Ok(value) => Some(value),
        Err((at, message)) => {
            reader.mistake(at, message);
            None
        }
    }
}

fn boolean(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Option<bool> {
    let value = fields.get(key)?;
    let found = value.get_ref().as_bool();
    if found.is_none() {
        reader.mistake(value.span(), format!("`{key}` must be true or false"));
    }
    found
}

/// A text that may have several lines.
fn markdown(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Option<String> {
    let value = fields.get(key)?;
    text_of(reader, key, value)
}

fn text_of(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Spanned<toml::de::DeValue<'_>>,
) -> Option<String> {
    let Some(text) = value.get_ref().as_str() else {
        // Tells what it is instead.
        string(reader, key, value, TEXT_BYTES_MAX);
        return None;
    };
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    if text.len() > TEXT_BYTES_MAX || !text.replace("\r\n", "\n").chars().all(is_plain) {
        let message = format!(
            "`{key}` is text without control characters and has at most {TEXT_BYTES_MAX} bytes"
        );
        reader.mistake(value.span(), message);
        return None;
    }
    Some(text.replace("\r\n", "\n").trim().to_owned())
}
