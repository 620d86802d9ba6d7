//! What is wrong with an upload, said so that its author can mend it. All mistakes are collected before any is told.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where in `plugin.toml` something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that keeps an upload from being deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// The place in `plugin.toml`; nothing if the mistake is elsewhere, for example in the component.
    pub location: Option<Location>,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// How to mend it, where that is known.
    pub help: Option<String>,
}

impl Mistake {
    /// A mistake that is not in the manifest's text.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            location: None,
            message: message.into(),
            help: None,
        }
    }

    /// The same mistake, with its place in the manifest, if there is one.
    #[must_use]
    pub fn at(mut self, location: Option<Location>) -> Self {
        self.location = location;
        self
    }

    /// The same mistake, with advice.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// How many there are, in words: `1 mistake`, `2 mistakes`.
pub(crate) fn count(mistakes: &[Mistake]) -> String {
    match mistakes.len() {
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    }
}

/// `plugin.toml:12:3: unknown key `pat` in [[route]] (did you mean `path`?)`
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = self.location {
            write!(f, "plugin.toml:{location}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}
