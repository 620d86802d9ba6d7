//! Versions of a plugin's API as requests meet them: which one is meant, what is said about old ones, and who still calls
//! those. What the author declares is in `manifest`; statuses are the gateway's.

mod callers;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::ids::PluginName;
use crate::pattern;
use crate::plugins::Mount;
use crate::plugins::manifest::{self, Manifest, Successor, VersionBy};

pub use callers::{Callers, CallersOf, OldCall};

/// Old versions of APIs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether a route is gone (410) once the sunset that its manifest declares has come. If not, it goes on answering, and
    /// its answers go on saying when it should have ended. Default: true.
    pub ends_at_sunset: bool,
    /// Most callers of one deprecated route that are told apart; further ones are counted together. Default: 1000.
    pub callers_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ends_at_sunset: true,
            callers_max: 1000,
        }
    }
}

/// How requests to a plugin name a version, where that is not in the path.
#[derive(Debug)]
pub struct Versioning {
    /// What tells plugins the version, and names it in requests if `media_type` does not.
    pub header: HeaderName,
    /// The part of a media type before the version.
    pub media_type: Option<String>,
    pub names: Vec<String>,
    default: Option<String>,
}

/// Which version a request means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    Version(&'a str),
    /// One that does not exist.
    Unknown,
    /// None, and there is no default.
    Missing,
}

impl Versioning {
    /// Nothing if versions are in the path, or there are none.
    pub(super) fn of(manifest: &Manifest) -> Option<Self> {
        let versioning = manifest.versioning.as_ref()?;
        let media_type = match &versioning.by {
            VersionBy::Path => return None,
            VersionBy::Header => None,
            VersionBy::MediaType(base) => Some(base.clone()),
        };
        let names = versioning.versions.iter();
        Some(Self {
            header: versioning.header.clone(),
            media_type,
            names: names.map(|version| version.name.clone()).collect(),
            default: versioning.default.clone(),
        })
    }

    pub(super) fn asked(&self, headers: &HeaderMap) -> Asked<'_> {
        let named = match &self.media_type {
            None => headers.get(&self.header).map(|value| {
                let text = value.to_str().unwrap_or_default().trim();
                self.known(text)
            }),
            Some(base) => self.accepted(base, headers),
        };
        match named {
            Some(Some(name)) => Asked::Version(name),
            Some(None) => Asked::Unknown,
            None => match &self.default {
                Some(name) => Asked::Version(name),
                None => Asked::Missing,
            },
        }
    }

    fn known(&self, name: &str) -> Option<&str> {
        let mut names = self.names.iter();
        names.find(|known| *known == name).map(String::as_str)
    }

    /// The version of the most wanted media type that names one. Nothing if none does; nothing within if those that do name
    /// versions that do not exist.
    fn accepted(&self, base: &str, headers: &HeaderMap) -> Option<Option<&str>> {
        let mut found = None;
        let mut best = 0.0;
        let values = headers.get_all(header::ACCEPT).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        for range in texts.flat_map(|text| text.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let Some((start, rest)) = kind.split_at_checked(base.len()) else {
                continue;
            };
            if !start.eq_ignore_ascii_case(base) {
                continue;
            }
            let (mut weight, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            let in_name = rest
                .strip_prefix('.')
                .map(|rest| match rest.rsplit_once('+') {
                    Some((name, _)) => name,
                    None => rest,
                });
            let is_same = rest.is_empty() || rest.starts_with(['.', '+']);
            let Some(name) = in_name.or(version).filter(|_| is_same) else {
                continue;
            };
            let known = self.known(name);
            match (known, found) {
                (Some(_), _) if weight > best => (best, found) = (weight, Some(known)),
                (None, None) => found = Some(None),
                _ => {}
            }
        }
        found
    }
}

/// The version of one route, with all that its answers say about it.
#[derive(Debug)]
pub struct Versioned {
    /// Its name, and the header with which the plugin learns it.
    pub version: Option<(HeaderName, HeaderValue)>,
    /// What requests are told apart by, if that is a header.
    pub vary: Option<HeaderName>,
    pub retirement: Option<Retirement>,
}

/// A route that is or will be deprecated.
#[derive(Debug)]
pub struct Retirement {
    pub since_ms: i64,
    /// From when on it is gone, if the operator lets it.
    pub ends_ms: Option<i64>,
    /// Who still calls it.
    pub callers: Arc<CallersOf>,
    deprecation: HeaderValue,
    sunset: Option<HeaderValue>,
    links: Vec<HeaderValue>,
    successor: Option<Next>,
}

