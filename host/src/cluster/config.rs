//! Settings of the shared server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::address::Address;

/// The server that several hosts share.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where Valkey or Redis is: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` for TLS; user, password, port
    /// and database can be left out. One server, or an address behind which there is always one; not the cluster protocol.
    /// If a password is in it, better in the environment (`GANTRY_CLUSTER__REDIS_URL`) than in a file of settings. Default:
    /// empty, and everything stays in this process.
    pub redis_url: Address,
    /// A file with the password. Default: none.
    pub password_file: Option<PathBuf>,
    /// A file with certificates (PEM) of authorities that may vouch for the server, in place of the system's. Default: none.
    pub ca_file: Option<PathBuf>,
    /// What the name of every key begins with: hosts that share a server and a prefix share what is there. Default: `gantry`.
    pub prefix: String,
    /// Longest time to connect. Default: 1000.
    pub connect_timeout_ms: u64,
    /// Longest time for one command. After one that took longer, the server counts as unreachable until it has answered
    /// again. Default: 250.
    pub command_timeout_ms: u64,
    /// Most commands that wait for their answers; further ones fail at once. Default: 4096.
    pub in_flight_max: usize,
    /// Longest pause between two attempts to reach a server that was lost; the first comes at once. Default: 1000.
    pub retry_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            redis_url: Address::default(),
            password_file: None,
            ca_file: None,
            prefix: "gantry".to_owned(),
            connect_timeout_ms: 1000,
            command_timeout_ms: 250,
            in_flight_max: 4096,
            retry_max_ms: 1000,
        }
    }
}

impl Config {
    /// Whether there is such a server at all.
    pub fn is_on(&self) -> bool {
        !self.redis_url.is_empty()
    }

    /// Every mistake in these settings.
    pub fn mistakes(&self) -> Vec<String> {
        if !self.is_on() {
            return Vec::new();
        }
        let url = self.redis_url.parse();
        let is_address = url.as_ref().is_some_and(|url| {
            ["redis", "rediss"].contains(&url.scheme())
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && is_database(url.path())
        });
        let has_password = url.as_ref().is_some_and(|url| url.password().is_some());
        let has_tls = url.is_some_and(|url| url.scheme() == "rediss");
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let rules = [
            (
                is_address,
                "`cluster.redis_url` is an address like `redis://HOST:6379/0` or `rediss://HOST:6380`",
            ),
            (
                !has_password || self.password_file.is_none(),
                "`cluster.redis_url` has a password and `cluster.password_file` is set: one of the two is enough",
            ),
            (
                self.ca_file.is_none() || has_tls,
                "`cluster.ca_file` is for an address that begins with `rediss://`",
            ),
            (
                (1..=64).contains(&self.prefix.len()) && self.prefix.chars().all(is_plain),
                "`cluster.prefix` has 1 to 64 letters, digits, points, hyphens and underscores",
            ),
            (
                self.connect_timeout_ms > 0 && self.command_timeout_ms > 0 && self.retry_max_ms > 0,
                "`cluster.connect_timeout_ms`, `command_timeout_ms` and `retry_max_ms` must be at least 1",
            ),
            (
                (1..=1 << 20).contains(&self.in_flight_max),
                "`cluster.in_flight_max` must be 1 to 1048576",
            ),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds);
        broken.map(|(_, rule)| (*rule).to_owned()).collect()
    }

    /// The address with everything that is secret in it.
    pub(super) fn whole_address(&self) -> std::io::Result<Zeroizing<String>> {
        self.redis_url.whole(self.password_file.as_deref())
    }
}

/// Whether this path names a database by its number, or none.
fn is_database(path: &str) -> bool {
    let number = path.strip_prefix('/').unwrap_or(path);
    number.is_empty() || number.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_password_is_read_and_never_written() {
        for (url, shown) in [
            ("redis://:s3cret@cache:6379/1", "redis://:***@cache:6379/1"),
            ("rediss://ann:s3cret@cache", "rediss://ann:***@cache"),
            ("redis://cache/", "redis://cache/"),
            ("s3cret", "***"),
            ("redis:s3cret", "***"),
        ] {
            let config = config(&format!("redis_url = '{url}'"));
            assert_eq!(config.whole_address().unwrap().as_str(), url);
            assert_eq!(config.redis_url.to_string(), shown);
            assert!(!format!("{config:?}").contains("s3cret"));
            let json = serde_json::to_string(&config).unwrap();
            assert!(!json.contains("s3cret"), "{json}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3:cret@\n").unwrap();
        let path = file.path().display();
        let config = config(&format!(
            "redis_url = 'redis://cache/2'\npassword_file = '{path}'"
        ));
        assert_eq!(
            config.whole_address().unwrap().as_str(),
            "redis://:s3%3Acret%40@cache/2"
        );
    }

    #[test]
    fn mistakes_are_told_by_the_name_of_the_setting() {
        for (text, told) in [
            ("redis_url = 'cache:6379'", Some("redis_url")),
            ("redis_url = 'http://cache'", Some("redis_url")),
            ("redis_url = 'redis://cache/zero'", Some("redis_url")),
            ("redis_url = 'redis://cache?x=1'", Some("redis_url")),
            (
                "redis_url = 'redis://:a@cache'\npassword_file = '/x'",
                Some("password_file"),
            ),
            (
                "redis_url = 'redis://cache'\nca_file = '/x'",
                Some("ca_file"),
            ),
            (
                "redis_url = 'redis://cache'\nprefix = 'a b'",
                Some("prefix"),
            ),
            (
                "redis_url = 'redis://cache'\ncommand_timeout_ms = 0",
                Some("command_timeout_ms"),
            ),
            (
                "redis_url = 'redis://cache'\nin_flight_max = 0",
                Some("in_flight_max"),
            ),
            ("redis_url = 'rediss://a:b@cache:1/3'\nca_file = '/x'", None),
            ("", None),
        ] {
            let mistakes = config(text).mistakes();
            let holds = match told {
                Some(name) => mistakes.len() == 1 && mistakes[0].contains(name),
                None => mistakes.is_empty(),
            };
            assert!(holds, "{text}: {mistakes:?}");
        }
    }
}
