//! Where something is in a registry: `oci://HOST/REPOSITORY:TAG`, or with `@sha256:…` exactly this and nothing else.

use std::{fmt, str::FromStr};

use url::Url;

use crate::ids::Digest;

/// A place in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Reference {
    /// With its port, if it has one.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<Digest>,
}

/// Why a text is no place in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no place in a registry: {reason}; write it as oci://registry.example.com/team/shop:1.2.0, or with @sha256:… \
     at its end"
)]
pub(in crate::cli) struct InvalidReference {
    text: String,
    reason: &'static str,
}

const SCHEME: &str = "oci://";

impl Reference {
    /// The place that an argument names, if it is one and not a file.
    pub(in crate::cli) fn in_text(text: &str) -> Result<Option<Self>, InvalidReference> {
        if text.starts_with(SCHEME) {
            text.parse().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The same place, by this digest.
    pub(super) fn pinned(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// By what the registry is asked for it: the digest if there is one, since it cannot mean something else tomorrow.
    pub(super) fn version(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => String::new(),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |reason| InvalidReference {
            text: text
                .chars()
                .take(200)
                .flat_map(char::escape_debug)
                .collect(),
            reason,
        };
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| invalid("it does not begin with oci://"))?;
        let (host, path) = rest
            .split_once('/')
            .ok_or_else(|| invalid("it has no repository"))?;
        if !is_host(host) {
            return Err(invalid("its first part is no host name"));
        }
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => (path, Some(digest)),
            None => (path, None),
        };
        let digest = digest.map(|digest| {
            digest
                .strip_prefix("sha256:")
                .and_then(|hex| hex.parse().ok())
        });
        let digest = match digest {
            Some(None) => {
                return Err(invalid(
                    "the digest is not sha256: and 64 hexadecimal digits",
                ));
            }
            Some(digest) => digest,
            None => None,
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !is_repository(repository) {
            return Err(invalid(
                "its repository has characters that registries do not allow",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid(
                "its tag has characters that registries do not allow",
            ));
        }
        if tag.is_none() && digest.is_none() {
            return Err(invalid("it has neither a tag nor a digest"));
        }
        Ok(Self {
            host: host.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

/// A host name or address, perhaps with a port, and nothing that a URL could read as something else.
fn is_host(host: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let read = Url::parse(&format!("https://{host}/"));
    host.chars().all(is_plain) && read.is_ok_and(|url| url.path() == "/" && url.host().is_some())
}

fn is_repository(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [part.bytes().next(), part.bytes().next_back()];
        ends.into_iter().all(|end| end.is_some_and(is_inner))
            && part
                .bytes()
                .all(|byte| is_inner(byte) || b"._-".contains(&byte))
            && !part.contains("..")
    };
    text.len() <= 255 && text.split('/').all(is_part)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text
            .bytes()
            .all(|byte| is_word(byte) || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_it_is_read() {
        let digest = Digest::of(b"x");
        for text in [
            "oci://localhost:5000/shop:1.2.0".to_owned(),
            "oci://registry.example.com/team/sub_team/shop:latest".to_owned(),
            format!("oci://registry.example.com/shop@sha256:{digest}"),
            format!("oci://[::1]:5000/shop:1@sha256:{digest}"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
        }
        assert_eq!(Reference::in_text("shop.gantry"), Ok(None));
    }

    #[test]
    fn the_digest_counts_and_not_the_tag() {
        let digest = Digest::of(b"x");
        let reference: Reference = "oci://h/shop:1".parse().unwrap();
        assert_eq!(reference.version(), "1");
        assert_eq!(
            reference.pinned(digest).version(),
            format!("sha256:{digest}")
        );
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for text in [
            "https://h/shop:1",
            "oci://h",
            "oci://h/",
            "oci://h/shop",
            "oci://h/shop:",
            "oci://h/Shop:1",
            "oci://h/../shop:1",
            "oci://h/a/../shop:1",
            "oci://h//shop:1",
            "oci://h/shop:a/b",
            "oci://h/shop:1?x",
            "oci://u:p@h/shop:1",
            "oci://h#/shop:1",
            "oci:///shop:1",
            "oci://h/shop@sha256:abc",
            "oci://h/shop@md5:abc",
            "oci://h/sh\u{1b}op:1",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