/// What stands in the place of a route.
#[derive(Debug)]
enum Next {
    /// The same path with another first segment below the mount.
    Segment { old: String, new: String },
    /// A path below the mount with parameters.
    Pattern(String),
    /// The same address; requests name this version.
    Version(String),
}

/// What the answers of one request say about the age of their route.
pub type Notice = smallvec::SmallVec<[(HeaderName, HeaderValue); 4]>;

/// Not in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Versioned {
    /// Nothing if there is nothing to say about this route.
    pub(super) fn of(
        plugin: &PluginName,
        manifest: &Manifest,
        route: &manifest::Route,
        config: &Config,
        callers: &Callers,
    ) -> Option<Box<Self>> {
        let versioning = manifest.versioning.as_ref();
        if versioning.is_none() && route.deprecation.is_none() {
            return None;
        }
        let version = route.version.as_deref();
        let retirement = route.deprecation.as_ref().map(|deprecation| {
            let successor = match &deprecation.successor {
                None => None,
                Some(Successor::Path(pattern)) => Some(Next::Pattern(pattern.clone())),
                Some(Successor::Version(new)) => next(manifest, route, new),
            };
            let callers = callers.of_route(plugin, &route.path, version, config.callers_max);
            Retirement::new(deprecation, successor, config, callers)
        });
        let vary = versioning.filter(|_| version.is_some());
        Some(Box::new(Self {
            version: versioning.and_then(|versioning| {
                let value = HeaderValue::from_str(version?).ok()?;
                Some((versioning.header.clone(), value))
            }),
            vary: vary.and_then(|versioning| match versioning.by {
                VersionBy::Path => None,
                VersionBy::Header => Some(versioning.header.clone()),
                VersionBy::MediaType(_) => Some(header::ACCEPT),
            }),
            retirement,
        }))
    }
}

/// The same route in another version, if it is there.
fn next(manifest: &Manifest, route: &manifest::Route, new: &str) -> Option<Next> {
    let versioning = manifest.versioning.as_ref()?;
    let old = route.version.as_deref()?;
    if versioning.by != VersionBy::Path {
        let mut routes = manifest.routes.iter();
        let is_there = routes.any(|other| {
            other.version.as_deref() == Some(new)
                && other.path == route.path
                && other
                    .methods
                    .iter()
                    .any(|method| route.methods.contains(method))
        });
        return is_there.then(|| Next::Version(new.to_owned()));
    }
    let rest = route.path.strip_prefix('/')?.strip_prefix(old)?;
    let path = format!("/{new}{rest}");
    let is_there = manifest.routes.iter().any(|other| {
        other.path == path
            && other
                .methods
                .iter()
                .any(|method| route.methods.contains(method))
    });
    is_there.then(|| Next::Segment {
        old: old.to_owned(),
        new: new.to_owned(),
    })
}

impl Retirement {
    fn new(
        deprecation: &manifest::Deprecation,
        successor: Option<Next>,
        config: &Config,
        callers: Arc<CallersOf>,
    ) -> Self {
        let since = deprecation.since_ms.div_euclid(1000);
        let link = |relation: &str| {
            let link = deprecation.link.as_deref()?;
            HeaderValue::try_from(format!("<{link}>; rel=\"{relation}\"; type=\"text/html\"")).ok()
        };
        let sunset = deprecation.sunset_ms.and_then(imf_date);
        let links = [
            link("deprecation"),
            sunset.as_ref().and_then(|_| link("sunset")),
        ];
        Self {
            since_ms: deprecation.since_ms,
            ends_ms: deprecation.sunset_ms.filter(|_| config.ends_at_sunset),
            callers,
            // RFC 9745: a date of RFC 9651.
            deprecation: HeaderValue::try_from(format!("@{since}"))
                .unwrap_or(HeaderValue::from_static("@0")),
            sunset,
            links: links.into_iter().flatten().collect(),
            successor,
        }
    }

