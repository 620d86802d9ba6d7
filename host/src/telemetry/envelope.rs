//! One error of the host's log as Sentry's envelopes have it (version 7 of the protocol).

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Longest text of one field, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Most fields of one error.
const FIELDS_MAX: usize = 32;

/// Who sends, as the protocol asks for it.
pub(super) const CLIENT: &str = concat!("gantry/", env!("CARGO_PKG_VERSION"));

/// What was written to the log in one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// These, and behind them those of another place.
    pub(super) fn extend(&mut self, other: &Self) {
        for (name, text) in &other.0 {
            self.put(name, text.clone());
        }
    }

    /// The last one counts: what is known later is known better.
    fn put(&mut self, name: &'static str, mut text: String) {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        text.truncate(end);
        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| *known == name) {
            *known = text;
        } else if self.0.len() < FIELDS_MAX {
            self.0.push((name, text));
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field.name(), text);
    }
}

/// An error that waits to be sent.
#[derive(Debug)]
pub(super) struct Told {
    at: Timestamp,
    level: &'static str,
    target: &'static str,
    fields: Fields,
}

impl Told {
    /// What the log tells, with what is known of the request that it belongs to.
    pub(super) fn new(event: &Event<'_>, around: Fields) -> Self {
        let mut fields = around;
        event.record(&mut fields);
        Self {
            at: Timestamp::now(),
            level: match *event.metadata().level() {
                Level::ERROR => "error",
                _ => "warning",
            },
            target: event.metadata().target(),
            fields,
        }
    }

    /// Bytes to be sent. `lost` is how many errors before it are not.
    pub(super) fn envelope(mut self, environment: &str, host: &str, lost: u64) -> Vec<u8> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let message = self.fields.take("message").unwrap_or_default();
        let principal = self.fields.take("principal.id");
        let mut tags = Map::new();
        for name in ["request.id", "plugin.name", "route", "error.code"] {
            if let Some(text) = self.fields.take(name) {
                tags.insert(name.to_owned(), text.into());
            }
        }
        let rest = self.fields.0.into_iter();
        let mut extra: Map<String, Value> = rest
            .map(|(name, text)| (name.to_owned(), text.into()))
            .collect();
        if lost > 0 {
            extra.insert("lost_before".to_owned(), lost.into());
        }
        let mut event = json!({
            "event_id": id,
            "timestamp": self.at.to_string(),
            "platform": "other",
            "level": self.level,
            "logger": self.target,
            "server_name": host,
            "release": concat!("gantry@", env!("CARGO_PKG_VERSION")),
            "environment": environment,
            "logentry": { "formatted": message },
            "tags": tags,
            "extra": extra,
        });
        if let Some(principal) = principal {
            event["user"] = json!({ "id": principal });
        }
        let event = event.to_string();
        let head = json!({ "event_id": id, "sent_at": Timestamp::now().to_string() });
        let item =
            json!({ "type": "event", "content_type": "application/json", "length": event.len() });
        format!("{head}\n{item}\n{event}\n").into_bytes()
    }
}
