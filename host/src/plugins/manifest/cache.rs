//! `cache` and `idempotency` of a route: which answers are kept, for whom and for how long, and which requests are done
//! once however often they are sent.

use std::{fmt, ops::Range, time::Duration};

use http::{HeaderName, Method, header};
use toml::{Spanned, de::DeValue};

use super::reader::{Fields, Reader, clip, parsed, refuse_duplicates};
use super::route::{Auth, choice};
use crate::cache::{TAGS_MAX, Tag};

/// Which answers of a route are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCache {
    /// How long an answer is fresh, at most: the answer itself can say less.
    pub ttl: Duration,
    /// After that, how long it is given out while it is made anew. Default: not at all.
    pub stale_while_revalidate: Duration,
    /// How long it is given out if making it anew fails. Default: not at all.
    pub stale_if_error: Duration,
    /// Headers of the request that decide the answer, beside host, path and query. In small letters, none twice.
    pub vary: Vec<HeaderName>,
    /// What the answers are purged by, beside what they say themselves.
    pub tags: Vec<TagPattern>,
    /// Whether everybody who may call the route gets the same answer; then the plugin does not see who calls. Default: each
    /// caller has answers of their own.
    pub is_shared: bool,
    /// Whether the plugin does without cookies here. Default: requests with cookies pass the cache by.
    pub ignores_cookies: bool,
}

/// A tag in which parameters of the path can stand: `order:{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Param(String),
}

impl TagPattern {
    /// The tag for a request; nothing if a parameter makes it none.
    pub fn fill(&self, params: &[(String, String)]) -> Option<Tag> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Param(name) => {
                    let (_, value) = params.iter().find(|(other, _)| other == name)?;
                    text.push_str(value);
                }
            }
        }
        text.parse().ok()
    }

    /// The error is the reason, for people.
    fn read(text: &str, path: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, behind) = behind
                .split_once('}')
                .ok_or_else(|| "a `{` without a `}`".to_owned())?;
            let is_in_path = [format!("{{{name}}}"), format!("{{*{name}}}")];
            if name.is_empty() || !is_in_path.iter().any(|param| path.contains(param)) {
                return Err(format!("the path has no parameter `{}`", clip(name)));
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Param(name.to_owned()));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        let sample: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Param(_) => "x",
            })
            .collect();
        sample.parse::<Tag>().map_err(|error| error.to_string())?;
        Ok(Self(pieces))
    }
}

/// Whether requests that change something carry a key by which they are done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// Those that have a key are done once.
    Optional,
    /// Those without are refused.
    Required,
}

impl fmt::Display for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Headers that an answer can depend on, at most.
const VARY_MAX: usize = 8;
const HELP: &str = "write for example `cache = { ttl = \"60s\" }`";

impl RouteCache {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        path: &str,
        methods: &[Method],
        auth: Option<Auth>,
        stream: Option<&Range<usize>>,
    ) -> Option<Self> {
        let mut fields = fields.table(reader, "cache", "`cache`")?;
        let at = fields.span();
        if !fields.has("ttl") {
            reader.mistake_with_help(at.clone(), "`ttl` is missing in `cache`", HELP);
        }
        if !methods.is_empty() && !methods.iter().any(is_read) {
            let message =
                "`cache` is for routes with GET or HEAD; answers to other methods are not kept";
            reader.mistake(at.clone(), message);
        }
        if let Some(stream) = stream {
            let message = "`stream` and `cache` exclude each other: what flows is not kept";
            reader.mistake(stream.clone(), message);
        }
        let ttl = fields.duration(reader, "ttl", SECOND..=30 * DAY);
        let mut stale = |key| {
            let time = fields.duration(reader, key, SECOND..=30 * DAY);
            time.map_or(Duration::ZERO, Spanned::into_inner)
        };
        let stale_while_revalidate = stale("stale_while_revalidate");
        let stale_if_error = stale("stale_if_error");
        let ignores_cookies = read_truth(reader, &mut fields, "ignore_cookies");
        let ignores_cookies = ignores_cookies.is_some_and(|(_, is)| is);
        let vary = read_vary(reader, &mut fields, ignores_cookies);
        let tags = read_tags(reader, &mut fields, path);
        let shared = read_truth(reader, &mut fields, "shared");
        if let (Some((at, true)), Some(Auth::Public)) = (&shared, auth) {
            let message = "`shared` says nothing on a route with `auth = \"public\"`: its answers are for everybody";
            reader.mistake(at.clone(), message);
        }
        fields.finish(
            reader,
            &["statuses", "query"],
            &[
                ("headers", "did you mean `vary`?"),
                ("max_age", "did you mean `ttl`?"),
                (
                    "private",
                    "answers are private to each caller unless `shared = true`",
                ),
                ("swr", "did you mean `stale_while_revalidate`?"),
            ],
        );
        Some(Self {
            ttl: ttl?.into_inner(),
            stale_while_revalidate,
            stale_if_error,
            vary,
            tags,
            is_shared: shared.is_some_and(|(_, is)| is),
            ignores_cookies,
        })
    }
}