    /// Whether it answers no more.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms)
    }

    /// What answers of a request to this path say. `params` are those of the route.
    pub fn notice(&self, mount: &Mount, path: &str, params: &[(String, String)]) -> Notice {
        let mut notice = Notice::new();
        let deprecation = HeaderName::from_static("deprecation");
        notice.push((deprecation, self.deprecation.clone()));
        if let Some(sunset) = &self.sunset {
            notice.push((HeaderName::from_static("sunset"), sunset.clone()));
        }
        let links = self.links.iter().cloned();
        notice.extend(links.map(|link| (header::LINK, link)));
        let successor = self.successor_of(mount, path, params);
        let successor = successor.and_then(|path| {
            HeaderValue::try_from(format!("<{path}>; rel=\"successor-version\"")).ok()
        });
        notice.extend(successor.map(|link| (header::LINK, link)));
        notice
    }

    /// The address of what stands in its place, for a request to this path.
    pub fn successor_of(
        &self,
        mount: &Mount,
        path: &str,
        params: &[(String, String)],
    ) -> Option<String> {
        match self.successor.as_ref()? {
            Next::Segment { old, new } => {
                let rest = path.get(mount.path.len()..)?.strip_prefix('/')?;
                let rest = rest.strip_prefix(old.as_str())?;
                Some(format!("{}/{new}{rest}", mount.path))
            }
            Next::Pattern(pattern) => Some(format!("{}{}", mount.path, filled(pattern, params))),
            Next::Version(_) => None,
        }
    }

    /// The version to ask for instead, where the address stays the same.
    pub fn version_instead(&self) -> Option<&str> {
        match self.successor.as_ref()? {
            Next::Version(name) => Some(name),
            _ => None,
        }
    }

    /// Its headers for a document: when it was deprecated and when it ends.
    pub fn dates(&self) -> (i64, Option<i64>) {
        (self.since_ms, self.ends_ms)
    }
}

/// The pattern with these values in the place of its parameters.
fn filled(pattern: &str, params: &[(String, String)]) -> String {
    pattern::filled(pattern, |parameter| {
        let value = params.iter().find(|(known, _)| known == parameter.name);
        let value = value.map_or("", |(_, value)| value);
        if parameter.is_rest {
            let segments = value.split('/');
            let encoded = segments.map(|part| utf8_percent_encode(part, SEGMENT).to_string());
            encoded.collect::<Vec<_>>().join("/")
        } else {
            utf8_percent_encode(value, SEGMENT).to_string()
        }
    })
}

/// The date of RFC 9110.
fn imf_date(ms: i64) -> Option<HeaderValue> {
    let timestamp = jiff::Timestamp::from_millisecond(ms).ok()?;
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let text = printer.timestamp_to_rfc9110_string(&timestamp).ok()?;
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versioning(media_type: Option<&str>, default: Option<&str>) -> Versioning {
        Versioning {
            header: HeaderName::from_static("api-version"),
            media_type: media_type.map(str::to_owned),
            names: vec!["v1".to_owned(), "2026-06-01".to_owned()],
            default: default.map(str::to_owned),
        }
    }

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_header_names_the_version() {
        let versioning = versioning(None, None);
        for (values, wanted) in [
            (&["v1"][..], Asked::Version("v1")),
            (&[" 2026-06-01 "], Asked::Version("2026-06-01")),
            (&["V1"], Asked::Unknown),
            (&[""], Asked::Unknown),
            (&[], Asked::Missing),
        ] {
            assert_eq!(
                versioning.asked(&headers("api-version", values)),
                wanted,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_media_type_names_the_version() {
        let versioning = versioning(Some("application/vnd.shop"), Some("v1"));
        let new = Asked::Version("2026-06-01");
        for (values, wanted) in [
            (&["application/vnd.shop.2026-06-01+json"][..], new),
            (&["application/vnd.shop.2026-06-01"], new),
            (&["Application/VND.Shop+json; version=2026-06-01"], new),
            (
                &["application/vnd.shop; version=\"2026-06-01\"; q=0.5"],
                new,
            ),
            (
                &["application/vnd.shop.v1+json;q=0.3, application/vnd.shop.2026-06-01+json;q=0.4"],
                new,
            ),
            (&["text/html", "application/vnd.shop.2026-06-01+json"], new),
            (
                &["application/vnd.shop.v9+json, application/vnd.shop.2026-06-01+json;q=0.1"],
                new,
            ),
            (&["application/vnd.shop.v9+json"], Asked::Unknown),
            (&["application/vnd.shop.v9+json, */*"], Asked::Unknown),
            // What means another thing, or is not wanted at all.
            (
                &["application/vnd.shopping.2026-06-01+json"],
                Asked::Version("v1"),
            ),
            (
                &["application/vnd.shop.2026-06-01+json;q=0"],
                Asked::Version("v1"),
            ),
            (&["application/vnd.shop+json"], Asked::Version("v1")),
            (&["application/json, */*"], Asked::Version("v1")),
            (&[], Asked::Version("v1")),
        ] {
            assert_eq!(
                versioning.asked(&headers("accept", values)),
                wanted,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_successor_has_the_parameters_of_the_request() {
        let params = [
            ("id".to_owned(), "a b/é".to_owned()),
            ("rest".to_owned(), "x/y z".to_owned()),
        ];
        for (pattern, wanted) in [
            ("/new/{id}.json", "/new/a%20b%2F%C3%A9.json"),
            ("/files/{*rest}", "/files/x/y%20z"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(filled(pattern, &params), wanted, "{pattern}");
        }
    }
}
