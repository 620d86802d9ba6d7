//! What the operator decides about mail.

use std::{fmt, path::PathBuf};

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// The server that takes the host's mail, and how long mail waits for it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The host name of a mail server (SMTP) that takes mail from here. Default: empty, and no mail is sent.
    pub server: String,
    /// Its port. Default: 587.
    pub port: u16,
    /// How the connection is protected: `starttls`, `tls` (from the first byte, usually on port 465) or `none`. Without
    /// protection no password is sent. Default: `starttls`.
    pub tls: Tls,
    /// A file with certificates (PEM) that are trusted beside the system's. Default: none.
    pub ca_file: Option<PathBuf>,
    /// The user to log in with. Default: empty, no login.
    pub user: String,
    /// The password. Better in the environment (`GANTRY_MAIL__PASSWORD`) or in `password_file` than in a file of settings.
    pub password: Password,
    /// A file with the password. Default: none.
    pub password_file: Option<PathBuf>,
    /// The sender: `noreply@example.com` or `Example <noreply@example.com>`. Needed if there is a server.
    pub from: String,
    /// How long the mail server may take for one step. Default: 10000.
    pub timeout_ms: u64,
    /// Messages sent at the same time, 1 to 32. Default: 2.
    pub connections_max: u32,
    /// Messages that wait to be sent; further ones are not taken. Default: 10000.
    pub waiting_max: u32,
    /// Pause after a first failure; it doubles with each further one. Default: 5000.
    pub retry_first_ms: u64,
    /// Longest pause. Default: 60000.
    pub retry_max_ms: u64,
    /// How long a message is tried before it is given up, in hours, unless it is of no use any more before.
    /// Default: 72.
    pub keep_hours: u32,
}

/// How a connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    Starttls,
    Tls,
    None,
}

/// A password within settings; it does not show itself.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Password(Zeroizing<String>);

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: String::new(),
            port: 587,
            tls: Tls::Starttls,
            ca_file: None,
            user: String::new(),
            password: Password::default(),
            password_file: None,
            from: String::new(),
            timeout_ms: 10_000,
            connections_max: 2,
            waiting_max: 10_000,
            retry_first_ms: 5_000,
            retry_max_ms: 60_000,
            keep_hours: 72,
        }
    }
}

impl Config {
    /// Whether mail can be sent at all.
    pub fn is_on(&self) -> bool {
        !self.server.is_empty()
    }

    /// Every mistake in these settings.
    pub fn mistakes(&self) -> Vec<String> {
        if !self.is_on() {
            return Vec::new();
        }
        let has_password = !self.password.0.is_empty() || self.password_file.is_some();
        let rules = [
            (
                self.from.parse::<Mailbox>().is_ok(),
                "`mail.from` is an address like `Example <noreply@example.com>`",
            ),
            (
                self.user.is_empty() != has_password,
                "`mail.user` needs a password (`GANTRY_MAIL__PASSWORD` or `mail.password_file`), and a password a user",
            ),
            (
                self.user.is_empty() || self.tls != Tls::None,
                "`mail.tls` must not be `none` where a password is sent",
            ),
            (
                (1..=32).contains(&self.connections_max),
                "`mail.connections_max` must be 1 to 32",
            ),
            (
                self.timeout_ms > 0 && self.waiting_max > 0 && self.keep_hours > 0,
                "`mail.timeout_ms`, `mail.waiting_max` and `mail.keep_hours` must be at least 1",
            ),
            (
                (1..=self.retry_max_ms).contains(&self.retry_first_ms),
                "`mail.retry_first_ms` must be at least 1 and at most `mail.retry_max_ms`",
            ),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds);
        broken.map(|(_, rule)| (*rule).to_owned()).collect()
    }

    /// The password, wherever it is.
    pub(super) fn read_password(&self) -> std::io::Result<Zeroizing<String>> {
        match &self.password_file {
            None => Ok(self.password.0.clone()),
            Some(file) => {
                let text = Zeroizing::new(std::fs::read_to_string(file)?);
                Ok(Zeroizing::new(
                    text.trim_end_matches(['\r', '\n']).to_owned(),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_password_is_read_and_never_written() {
        let config = config("password = 's3cret'\nserver = 'x'");
        assert_eq!(config.read_password().unwrap().as_str(), "s3cret");
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("s3cret") && written.contains("***"));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (text, wanted) in [
            ("", ""),
            ("server = 'x'", "mail.from"),
            ("server = 'x'\nfrom = 'a@b.c'", ""),
            ("server = 'x'\nfrom = 'A <a@b.c>'", ""),
            ("server = 'x'\nfrom = 'a'", "mail.from"),
            ("server = 'x'\nfrom = 'a@b.c'\nuser = 'u'", "mail.user"),
            ("server = 'x'\nfrom = 'a@b.c'\npassword = 'u'", "mail.user"),
            (
                "server = 'x'\nfrom = 'a@b.c'\nuser = 'u'\npassword = 'p'\ntls = 'none'",
                "mail.tls",
            ),
            (
                "server = 'x'\nfrom = 'a@b.c'\nretry_first_ms = 70000",
                "retry_first_ms",
            ),
        ] {
            let mistakes = config(text).mistakes().join("; ");
            let is_wanted = mistakes.is_empty() == wanted.is_empty() && mistakes.contains(wanted);
            assert!(is_wanted, "{text}: {mistakes}");
        }
    }
}
