//! What a route says of its requests and answers: parameters, schemas, media types. The host holds callers to it before the
//! plugin runs, and documentation is made of it.

use std::ops::Range;

use http::{HeaderName, Method};
use serde_json::Value;
use toml::Spanned;

use super::reader::{Fields, Reader, clip, read_flag, refuse_duplicates, string};
use super::route::choice;
use super::schema::{self, Schemas, Statuses};

/// Most parameters of one route.
const PARAMETERS_MAX: usize = 64;
/// Most media types of one list.
const TYPES_MAX: usize = 16;

/// What a route says of its requests and answers. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contract {
    /// In the order of the manifest.
    pub parameters: Vec<Parameter>,
    /// Of the body. It may refer to [`Schemas`] of the manifest.
    pub request_schema: Option<Value>,
    /// Of answers in JSON; the first that is for a status decides.
    pub response_schemas: Vec<(Statuses, Value)>,
    /// Media types of bodies, in small letters: `application/json`, `image/*`. Empty means all, or `application/json` with a
    /// schema.
    pub consumes: Vec<String>,
    /// Media types of answers, in small letters, without wildcards. Empty means that nothing is said.
    pub produces: Vec<String>,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Path,
    Query,
    Header,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        })
    }
}

/// A value in the path, the query or a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub place: Place,
    /// Of a header in small letters.
    pub name: String,
    /// True in the path.
    pub is_required: bool,
    /// Of the value, read by its `type`: text, a number, `true` or `false`; of an array, each occurrence of the name in the
    /// query, and each part between commas elsewhere.
    pub schema: Value,
    /// For documentation.
    pub description: Option<String>,
}

/// Methods whose requests have bodies that mean something.
const WITH_BODY: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// Headers that are the host's, or that mean something to it.
const RESERVED: [&str; 8] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "x-api-key",
];

