//! Where the routes of a plugin hang: the operator's choice, not the author's.

use std::fmt;

use crate::ids::PluginName;
use crate::plugins::manifest::HostPattern;

/// A host name and a path. No two plugins have the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mount {
    /// The host name in small letters, without port; nothing means every host.
    pub host: Option<String>,
    /// Without a slash at its end; empty for the root.
    pub path: String,
}

/// Why a plugin cannot hang there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMount {
    #[error("`{0}` is not a host name: write for example `shop.example.com`, without a port")]
    Host(String),
    #[error("`{0}` is not a mount: write `/` or for example `/api/shop`")]
    Path(String),
    #[error("`{0}` belongs to the host itself; choose another mount")]
    Reserved(String),
}

/// First segments that the host answers itself.
const RESERVED: &[&str] = &["_gantry", "livez", "metrics", "readyz"];
const PATH_BYTES_MAX: usize = 256;

impl Mount {
    /// A mount at this path (`/`, `/api/shop`) of one host or of every host.
    pub fn new(host: Option<&str>, path: &str) -> Result<Self, InvalidMount> {
        let clip = |text: &str| text.chars().take(80).flat_map(char::escape_debug).collect();
        let host = match host {
            None => None,
            Some(text) => match text.parse::<HostPattern>() {
                Ok(host) if !host.is_wildcard() && host.port().is_none() => {
                    Some(host.name().to_owned())
                }
                _ => return Err(InvalidMount::Host(clip(text))),
            },
        };
        let inner = path.strip_suffix('/').unwrap_or(path);
        if path.len() > PATH_BYTES_MAX || !path.starts_with('/') {
            return Err(InvalidMount::Path(clip(path)));
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let mut segments = inner.split('/').skip(1);
        let is_path = segments.all(|part| {
            !part.is_empty() && part.chars().all(is_plain) && !matches!(part, "." | "..")
        });
        if !is_path {
            return Err(InvalidMount::Path(clip(path)));
        }
        match inner.split('/').nth(1) {
            Some(first) if RESERVED.contains(&first) => Err(InvalidMount::Reserved(clip(path))),
            _ => Ok(Self {
                host,
                path: inner.to_owned(),
            }),
        }
    }

    /// Whether there are requests that both would answer: on the same path, or one below the other, for the same host name.
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_same_host = self.host == other.host || self.host.is_none() || other.host.is_none();
        is_same_host && (is_within(&other.path, &self.path) || is_within(&self.path, &other.path))
    }

    /// Where a plugin hangs if nobody says otherwise: `/` and its name, on every host. Refused if the host
    /// answers there itself.
    pub fn default_of(plugin: &PluginName) -> Result<Self, InvalidMount> {
        Self::new(None, &format!("/{plugin}"))
    }
}

/// Whether a path is this place (a path without a slash at its end) or lies below it.
pub fn is_within(path: &str, place: &str) -> bool {
    let rest = path.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        write!(f, "{}{path}", self.host.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_plain_path_that_the_host_does_not_need_itself() {
        for (path, expected) in [
            ("/", ""),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/a/b-c", "/a/b-c"),
        ] {
            assert_eq!(Mount::new(None, path).unwrap().path, expected, "{path}");
        }
        for path in [
            "",
            "api",
            "//",
            "/a//b",
            "/a/../b",
            "/{id}",
            "/a b",
            "/_gantry",
            "/metrics/x",
            "/é",
        ] {
            assert!(Mount::new(None, path).is_err(), "{path}");
        }
        assert!(Mount::default_of(&"livez".parse().unwrap()).is_err());
    }

    #[test]
    fn two_mounts_overlap_if_one_lies_below_the_other_for_the_same_host() {
        let mount = |text: &str| {
            let (host, path) = text.split_at(text.find('/').unwrap());
            Mount::new(Some(host).filter(|host| !host.is_empty()), path).unwrap()
        };
        for (one, other, expected) in [
            ("/", "/shop", true),
            ("/shop", "/shop/admin", true),
            ("/shop", "/shopping", false),
            ("/shop", "/blog", false),
            ("a.example/shop", "/shop", true),
            ("a.example/", "/shop", true),
            ("a.example/shop", "b.example/shop", false),
        ] {
            let (one, other) = (mount(one), mount(other));
            assert_eq!(one.overlaps(&other), expected, "{one} {other}");
            assert_eq!(other.overlaps(&one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_mounts_host_is_one_name_in_small_letters() {
        assert_eq!(
            Mount::new(Some("Shop.Example.com"), "/")
                .unwrap()
                .to_string(),
            "shop.example.com/"
        );
        for host in ["", "*.example.com", "example.com:80", "a b"] {
            assert!(Mount::new(Some(host), "/").is_err(), "{host}");
        }
    }
}
