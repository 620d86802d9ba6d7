//! Settings of the host's rows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::address::Address;

/// Where the host's rows are, and how many connections it keeps to them.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where a Postgres server is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with `?sslmode=verify-full` behind it where
    /// the network is not the host's own. If a password is in it, better in the environment (`GANTRY_DB__URL`) than in a
    /// file of settings. Default: empty, and the rows are in the file `gantry.db` of the data directory.
    pub url: Address,
    /// A file with the password of the Postgres server. Default: none.
    pub password_file: Option<PathBuf>,
    /// Whether several hosts use the rows on the Postgres server. All of them must say so, and have the same keys. Default: false.
    pub shared: bool,
    /// Connections that read for the host, and as many that read for plugins. Default: 4.
    pub readers: u32,
    /// Connections to Postgres that write for plugins; what the host changes itself has a few of its own. In a file there is
    /// one writer. Default: 4.
    pub writers: u32,
    /// How long to wait for a connection or a lock. Default: 5000.
    pub wait_ms: u64,
    /// Longest time of one statement on Postgres, and of a transaction in which nothing happens. Default: 30000.
    pub statement_ms: u64,
}

/// What can stand behind the `?` of an address.
const PARAMETERS: [&str; 7] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "host",
    "options",
];

impl Default for Config {
    fn default() -> Self {
        Self {
            url: Address::default(),
            password_file: None,
            shared: false,
            readers: 4,
            writers: 4,
            wait_ms: 5000,
            statement_ms: 30_000,
        }
    }
}

impl Config {
    /// Whether the rows are on a server, and not in a file.
    pub fn has_server(&self) -> bool {
        !self.url.is_empty()
    }

    /// Where on its machine the server listens.
    pub(super) fn port(&self) -> u16 {
        let url = self.url.parse();
        url.and_then(|url| url.port()).unwrap_or(5432)
    }

    /// Every mistake in these settings.
    pub fn mistakes(&self) -> Vec<String> {
        let url = self.url.parse();
        let is_address = url.as_ref().is_some_and(|url| {
            ["postgres", "postgresql"].contains(&url.scheme())
                && url.has_host()
                && url.path().len() > 1
                && url.fragment().is_none()
        });
        let has_password = url.as_ref().is_some_and(|url| url.password().is_some());
        // What is not known is not passed on: a misspelt `sslmode` would let go of the encryption that it asks for.
        let is_known = |name: &str| PARAMETERS.contains(&name);
        let are_known = url.is_none_or(|url| url.query_pairs().all(|(name, _)| is_known(&name)));
        let rules = [
            (
                is_address || !self.has_server(),
                "`db.url` is an address like `postgres://USER@HOST:5432/DATABASE`, or empty",
            ),
            (
                are_known,
                "behind the `?` of `db.url` can stand `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `application_name`, `host` \
                 and `options`, spelt like this; a password stands before the `@`, or in `db.password_file`",
            ),
            (
                self.password_file.is_none() || (self.has_server() && !has_password),
                "`db.password_file` is for a `db.url` that has no password in it",
            ),
            (
                self.has_server() || !self.shared,
                "`db.shared` needs a Postgres server (`db.url`): a file belongs to one host",
            ),
            (
                (1..=1000).contains(&self.readers) && (1..=1000).contains(&self.writers),
                "`db.readers` and `db.writers` must be 1 to 1000",
            ),
            (
                self.wait_ms > 0 && self.statement_ms >= self.wait_ms,
                "`db.wait_ms` must be at least 1, and `db.statement_ms` at least as much",
            ),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds);
        broken.map(|(_, rule)| (*rule).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_postgres_and_does_not_show_its_password() {
        for (text, told) in [
            ("", None),
            ("url = 'postgres://gantry:s3cret@db:5432/gantry'", None),
            (
                "url = 'postgresql://db/gantry?sslmode=verify-full'\npassword_file = '/x'",
                None,
            ),
            ("url = 'mysql://db/gantry'", Some("db.url")),
            ("url = 'postgres://db'", Some("db.url")),
            ("url = 'gantry.db'", Some("db.url")),
            (
                "url = 'postgres://a:b@db/gantry'\npassword_file = '/x'",
                Some("password_file"),
            ),
            ("password_file = '/x'", Some("password_file")),
            ("shared = true", Some("db.shared")),
            ("url = 'postgres://db/gantry'\nshared = true", None),
            (
                "url = 'postgres://db/gantry?user=a&password=s3cret'",
                Some("password_file"),
            ),
            (
                "url = 'postgres://db/gantry?PassWord=s3cret&sslmode=prefer'",
                Some("password_file"),
            ),
            (
                "url = 'postgres://db/gantry?ssl_mode=verify-full'",
                Some("spelt"),
            ),
            (
                "url = 'postgres://db/gantry?sslmode=verify-full&sslrootcert=/ca&application_name=a&host=/run'",
                None,
            ),
            ("readers = 0", Some("readers")),
            ("writers = 0", Some("writers")),
            ("statement_ms = 10", Some("statement_ms")),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let mistakes = config.mistakes();
            let holds = match told {
                Some(name) => mistakes.len() == 1 && mistakes[0].contains(name),
                None => mistakes.is_empty(),
            };
            assert!(holds, "{text}: {mistakes:?}");
            for shown in [
                format!("{config:?}"),
                serde_json::to_string(&config).unwrap(),
            ] {
                assert!(!shown.contains("s3cret"), "{shown}");
            }
        }
    }
}
