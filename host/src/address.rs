//! Addresses of servers that may have a password in them, which they do not show.

use std::{fmt, fs, io, path::Path};

use serde::{Deserialize, Serialize, Serializer};
use url::Url;
use zeroize::Zeroizing;

/// An address that may have a password in it, which it does not show.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Address(Zeroizing<String>);

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Address {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address in its parts, with everything that is secret in it; nothing if it is none.
    pub fn parse(&self) -> Option<Url> {
        Url::parse(&self.0).ok()
    }

    /// The address with everything that is secret in it, and with the password in a file if there is one. Blocks on the disk
    /// for a moment.
    pub fn whole(&self, password_file: Option<&Path>) -> io::Result<Zeroizing<String>> {
        let Some(file) = password_file else {
            return Ok(self.0.clone());
        };
        let text = fs::read_to_string(file).map_err(|error| {
            let path = file.display();
            io::Error::new(error.kind(), format!("cannot read {path}: {error}"))
        })?;
        let text = Zeroizing::new(text);
        let password = text.trim_end_matches(['\r', '\n']);
        let invalid = || io::Error::other("this is no address");
        let mut url = self.parse().ok_or_else(invalid)?;
        url.set_password(Some(password)).map_err(|()| invalid())?;
        Ok(Zeroizing::new(url.into()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Some(mut url) if url.has_host() => {
                // Neither fails on an address with a host, and without one there is nothing to hide.
                if url.password().is_some() {
                    let _ = url.set_password(Some("***"));
                }
                hide_in_query(&mut url);
                f.write_str(url.as_str())
            }
            _ if self.0.is_empty() => Ok(()),
            _ => f.write_str("***"),
        }
    }
}

/// Some programs take a password there, too, and somebody may try.
fn hide_in_query(url: &mut Url) {
    let is_secret = |name: &str| name.to_ascii_lowercase().contains("pass");
    if url.query_pairs().any(|(name, _)| is_secret(&name)) {
        let pairs = url.query_pairs().into_owned();
        let shown: Vec<_> = pairs
            .map(|(name, value)| match is_secret(&name) {
                true => (name, "***".to_owned()),
                false => (name, value),
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
