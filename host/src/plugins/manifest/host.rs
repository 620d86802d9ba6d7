//! Names of other servers as an author writes them: `api.example.com`, `*.example.com`, `localhost:8080`.

use std::{fmt, str::FromStr};

/// Which hosts are meant. Whether an address behind such a name may be reached is decided when it is dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    name: String,
    is_wildcard: bool,
    port: Option<u16>,
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host: write `api.example.com`, `*.example.com` or `api.example.com:8443`")]
pub struct InvalidHost(String);

impl HostPattern {
    /// The name in small letters, without `*.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the names below [`Self::name`] are meant, at any depth, and not the name itself.
    pub fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }

    /// The port; nothing means the usual one of the scheme.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether everything that `other` means is meant here too.
    pub fn covers(&self, other: &Self) -> bool {
        self.port == other.port
            && if self.is_wildcard {
                let below = other.name.strip_suffix(&self.name);
                below.is_some_and(|rest| {
                    rest.ends_with('.') || (rest.is_empty() && other.is_wildcard)
                })
            } else {
                !other.is_wildcard && self.name == other.name
            }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(super::reader::clip(text));
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port_number(port).ok_or_else(invalid)?)),
            None => (text, None),
        };
        let (name, is_wildcard) = match host.strip_prefix("*.") {
            // `*.com` would mean half of the internet.
            Some(name) if !name.contains('.') => return Err(invalid()),
            Some(name) => (name, true),
            None => (host, false),
        };
        let is_name = name.len() <= 253 && name.split('.').all(is_part);
        if !is_name {
            return Err(invalid());
        }
        Ok(Self {
            name: name.to_ascii_lowercase(),
            is_wildcard,
            port,
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_wildcard { "*." } else { "" };
        write!(f, "{star}{}", self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

fn port_number(text: &str) -> Option<u16> {
    let is_digits = text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| is_digits && *port > 0)
}

fn is_part(part: &str) -> bool {
    (1..=63).contains(&part.len())
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
