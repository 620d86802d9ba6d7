//! `[versioning]`, `[[version]]` and `deprecation`: which versions of its API a plugin serves, how a request names one, and
//! until when the old ones answer.

use std::{fmt, ops::Range};

use http::HeaderName;
use toml::{Spanned, de::DeValue};

use crate::pattern;

use super::reader::{Fields, Reader, clip, nearest, refuse_duplicates, string};
use super::route::choice;

/// Most versions of one API.
const VERSIONS_MAX: usize = 20;
/// Most bytes of a link.
const LINK_BYTES_MAX: usize = 1000;
/// The header with which plugins learn the version, and clients name it where `by = "header"`.
const HEADER: &str = "api-version";

/// The versions of a plugin's API.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioning {
    /// How a request names the version that it means.
    pub by: VersionBy,
    /// What tells plugins the version, and names it where that is how a request does.
    pub header: HeaderName,
    /// For requests that name none. Nothing: they are refused.
    pub default: Option<String>,
    /// In the order of the file, the oldest first.
    pub versions: Vec<ApiVersion>,
}

/// How a request names a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionBy {
    /// The first segment below the mount: `/v1/orders`.
    Path,
    /// A header.
    Header,
    /// `Accept: application/vnd.shop.v1+json`; this is `application/vnd.shop`.
    MediaType(String),
}

/// One version of an API.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiVersion {
    /// `v1`, `2026-06-01`.
    pub name: String,
    pub deprecation: Option<Deprecation>,
}

/// Notice that something will answer no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deprecation {
    /// Since when nobody should begin to use it.
    pub since_ms: i64,
    /// From when on it is gone.
    pub sunset_ms: Option<i64>,
    /// What to read about it.
    pub link: Option<String>,
    pub successor: Option<Successor>,
}

/// What to use instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Successor {
    /// The same route in this version.
    Version(String),
    /// A path below the mount, with the parameters of the old one.
    Path(String),
}

/// A word of the manifest, and where it stands.
type Word = (Range<usize>, String);

#[derive(Clone, Copy)]
enum Way {
    Path,
    Header,
    MediaType,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Header => "header",
            Self::MediaType => "media-type",
        })
    }
}

impl Versioning {
    /// Nothing if the plugin's API has no versions.
    pub(super) fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Self> {
        let tables = fields.tables(reader, "version", "`[[version]]`", VERSIONS_MAX);
        let mut versions = Vec::new();
        let mut found = Vec::new();
        for mut table in tables {
            let name = table.required_string(reader, "name", 32);
            let deprecation = Deprecation::read(reader, &mut table);
            table.finish(reader, &[], &[("sunset", "write `deprecation = { … }`")]);
            let Some(name) = name else { continue };
            if !is_name(name.get_ref()) {
                let message = "the name of a version has small letters, digits, `.`, `_` and `-`, beginning with a letter \
                               or digit";
                reader.mistake(name.span(), message);
            }
            found.push((name.span(), *name.get_ref()));
            versions.push((name, deprecation));
        }
        refuse_duplicates(reader, "the version", found.iter().cloned());
        let names: Vec<&str> = found.iter().map(|(_, name)| *name).collect();
        let settings = fields.table(reader, "versioning", "`[versioning]`");
        if names.is_empty() {
            if let Some(settings) = settings {
                let help = "add `[[version]]` with `name = \"v1\"`";
                reader.mistake_with_help(settings.span(), "there are no versions", help);
            }
            return None;
        }
        let mut versions_read = Vec::new();
        for (name, deprecation) in versions {
            let deprecation = deprecation.map(|(deprecation, successor)| {
                if let Some((at, successor)) = successor {
                    check_name(reader, "successor", &at, &successor, &names);
                    if successor == *name.get_ref() {
                        reader.mistake(at, "a version cannot succeed itself");
                    }
                    return Deprecation {
                        successor: Some(Successor::Version(successor)),
                        ..deprecation
                    };
                }
                deprecation
            });
            versions_read.push(ApiVersion {
                name: (*name.get_ref()).to_owned(),
                deprecation,
            });
        }
        let (by, header, default) = match settings {
            None => (VersionBy::Path, None, None),
            Some(table) => read_settings(reader, table, &names)?,
        };
        Some(Self {
            by,
            header: header.unwrap_or(HeaderName::from_static(HEADER)),
            default,
            versions: versions_read,
        })
    }

    /// A version by its name.
    pub fn get(&self, name: &str) -> Option<&ApiVersion> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Where a route of a version answers, below the mount.
    pub(super) fn path_in(&self, version: &str, path: &str) -> String {
        match (&self.by, path) {
            (VersionBy::Path, "/") => format!("/{version}"),
            (VersionBy::Path, path) => format!("/{version}{path}"),
            _ => path.to_owned(),
        }
    }
}

