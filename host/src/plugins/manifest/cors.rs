//! `[cors]`: pages of which other origins may call, at the top for all routes and in a route for itself.

use std::time::Duration;

use http::HeaderName;
use toml::Spanned;

use super::ENTRIES_MAX;
use super::reader::{Fields, Reader, parsed, read_flag, refuse_duplicates};
use crate::plugins::cors::{ANY_WITH_CREDENTIALS, MAX_AGE_MAX, ORIGINS_MAX, origin};

/// Pages of which other origins may call. The operator's word counts more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    /// Exact, as browsers send them; or `*` alone.
    pub origins: Vec<String>,
    /// Request headers that pages may send. Empty means those that APIs need.
    pub headers: Vec<HeaderName>,
    /// Answer headers that pages may read. Empty means those that APIs need.
    pub expose: Vec<HeaderName>,
    /// Whether cookies come with their requests.
    pub credentials: bool,
    /// How long browsers may remember.
    pub max_age: Option<Duration>,
}

impl Cors {
    pub(super) fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Self> {
        let mut fields = fields.table(reader, "cors", "`cors`")?;
        let mut origins = Vec::new();
        for text in fields.strings(reader, "origins", ORIGINS_MAX, 300) {
            match origin(text.get_ref()) {
                _ if *text.get_ref() == "*" => {}
                Ok(_) => {}
                Err(error) => reader.mistake(text.span(), format!("`origins`: {error}")),
            }
            origins.push((text.span(), (*text.get_ref()).to_owned()));
        }
        refuse_duplicates(reader, "the origin", origins.iter().cloned());
        let headers = read_names(reader, &mut fields, "headers");
        let expose = read_names(reader, &mut fields, "expose");
        let credentials = read_flag(reader, &mut fields, "credentials").unwrap_or(false);
        if let Some((at, _)) = origins.iter().find(|(_, text)| text == "*") {
            if credentials {
                reader.mistake(at.clone(), ANY_WITH_CREDENTIALS);
            } else if origins.len() > 1 {
                reader.mistake(at.clone(), "`*` is all origins: leave the others out");
            }
        }
        let max_age = fields.duration(reader, "max_age", Duration::ZERO..=MAX_AGE_MAX);
        fields.finish(
            reader,
            &[],
            &[
                ("origin", "did you mean `origins`?"),
                ("methods", "those of the routes are allowed"),
            ],
        );
        Some(Self {
            origins: origins.into_iter().map(|(_, text)| text).collect(),
            headers,
            expose,
            credentials,
            max_age: max_age.map(Spanned::into_inner),
        })
    }
}

fn read_names(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<HeaderName> {
    let texts = fields.strings(reader, key, ENTRIES_MAX, 100);
    let names = texts
        .iter()
        .filter_map(|text| parsed::<HeaderName>(reader, key, text));
    names.map(Spanned::into_inner).collect()
}