impl Contract {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        methods: &[Method],
        path: Option<&str>,
        schemas: &Schemas,
    ) -> Self {
        let parameters = read_parameters(reader, fields, path, schemas);
        let request_schema = read_request_schema(reader, fields, methods, schemas);
        let response_schemas = schema::read_answers(reader, fields, schemas);
        let has_schema = request_schema.is_some();
        let consumes = read_types(reader, fields, "consumes", true);
        for (at, media_type) in &consumes {
            if has_schema && !is_json(media_type) {
                let message =
                    format!("`consumes`: bodies of `{media_type}` fit no `request_schema`");
                let help = "give them a route of their own, or leave the schema out";
                reader.mistake_with_help(at.clone(), message, help);
            }
        }
        let produces = read_types(reader, fields, "produces", false);
        let plain =
            |types: Vec<(Range<usize>, String)>| types.into_iter().map(|(_, name)| name).collect();
        Self {
            parameters,
            request_schema,
            response_schemas,
            consumes: plain(consumes),
            produces: plain(produces),
        }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn read_request_schema(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    methods: &[Method],
    schemas: &Schemas,
) -> Option<Value> {
    let streams = fields.has("stream");
    let value = fields.get("request_schema")?;
    if let Some(method) = methods.iter().find(|method| !WITH_BODY.contains(method)) {
        let message = format!("`request_schema`: a request of `{method}` has no body");
        let help = "give the other methods a route of their own";
        reader.mistake_with_help(value.span(), message, help);
    }
    if streams {
        let message = "a body that flows cannot be checked before the plugin has it";
        let help = "leave `stream` out, or `request_schema`";
        reader.mistake_with_help(value.span(), message, help);
    }
    schema::read_use(reader, "request_schema", value, schemas)
}

fn read_parameters(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    path: Option<&str>,
    schemas: &Schemas,
) -> Vec<Parameter> {
    let mut found = Vec::new();
    for mut fields in fields.tables(reader, "parameters", "`parameters`", PARAMETERS_MAX) {
        let at = fields.span();
        let places = [Place::Path, Place::Query, Place::Header];
        let place = fields.required_string(reader, "in", 16);
        let place = place.and_then(|text| choice(reader, "in", &text, &places));
        let name = fields.required_string(reader, "name", 100);
        let is_required = read_flag(reader, &mut fields, "required");
        let schema = match fields.get("schema") {
            Some(value) => schema::read_use(reader, "schema", value, schemas),
            // Anything, as text.
            None => Some(serde_json::json!({ "type": "string" })),
        };
        let description = fields.string(reader, "description", 500);
        fields.finish(reader, &[], &[("type", "write `schema = { type = … }`")]);
        let (Some(place), Some(name), Some(schema)) = (place, name, schema) else {
            continue;
        };
        check_name(reader, place, &name, path);
        if place == Place::Path && is_required == Some(false) {
            let message = "a parameter of the path is always there";
            reader.mistake(at.clone(), message);
        }
        let name = match place {
            Place::Header => name.get_ref().to_ascii_lowercase(),
            _ => (*name.get_ref()).to_owned(),
        };
        let parameter = Parameter {
            place,
            name,
            is_required: place == Place::Path || is_required.unwrap_or(false),
            schema,
            description: description.map(|text| (*text.get_ref()).to_owned()),
        };
        found.push((at, parameter));
    }
    let names = found.iter().map(|(at, parameter)| {
        let name = format!("{} {}", parameter.place, parameter.name);
        (at.clone(), name)
    });
    refuse_duplicates(reader, "the parameter", names);
    found.into_iter().map(|(_, parameter)| parameter).collect()
}

fn check_name(reader: &mut Reader<'_>, place: Place, name: &Spanned<&str>, path: Option<&str>) {
    let text = *name.get_ref();
    match place {
        Place::Path => {
            let is_there = |path: &str| {
                path.contains(&format!("{{{text}}}")) || path.contains(&format!("{{*{text}}}"))
            };
            if path.is_some_and(|path| !is_there(path)) {
                let message = format!("`path` has no parameter `{}`", clip(text));
                reader.mistake(name.span(), message);
            }
        }
        Place::Header => {
            let lower = text.to_ascii_lowercase();
            if HeaderName::try_from(lower.as_str()).is_err() {
                let message = format!("`{}` is not the name of a header", clip(text));
                reader.mistake(name.span(), message);
            } else if RESERVED.contains(&lower.as_str()) {
                let message = format!("the header `{lower}` is the host's to read");
                let help = "`auth`, `consumes` and `produces` say what it must be";
                reader.mistake_with_help(name.span(), message, help);
            }
        }
        Place::Query => {}
    }
}

fn read_types(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    may_be_wild: bool,
) -> Vec<(Range<usize>, String)> {
    let mut types = Vec::new();
    for value in fields.list(reader, key, TYPES_MAX) {
        let Some(text) = string(reader, key, value, 100) else {
            continue;
        };
        let lower = text.get_ref().to_ascii_lowercase();
        if is_media_type(&lower, may_be_wild) {
            types.push((text.span(), lower));
        } else {
            let message = format!("`{key}`: `{}` is not a media type", clip(text.get_ref()));
            let help = "for example `application/json`, without parameters";
            reader.mistake_with_help(text.span(), message, help);
        }
    }
    let names = types.iter().map(|(at, name)| (at.clone(), name.as_str()));
    refuse_duplicates(reader, "the media type", names);
    types
}

fn is_media_type(text: &str, may_be_wild: bool) -> bool {
    let is_token = |part: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
        !part.is_empty() && part.chars().all(is_plain)
    };
    text.split_once('/').is_some_and(|(kind, rest)| {
        is_token(kind) && (is_token(rest) || (may_be_wild && rest == "*"))
    })
}

/// Whether bodies of this type are JSON: `application/json`, `application/merge-patch+json`.
pub fn is_json(media_type: &str) -> bool {
    media_type == "application/json" || media_type.ends_with("+json")
}