fn read_settings(
    reader: &mut Reader<'_>,
    mut table: Fields<'_, '_>,
    names: &[&str],
) -> Option<(VersionBy, Option<HeaderName>, Option<String>)> {
    let span = table.span();
    let way = match table.string(reader, "by", 32) {
        Some(text) => choice(
            reader,
            "by",
            &text,
            &[Way::Path, Way::Header, Way::MediaType],
        ),
        None => Some(Way::Path),
    };
    let header = table.string(reader, "header", 64).and_then(|text| {
        let name = HeaderName::from_bytes(text.get_ref().as_bytes()).ok();
        let name = name.filter(|name| !is_taken(name));
        if name.is_none() {
            let message = format!(
                "`{}` cannot be the header of a version",
                clip(text.get_ref())
            );
            reader.mistake_with_help(
                text.span(),
                message,
                format!("write `header = \"{HEADER}\"`"),
            );
        }
        name
    });
    let media_type = table.string(reader, "media_type", 100);
    if let Some(text) = &media_type
        && !is_media_type(text.get_ref())
    {
        let help = "write the part before the version: `application/vnd.shop`";
        reader.mistake_with_help(text.span(), "`media_type` is none", help);
    }
    let default = table.string(reader, "default", 32);
    if let Some(default) = &default {
        check_name(reader, "default", &default.span(), default.get_ref(), names);
        if matches!(way, Some(Way::Path)) {
            let message = "with `by = \"path\"` every request names its version";
            reader.mistake_with_help(default.span(), message, "leave out `default`");
        }
    }
    table.finish(reader, &[], &[]);
    let by = match (way?, media_type) {
        (Way::Path, None) => VersionBy::Path,
        (Way::Header, None) => VersionBy::Header,
        (Way::MediaType, Some(text)) => VersionBy::MediaType((*text.get_ref()).to_owned()),
        (Way::MediaType, None) => {
            let help = "for example `media_type = \"application/vnd.shop\"`";
            reader.mistake_with_help(span, "`media_type` is missing in `[versioning]`", help);
            return None;
        }
        (way, Some(text)) => {
            let message = format!("`media_type` means nothing with `by = \"{way}\"`");
            reader.mistake_with_help(text.span(), message, "write `by = \"media-type\"`");
            return None;
        }
    };
    let default = default.map(|text| (*text.get_ref()).to_owned());
    Some((by, header, default))
}

impl Deprecation {
    /// The table `deprecation`, and the word that stands there for the successor.
    fn read(reader: &mut Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<(Self, Option<Word>)> {
        let mut table = fields.table(reader, "deprecation", "`deprecation`")?;
        let at = table.span();
        let since = table.get("since").map(|value| (value.span(), value));
        if since.is_none() {
            let help =
                "for example `deprecation = { since = \"2026-06-01\", sunset = \"2027-06-30\" }`";
            reader.mistake_with_help(at, "`since` is missing in `deprecation`", help);
        }
        let since =
            since.and_then(|(at, value)| Some((at, moment(reader, "since", value, false)?)));
        let sunset = table.get("sunset").map(|value| (value.span(), value));
        let sunset =
            sunset.and_then(|(at, value)| Some((at, moment(reader, "sunset", value, true)?)));
        if let (Some((_, since)), Some((at, sunset))) = (&since, &sunset)
            && sunset < since
        {
            // RFC 8594, section 4, and RFC 9745, section 4.
            reader.mistake(at.clone(), "`sunset` is before `since`");
        }
        let link = table.string(reader, "link", LINK_BYTES_MAX);
        if let Some(link) = &link
            && !is_link(link.get_ref())
        {
            let help = "write `https://…`, or a path of the same host";
            reader.mistake_with_help(link.span(), "`link` is no address", help);
        }
        let successor = table.string(reader, "successor", 512);
        table.finish(
            reader,
            &[],
            &[
                ("date", "did you mean `since`?"),
                ("until", "did you mean `sunset`?"),
            ],
        );
        let (_, since_ms) = since?;
        let deprecation = Self {
            since_ms,
            sunset_ms: sunset.map(|(_, ms)| ms),
            link: link.map(|link| (*link.get_ref()).to_owned()),
            successor: None,
        };
        let successor = successor.map(|text| (text.span(), (*text.get_ref()).to_owned()));
        Some((deprecation, successor))
    }

    /// That of a route, whose successor is a path with the parameters of the route.
    pub(super) fn of_route(
        reader: &mut Reader<'_>,
        fields: &mut Fields<'_, '_>,
        path: Option<&str>,
    ) -> Option<Self> {
        let (mut deprecation, successor) = Self::read(reader, fields)?;
        if let Some((at, successor)) = successor {
            let found = super::path::mistake(&successor).or_else(|| {
                let known = path?;
                let mut wanted = pattern::parameters(&successor);
                let unknown = wanted.find(|wanted| {
                    pattern::parameters(known).all(|known| known.name != wanted.name)
                })?;
                Some(format!("the route has no parameter `{}`", unknown.name))
            });
            if let Some(found) = found {
                reader.mistake(at, format!("`successor`: {found}"));
            }
            deprecation.successor = Some(Successor::Path(successor));
        }
        Some(deprecation)
    }
}

/// The versions that a route names.
pub(super) fn read_names(
    reader: &mut Reader<'_>,
    fields: &mut Fields<'_, '_>,
    versioning: Option<&Versioning>,
) -> Vec<String> {
    let Some(value) = fields.get("version") else {
        return Vec::new();
    };
    let single = std::slice::from_ref(value);
    let values = match value.get_ref() {
        DeValue::Array(list) => &**list,
        _ => single,
    };
    let known: Vec<&str> = versioning
        .iter()
        .flat_map(|versioning| &versioning.versions)
        .map(|version| version.name.as_str())
        .collect();
    let mut names = Vec::new();
    for value in values.iter().take(VERSIONS_MAX) {
        if let Some(name) = string(reader, "version", value, 32) {
            check_name(reader, "version", &name.span(), name.get_ref(), &known);
            names.push((name.span(), *name.get_ref()));
        }
    }
    refuse_duplicates(reader, "the version", names.iter().cloned());
    names.into_iter().map(|(_, name)| name.to_owned()).collect()
}

fn check_name(reader: &mut Reader<'_>, key: &str, at: &Range<usize>, name: &str, known: &[&str]) {
    if known.contains(&name) {
        return;
    }
    let message = format!("`{key}`: there is no version `{}`", clip(name));
    let help = match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add `[[version]]` with `name = \"{}\"`", clip(name)),
    };
    reader.mistake_with_help(at.clone(), message, help);
}