impl Idempotency {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        methods: &[Method],
        stream: Option<&Range<usize>>,
    ) -> Option<Self> {
        let text = fields.string(reader, "idempotency", 32)?;
        if !methods.is_empty() && methods.iter().all(is_safe) {
            let message = "`idempotency` is for methods that change something";
            reader.mistake(text.span(), message);
        }
        if let Some(stream) = stream {
            let message =
                "`stream` and `idempotency` exclude each other: an answer that flows is not stored";
            reader.mistake(stream.clone(), message);
        }
        choice(
            reader,
            "idempotency",
            &text,
            &[Self::Optional, Self::Required],
        )
    }
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

fn is_safe(method: &Method) -> bool {
    is_read(method) || *method == Method::OPTIONS
}

fn read_vary(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    ignores_cookies: bool,
) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for text in fields.strings(reader, "vary", VARY_MAX, 64) {
        let Some(name) = parsed::<HeaderName>(reader, "vary", &text) else {
            continue;
        };
        let refusal = match name.get_ref() {
            name if *name == header::AUTHORIZATION || name == "x-api-key" => {
                Some("plugins do not see credentials; answers are kept for each caller anyway")
            }
            name if *name == header::HOST => Some("the host name is part of the key anyway"),
            name if *name == header::COOKIE && ignores_cookies => {
                Some("with `ignore_cookies` the plugin sees none")
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            let message = format!("`vary` cannot name `{}`: {refusal}", name.get_ref());
            reader.mistake(text.span(), message);
        }
        names.push((text.span(), name.into_inner()));
    }
    let texts = names.iter().map(|(at, name)| (at.clone(), name.as_str()));
    refuse_duplicates(reader, "the header", texts);
    names.into_iter().map(|(_, name)| name).collect()
}

fn read_tags(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>, path: &str) -> Vec<TagPattern> {
    let mut tags = Vec::new();
    let mut texts = Vec::new();
    for text in fields.strings(reader, "tags", TAGS_MAX, 128) {
        texts.push((text.span(), *text.get_ref()));
        match TagPattern::read(text.get_ref(), path) {
            Ok(tag) => tags.push(tag),
            Err(reason) => reader.mistake(text.span(), format!("`tags`: {reason}")),
        }
    }
    refuse_duplicates(reader, "the tag", texts);
    tags
}

/// A value that is true or false, and its place.
fn read_truth(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Option<(Range<usize>, bool)> {
    let value = fields.get(key)?;
    if let DeValue::Boolean(is) = value.get_ref() {
        return Some((value.span(), *is));
    }
    let help = format!("write `{key} = true`");
    reader.mistake_with_help(value.span(), format!("`{key}` must be true or false"), help);
    None
}

#[cfg(test)]
mod tests {
    use crate::plugins::manifest::Manifest;

    #[test]
    fn what_cannot_be_kept_or_done_once_is_told_with_its_place() {
        let route = |more: &str| {
            format!(
                "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n\
                 [[route]]\nmethod = \"GET\"\npath = \"/\"\n{more}"
            )
        };
        for (text, told) in [
            (
                route("cache = \"1m\""),
                "10:9: `cache` must be a table, not a string",
            ),
            (
                route("cache = {}"),
                "10:9: `ttl` is missing in `cache` (write for example `cache = { ttl = \"60s\" }`)",
            ),
            (
                route("cache = { ttl = \"60s\", vary = [\"Authorization\"] }"),
                "10:32: `vary` cannot name `authorization`: plugins do not see credentials; answers are kept for \
             each caller anyway",
            ),
            (
                route("cache = { ttl = \"60s\", tags = [\"order:{id}\"] }"),
                "10:32: `tags`: the path has no parameter `id`",
            ),
            (
                route("cache = { ttl = \"60s\", tags = [\"a b\"] }"),
                "10:32: `tags`: a tag has 1 to 128 visible ASCII characters and no comma",
            ),
            (
                route("auth = \"public\"\ncache = { ttl = \"60s\", shared = true }"),
                "11:33: `shared` says nothing on a route with `auth = \"public\"`: its answers are for everybody",
            ),
            (
                route("stream = \"1h\"\ncache = { ttl = \"60s\" }"),
                "10:10: `stream` and `cache` exclude each other: what flows is not kept",
            ),
            (
                route("cache = { ttl = \"60s\", max_age = 1 }"),
                "10:24: unknown key `max_age` in `cache` (did you mean `ttl`?)",
            ),
            (
                route("idempotency = {}"),
                "10:15: `idempotency` must be a string, not a table",
            ),
            (
                route("idempotency = \"required\""),
                "10:15: `idempotency` is for methods that change something",
            ),
        ] {
            let mistakes = Manifest::parse(&text).unwrap_err();
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            assert_eq!(mistakes, [format!("plugin.toml:{told}")], "{text}");
        }
    }
}
