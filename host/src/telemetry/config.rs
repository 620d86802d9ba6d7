//! Where errors are told beside the log, and how much of them.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// Where the host's errors are told beside its log: a collector that takes the envelopes of Sentry, as Sentry itself, GlitchTip
/// and Bugsink do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address that the collector gives to those who send (a DSN): `https://KEY@errors.example.com/1`. Better in the
    /// environment (`GANTRY_ERRORS__DSN`) than in a file of settings. Default: empty, and nothing is sent.
    pub dsn: Dsn,
    /// From which level of the log on: `error`, or `warn` for warnings, too. Default: `error`.
    pub level: Level,
    /// The name under which the collector sorts what this host sends. Default: `production`.
    pub environment: String,
    /// Errors that wait to be sent; further ones are counted and lost. Default: 256.
    pub queue_max: usize,
    /// How long the collector may take for one. Default: 5000.
    pub timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dsn: Dsn::default(),
            level: Level::Error,
            environment: "production".to_owned(),
            queue_max: 256,
            timeout_ms: 5_000,
        }
    }
}

/// From which level on something is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    #[default]
    Error,
    Warn,
}

impl Config {
    /// Every mistake in these settings.
    pub fn mistakes(&self) -> Vec<String> {
        let rules = [
            (
                self.dsn.is_empty() || self.dsn.place().is_some(),
                "`errors.dsn` is an address like `https://KEY@errors.example.com/1`",
            ),
            (
                (1..=100_000).contains(&self.queue_max),
                "`errors.queue_max` must be 1 to 100000",
            ),
            (
                (1..=60_000).contains(&self.timeout_ms),
                "`errors.timeout_ms` must be 1 to 60000",
            ),
            (
                (1..=64).contains(&self.environment.len()),
                "`errors.environment` has 1 to 64 bytes",
            ),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds);
        broken.map(|(_, rule)| (*rule).to_owned()).collect()
    }
}

/// The address of a collector, with the key in it, which it does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Dsn(String);

/// What a DSN says.
#[derive(PartialEq, Eq)]
pub(super) struct Place {
    /// Where envelopes are sent.
    pub url: Url,
    /// What lets the collector take them.
    pub key: String,
}

impl From<String> for Dsn {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Dsn {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where envelopes go; nothing if it is no DSN.
    pub(super) fn place(&self) -> Option<Place> {
        let mut url = Url::parse(&self.0).ok()?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
        let key = url.username().to_owned();
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let (prefix, project) = url.path().rsplit_once('/')?;
        let is_project = !project.is_empty()
            && project
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_web || !is_key || !is_project {
            return None;
        }
        let path = format!("{prefix}/api/{project}/envelope/");
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        url.set_path(&path);
        Some(Place { url, key })
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.is_empty(), self.place()) {
            (true, _) => Ok(()),
            (false, Some(place)) => write!(f, "{} (the key is not shown)", place.url),
            (false, None) => f.write_str("***"),
        }
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

impl Serialize for Dsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_says_where_envelopes_go_and_does_not_show_its_key() {
        for (dsn, wanted) in [
            (
                "https://abc123@errors.example.com/7",
                "https://errors.example.com/api/7/envelope/",
            ),
            (
                "https://abc123:old@errors.example.com:8443/in/side/7?x=1#y",
                "https://errors.example.com:8443/in/side/api/7/envelope/",
            ),
            (
                "http://abc123@[::1]:9000/p-1",
                "http://[::1]:9000/api/p-1/envelope/",
            ),
        ] {
            let dsn = Dsn::from(dsn.to_owned());
            let place = dsn.place().unwrap();
            assert_eq!((place.url.as_str(), &*place.key), (wanted, "abc123"));
            assert!(!format!("{dsn} {dsn:?}").contains("abc123"));
            let written = serde_json::to_string(&dsn).unwrap();
            assert!(!written.contains("abc123"), "{written}");
        }
        for wrong in [
            "errors.example.com",
            "https://errors.example.com/7",
            "https://abc123@errors.example.com",
            "https://abc123@errors.example.com/",
            "ftp://abc123@errors.example.com/7",
            "https://a%20b@errors.example.com/7",
        ] {
            let dsn = Dsn::from(wrong.to_owned());
            assert!(dsn.place().is_none(), "{wrong}");
            assert!(!format!("{dsn} {dsn:?}").contains("abc123"));
            let config = Config {
                dsn,
                ..Config::default()
            };
            assert_eq!(config.mistakes().len(), 1, "{wrong}");
        }
        assert!(Config::default().mistakes().is_empty());
    }
}