/// A date, or a moment with its offset, in milliseconds since 1970. A date alone means its first moment in UTC, or its
/// last second where something ends with it.
fn moment(
    reader: &mut Reader<'_>,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    is_end: bool,
) -> Option<i64> {
    let text = match value.get_ref() {
        DeValue::Datetime(datetime) => datetime.to_string(),
        _ => (*string(reader, key, value, 64)?.get_ref()).to_owned(),
    };
    const DAY_MS: i64 = 24 * 3600 * 1000;
    let of_date = |date: jiff::civil::Date| {
        let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        let ms = zoned.timestamp().as_millisecond();
        Some(if is_end { ms + DAY_MS - 1000 } else { ms })
    };
    let timestamp = || text.parse::<jiff::Timestamp>().ok();
    // Something with a time must say where: civil dates would swallow it.
    let found = if text.len() == 10 {
        text.parse().ok().and_then(of_date)
    } else {
        timestamp().map(|timestamp| timestamp.as_millisecond())
    };
    if found.is_none() {
        let message = format!("`{key}`: `{}` is neither a date nor a moment", clip(&text));
        let help = format!("write `{key} = \"2027-06-30\"` or `{key} = \"2027-06-30T18:00:00Z\"`");
        reader.mistake_with_help(value.span(), message, help);
    }
    found
}

fn is_name(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || "._-".contains(c))
}

/// Headers that mean something else already.
fn is_taken(name: &HeaderName) -> bool {
    let name = name.as_str();
    crate::http::reserved::is_set_by_the_host(
        &HeaderName::from_bytes(name.as_bytes()).unwrap_or(http::header::HOST),
    ) || matches!(
        name,
        "accept" | "authorization" | "content-type" | "cookie" | "host" | "origin" | "x-api-key"
    )
}

fn is_media_type(text: &str) -> bool {
    let is_token = |part: &str| {
        let is_fine =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "!#$&-^_.".contains(c);
        !part.is_empty() && part.chars().all(is_fine)
    };
    text.split_once('/')
        .is_some_and(|(kind, name)| is_token(kind) && is_token(name))
}

