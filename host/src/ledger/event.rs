//! Something that happened, and how it stands in the chain.

use std::{fmt::Display, net::IpAddr};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::clock::rfc3339;
use crate::ids::RequestId;
use crate::ledger::canonical::canonical;
use crate::ledger::cause::{Actor, cause};

/// Longest target, in characters.
const TARGET_CHARS_MAX: usize = 256;
/// So that a hash of an entry is a hash of nothing else.
const LEAF: &[u8] = &[0];

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Done,
    /// Whoever asked may not.
    Refused,
    /// They may, but it did not work.
    Failed,
    /// Nobody asked: the host has seen something suspicious.
    Noticed,
}

impl Outcome {
    /// As it stands in the rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Noticed => "noticed",
        }
    }
}

/// Something that happened. Made where it happens: it knows who is behind the current task.
#[derive(Debug, Clone)]
pub struct Event {
    /// Dotted, the thing first: `role.created`.
    pub action: &'static str,
    pub target: String,
    pub outcome: Outcome,
    pub actor: Actor,
    pub address: Option<IpAddr>,
    pub request_id: Option<RequestId>,
    pub detail: Map<String, Value>,
    /// Tells whom it concerns without saying it, for those who count; it is not written.
    pub mark: Option<u64>,
}

impl Event {
    /// Something was done to a target.
    pub fn new(action: &'static str, target: impl Display) -> Self {
        let cause = cause();
        let nobody = || Actor {
            kind: "anonymous",
            id: String::new(),
        };
        Self {
            action,
            target: shown(&target.to_string()),
            outcome: Outcome::Done,
            actor: cause.actor.unwrap_or_else(nobody),
            address: cause.address,
            request_id: cause.request_id,
            detail: Map::new(),
            mark: None,
        }
    }

    /// Somebody was turned away, with this code.
    pub fn refused(action: &'static str, target: impl Display, code: &str) -> Self {
        let event = Self::new(action, target).with("code", code);
        event.ended(Outcome::Refused)
    }

    /// It did not work, with this code.
    pub fn failed(action: &'static str, target: impl Display, code: &str) -> Self {
        let event = Self::new(action, target).with("code", code);
        event.ended(Outcome::Failed)
    }

    /// The same with another end.
    #[must_use]
    pub fn ended(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same by somebody else than the one behind the task.
    #[must_use]
    pub fn by(mut self, kind: &'static str, id: impl Display) -> Self {
        let id = id.to_string();
        self.actor = Actor { kind, id };
        self
    }

    /// The same from this address, during this request.
    #[must_use]
    pub fn of(mut self, address: Option<IpAddr>, request_id: RequestId) -> Self {
        self.address = address;
        self.request_id = Some(request_id);
        self
    }

    /// The same with one more detail. Never a secret or what gives one away.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.to_owned(), value.into());
        self
    }

    /// The same with what was before and what is after.
    #[must_use]
    pub fn changed(self, before: impl Into<Value>, after: impl Into<Value>) -> Self {
        self.with("before", before).with("after", after)
    }

    /// The same with a mark of whom it concerns.
    #[must_use]
    pub fn marked(mut self, mark: u64) -> Self {
        self.mark = Some(mark);
        self
    }
}

/// An event in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub seq: i64,
    pub at_ms: i64,
    pub actor_kind: String,
    pub actor: String,
    /// Empty if there is none.
    pub address: String,
    pub action: String,
    pub target: String,
    pub outcome: String,
    /// Empty if there is none.
    pub request_id: String,
    pub detail: Map<String, Value>,
    /// Hash of the entry before.
    pub prev: String,
    /// Hash of this entry, 64 hexadecimal digits.
    pub hash: String,
}

impl Entry {
    /// Puts an event behind the entry with this hash.
    pub(super) fn new(
        seq: i64,
        at_ms: i64,
        event: &Event,
        prev: &str,
        detail_bytes_max: usize,
    ) -> Self {
        let mut entry = Self {
            seq,
            at_ms,
            actor_kind: event.actor.kind.to_owned(),
            actor: event.actor.id.clone(),
            address: event
                .address
                .map(|address| address.to_canonical().to_string())
                .unwrap_or_default(),
            action: event.action.to_owned(),
            target: event.target.clone(),
            outcome: event.outcome.as_str().to_owned(),
            request_id: event
                .request_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            detail: bounded(&event.detail, detail_bytes_max),
            prev: prev.to_owned(),
            hash: String::new(),
        };
        entry.hash = entry.computed();
        entry
    }

    /// The details as they stand in the rows.
    pub(super) fn detail_text(&self) -> String {
        canonical(&Value::Object(self.detail.clone()))
    }

    /// The hash that the entry should have.
    pub fn computed(&self) -> String {
        let text = canonical(&self.plain());
        hex::encode(
            Sha256::new()
                .chain_update(LEAF)
                .chain_update(text)
                .finalize(),
        )
    }

    /// The entry as one object, with its hash: a line of an export.
    pub fn to_json(&self) -> Value {
        let mut value = self.plain();
        value["hash"] = Value::from(self.hash.as_str());
        value
    }

    /// An entry of an export; nothing if it is none.
    pub fn of_json(value: &Value) -> Option<Self> {
        let text = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let at: jiff::Timestamp = text("at")?.parse().ok()?;
        let entry = Self {
            seq: value.get("seq")?.as_i64()?,
            at_ms: at.as_millisecond(),
            actor_kind: text("actor_kind")?,
            actor: text("actor")?,
            address: text("address")?,
            action: text("action")?,
            target: text("target")?,
            outcome: text("outcome")?,
            request_id: text("request_id")?,
            detail: value.get("detail")?.as_object()?.clone(),
            prev: text("prev")?,
            hash: text("hash")?,
        };
        // Whatever else stands there is not covered by the hash.
        (entry.to_json() == *value).then_some(entry)
    }

    fn plain(&self) -> Value {
        json!({
            "seq": self.seq,
            "at": rfc3339(self.at_ms),
            "actor_kind": self.actor_kind,
            "actor": self.actor,
            "address": self.address,
            "action": self.action,
            "target": self.target,
            "outcome": self.outcome,
            "request_id": self.request_id,
            "detail": self.detail,
            "prev": self.prev,
        })
    }
}

/// Without the one character that Postgres does not keep.
fn shown(target: &str) -> String {
    let target = target.chars().take(TARGET_CHARS_MAX);
    let kept = target.map(|c| {
        if c == '\0' {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    });
    kept.collect()
}

/// Details that are too long are told by their length and their hash.
fn bounded(detail: &Map<String, Value>, bytes_max: usize) -> Map<String, Value> {
    // What comes back from the rows is what was hashed, also where a number is not one of JSON's.
    let text = canonical(&Value::Object(detail.clone()));
    if text.len() > bytes_max {
        let mut short = Map::new();
        short.insert("bytes".to_owned(), text.len().into());
        short.insert(
            "sha256".to_owned(),
            hex::encode(Sha256::digest(&text)).into(),
        );
        return short;
    }
    serde_json::from_str(&text).unwrap_or_default()
}
