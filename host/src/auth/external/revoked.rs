//! What an issuer that shares a server with this host has revoked before its time. Tokens of others show that in nothing
//! but this.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use moka::sync::Cache;
use serde_json::{Map, Value};

/// Longer than any access token should live.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Most sessions, and most users, that are remembered for one issuer.
const REMEMBERED_MAX: u64 = 100_000;

pub(super) struct Revoked {
    sessions: Cache<String, ()>,
    /// Tokens of a user count from this generation on.
    generations: Cache<String, i64>,
    /// Most issuers never revoke anything.
    has_any: AtomicBool,
}

impl Default for Revoked {
    fn default() -> Self {
        Self {
            sessions: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(KEPT)
                .build(),
            generations: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(KEPT)
                .build(),
            has_any: AtomicBool::new(false),
        }
    }
}

/// Longest id of a session or a user that is remembered, in bytes.
const ID_BYTES_MAX: usize = 255;

impl Revoked {
    /// Remembers what a host has told: a session (`sid`), or a user (`sub`) with the `generation` from which on tokens count.
    pub(super) fn learn(&self, told: &HashMap<String, String>) {
        let id = |name| told.get(name).filter(|id| id.len() <= ID_BYTES_MAX);
        if let Some(session) = id("sid") {
            self.sessions.insert(session.clone(), ());
        }
        let generation = told
            .get("generation")
            .and_then(|text| text.parse::<i64>().ok());
        if let (Some(user), Some(generation)) = (id("sub"), generation) {
            let known = self.generations.get(user).unwrap_or(i64::MIN);
            self.generations.insert(user.clone(), generation.max(known));
        }
        self.has_any.store(true, Ordering::Release);
    }

    /// Whether a token of this subject, with these claims, was revoked.
    pub(super) fn contains(&self, subject: &str, claims: &Map<String, Value>) -> bool {
        if !self.has_any.load(Ordering::Acquire) {
            return false;
        }
        let session = claims.get("sid").and_then(Value::as_str);
        if session.is_some_and(|session| self.sessions.contains_key(session)) {
            return true;
        }
        let generation = claims.get("generation").and_then(Value::as_i64);
        let from = self.generations.get(subject);
        from.is_some_and(|from| generation.is_none_or(|generation| generation < from))
    }
}