fn is_link(text: &str) -> bool {
    let is_plain = text
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&b));
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let is_url = || {
        let url = url::Url::parse(text);
        url.is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    };
    is_plain && (is_path || is_url())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::manifest::Manifest;

    const HEAD: &str = "schema = 1\n[plugin]\nname = \"shop\"\nversion = \"1.0.0\"\n[component]\npath = \"a.wasm\"\n";

    fn route(version: &str, path: &str) -> String {
        format!(
            "[[route]]\nmethod = \"GET\"\npath = \"{path}\"\nversion = {version}\nauth = \"public\"\n"
        )
    }

    #[test]
    fn a_route_stands_in_the_table_once_for_each_of_its_versions() {
        let versions = "[[version]]\nname = \"v1\"\n\
                        deprecation = { since = \"2026-06-01\", sunset = 2027-06-30, successor = \"v2\" }\n\
                        [[version]]\nname = \"v2\"\n";
        let text = format!(
            "{HEAD}{versions}{}{}",
            route("[\"v1\", \"v2\"]", "/orders/{id}"),
            route("\"v2\"", "/")
        );
        let manifest = Manifest::parse(&text).unwrap();
        let routes: Vec<_> = manifest
            .routes
            .iter()
            .map(|route| (route.path.as_str(), route.version.as_deref()))
            .collect();
        assert_eq!(
            routes,
            [
                ("/v1/orders/{id}", Some("v1")),
                ("/v2/orders/{id}", Some("v2")),
                ("/v2", Some("v2"))
            ]
        );
        let deprecation = manifest.routes[0].deprecation.clone().unwrap();
        let at = |ms| jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
        assert_eq!(at(deprecation.since_ms), "2026-06-01T00:00:00Z");
        assert_eq!(at(deprecation.sunset_ms.unwrap()), "2027-06-30T23:59:59Z");
        assert_eq!(
            deprecation.successor,
            Some(Successor::Version("v2".to_owned()))
        );
        assert_eq!(manifest.routes[1].deprecation, None);
        let by_header = format!("{text}[versioning]\nby = \"header\"\ndefault = \"v2\"\n");
        let manifest = Manifest::parse(&by_header).unwrap();
        assert_eq!(manifest.routes[0].path, "/orders/{id}");
        assert_eq!(manifest.routes[1].path, "/orders/{id}");
    }

    #[test]
    fn mistakes_about_versions_are_told() {
        let versions = "[[version]]\nname = \"v1\"\n";
        for (text, wanted) in [
            (route("\"v1\"", "/"), "there is no version `v1`"),
            (
                format!("{versions}{}", route("\"v11\"", "/")),
                "did you mean `v1`",
            ),
            (
                format!("{versions}{}{}", route("[\"v1\", \"v1\"]", "/"), ""),
                "declared twice",
            ),
            (
                "[versioning]\nby = \"header\"\n".to_owned(),
                "there are no versions",
            ),
            (
                format!("[versioning]\nby = \"cookie\"\n{versions}"),
                "cannot be \"cookie\"",
            ),
            (
                format!("[versioning]\nby = \"media-type\"\n{versions}"),
                "`media_type` is missing",
            ),
            (
                format!("[versioning]\nmedia_type = \"a/b\"\n{versions}"),
                "means nothing",
            ),
            (
                format!("[versioning]\nby = \"header\"\nheader = \"Cookie\"\n{versions}"),
                "cannot be the header",
            ),
            (
                format!("[versioning]\nby = \"header\"\ndefault = \"v3\"\n{versions}"),
                "no version `v3`",
            ),
            (
                format!("[versioning]\ndefault = \"v1\"\n{versions}"),
                "leave out `default`",
            ),
            ("[[version]]\nname = \"V 1\"\n".to_owned(), "small letters"),
            (
                format!("{versions}deprecation = {{ sunset = \"2027-01-01\" }}"),
                "`since` is missing",
            ),
            (
                format!(
                    "{versions}deprecation = {{ since = \"2027-01-02\", sunset = \"2027-01-01\" }}"
                ),
                "`sunset` is before `since`",
            ),
            (
                format!("{versions}deprecation = {{ since = \"soon\" }}"),
                "neither a date nor a moment",
            ),
            (
                format!("{versions}deprecation = {{ since = \"2027-01-02\", successor = \"v1\" }}"),
                "cannot succeed itself",
            ),
            (
                format!(
                    "{versions}deprecation = {{ since = \"2027-01-02\", link = \"javascript:x\" }}"
                ),
                "`link` is no address",
            ),
            (
                format!(
                    "{}deprecation = {{ since = \"2027-01-02\", successor = \"/new/{{no}}\" }}",
                    "[[route]]\nmethod = \"GET\"\npath = \"/old/{id}\"\n"
                ),
                "the route has no parameter `no`",
            ),
        ] {
            let mistakes = Manifest::parse(&format!("{HEAD}{text}")).unwrap_err();
            let told = mistakes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            let help = mistakes
                .iter()
                .filter_map(|mistake| mistake.help.clone())
                .collect::<Vec<_>>()
                .join("; ");
            assert!(
                told.contains(wanted) || help.contains(wanted),
                "{text}: {told} ({help})"
            );
        }
    }
}
