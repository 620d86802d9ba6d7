//! `filters`, of all routes and of one: what stands before and behind the plugin. `[filter]`: what a filter wants to see.

use toml::{Spanned, de::DeValue};

use super::reader::{Fields, Reader, clip, nearest, refuse_duplicates, string};
use super::route::choice;
use crate::ids::PluginName;
use crate::plugins::filters::{
    BODY_LIMIT, FilterUse, HEADERS, HeaderRules, NAMES, Native, OnFailure, PLUGIN, Reach,
    SECURITY_HEADERS, What, Written,
};
use crate::runtime::HeaderChange;

/// Most filters in one list.
const FILTERS_MAX: usize = 16;
/// Most headers in one rule.
const HEADERS_MAX: usize = 32;
/// Most bytes of the value of a header.
const VALUE_BYTES_MAX: usize = 1024;

/// `[filter]`: the bodies that a filter wants to see, in bytes. What is not set is not handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterBodies {
    pub request_body_max: Option<u64>,
    pub response_body_max: Option<u64>,
}

impl FilterBodies {
    pub(super) fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Self {
        let request = fields.size(reader, "request_body_max", 1..=1 << 30);
        let response = fields.size(reader, "response_body_max", 1..=1 << 30);
        for (key, found) in [
            ("filter.request_body_max", &request),
            ("filter.response_body_max", &response),
        ] {
            if let Some(found) = found {
                reader.remember(key.to_owned(), found.span());
            }
        }
        let help = "write `request_body_max` or `response_body_max`";
        fields.finish(
            reader,
            &[],
            &[
                ("body_bytes_max", help),
                ("body_max", help),
                ("use", "write `[[filters]]`"),
            ],
        );
        Self {
            request_body_max: request.map(Spanned::into_inner),
            response_body_max: response.map(Spanned::into_inner),
        }
    }
}

/// A list of filters, outermost first.
pub(super) fn read_all(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Vec<FilterUse> {
    let mut filters = Vec::new();
    let mut names = Vec::new();
    for fields in fields.tables(reader, "filters", "an entry of `filters`", FILTERS_MAX) {
        let at = fields.span();
        reader.remember("filters".to_owned(), at.clone());
        if let Some(what) = read(reader, fields) {
            let name = match &what {
                What::Native(native) => native.name().to_owned(),
                What::Plugin { name, .. } => {
                    reader.remember(format!("filter:{name}"), at.clone());
                    format!("{PLUGIN}{name}")
                }
            };
            names.push((at, name));
            filters.push(FilterUse { what });
        }
    }
    refuse_duplicates(reader, "the filter", names);
    filters
}

fn read(reader: &mut Reader<'_>, mut fields: Fields<'_, '_>) -> Option<What> {
    let named = fields.required_string(reader, "use", 80);
    let Some(named) = named else {
        // Known, so that one mistake does not make the other keys look wrong.
        for key in ["on_failure", "request", "response", "body_bytes_max"] {
            fields.get(key);
        }
        fields.finish(reader, &[], &[("plugin", "write `use = \"plugin:NAME\"`")]);
        return None;
    };
    let what = match named.get_ref().strip_prefix(PLUGIN) {
        Some(name) => read_plugin(reader, &mut fields, &named, name),
        None => read_native(reader, &mut fields, &named).map(What::Native),
    };
    fields.finish(reader, &["config", "methods", "when"], &[]);
    what
}

fn read_plugin(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    named: &Spanned<&str>,
    name: &str,
) -> Option<What> {
    let name = match name.parse::<PluginName>() {
        Ok(name) => Some(name),
        Err(error) => {
            reader.mistake(named.span(), format!("`use`: {error}"));
            None
        }
    };
    if !fields.has("on_failure") {
        let message = format!("`on_failure` of `{}` is missing", clip(named.get_ref()));
        let help = "write `on_failure = \"closed\"` (a request gets an error when the filter fails) \
                    or `\"open\"` (it goes on without)";
        reader.mistake_with_help(fields.span(), message, help);
    }
    let on_failure = fields.string(reader, "on_failure", 16);
    let on_failure = on_failure.and_then(|text| {
        let choices = [OnFailure::Open, OnFailure::Closed];
        choice(reader, "on_failure", &text, &choices)
    });
    Some(What::Plugin {
        name: name?,
        on_failure: on_failure?,
    })
}

fn read_native(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    named: &Spanned<&str>,
) -> Option<Native> {
    if let Some(value) = fields.get("on_failure") {
        let message = "`on_failure` is for plugins; the host's own filters do not fail";
        reader.mistake(value.span(), message);
    }
    match *named.get_ref() {
        SECURITY_HEADERS => Some(Native::SecurityHeaders),
        BODY_LIMIT => {
            if !fields.has("body_bytes_max") {
                let help = "write for example `body_bytes_max = \"1MiB\"`";
                let message = "`body_bytes_max` of `body-limit` is missing";
                reader.mistake_with_help(fields.span(), message, help);
            }
            let bytes = fields.size(reader, "body_bytes_max", 0..=1 << 30)?;
            let bytes_max = usize::try_from(bytes.into_inner()).unwrap_or(usize::MAX);
            Some(Native::BodyLimit { bytes_max })
        }
        HEADERS => Some(Native::Headers(HeaderRules {
            request: read_rules(reader, fields, "request"),
            response: read_rules(reader, fields, "response"),
        })),
        other => {
            for key in ["request", "response", "body_bytes_max"] {
                fields.get(key);
            }
            let message = format!("there is no filter `{}`", clip(other));
            let help = match nearest(other, &NAMES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `plugin:NAME` or one of {}", NAMES.join(", ")),
            };
            reader.mistake_with_help(named.span(), message, help);
            None
        }
    }
}

/// `request = { set = { name = "value" }, remove = ["name"] }`.
fn read_rules(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<HeaderChange> {
    let Some(mut fields) = fields.table(reader, key, "a rule of `headers`") else {
        return Vec::new();
    };
    let at = fields.span();
    let mut written = Written::default();
    if let Some(value) = fields.get("set") {
        match value.get_ref() {
            DeValue::Table(table) if table.len() <= HEADERS_MAX => {
                for (name, value) in table {
                    if let Some(text) = string(reader, "set", value, VALUE_BYTES_MAX) {
                        written.set.push((name.get_ref(), *text.get_ref()));
                    }
                }
            }
            DeValue::Table(_) => {
                reader.mistake(
                    value.span(),
                    format!("`set` has at most {HEADERS_MAX} headers"),
                );
            }
            _ => {
                let help = "write `set = { cache-control = \"no-store\" }`";
                reader.mistake_with_help(value.span(), "`set` must be a table", help);
            }
        }
    }
    let remove = fields.strings(reader, "remove", HEADERS_MAX, 64);
    written.remove = remove.iter().map(|name| *name.get_ref()).collect();
    let mut mistakes = Vec::new();
    let changes = written.into_changes(key == "request", Reach::Plugin, &mut mistakes);
    for mistake in mistakes {
        reader.mistake(at.clone(), mistake);
    }
    fields.finish(reader, &["add"], &[]);
    changes
}
