//! What an issuer that shares a server with this host has revoked before its time. Tokens of others show that in nothing
//! but this.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use moka::{policy::EvictionPolicy, sync::Cache};
use serde_json::{Map, Value};

/// The longest that an access token of a host lives, and how far clocks may be apart, twice.
const KEPT: Duration = Duration::from_secs(3600 + 2 * 300);
/// Most sessions, and most users, that are remembered for one issuer.
const REMEMBERED_MAX: u64 = 100_000;
/// Most keys. They are few, and what they have signed never expires if a thief says so: none is forgotten by itself.
const KEYS_MAX: u64 = 1000;

pub(super) struct Revoked {
    sessions: Cache<String, ()>,
    /// Tokens of a user count from this generation on.
    generations: Cache<String, i64>,
    /// Nothing that these have signed is good.
    keys: Cache<String, ()>,
    /// Most issuers never revoke anything.
    has_any: AtomicBool,
}

impl Default for Revoked {
    fn default() -> Self {
        Self::with_room_for(REMEMBERED_MAX)
    }
}

/// Longest id of a session or a user that is remembered, in bytes.
const ID_BYTES_MAX: usize = 255;

impl Revoked {
    /// When there is no room, the oldest goes: what was revoked just now must not be the one that is not taken.
    fn with_room_for(remembered_max: u64) -> Self {
        let lru = || EvictionPolicy::lru();
        Self {
            sessions: Cache::builder()
                .max_capacity(remembered_max)
                .eviction_policy(lru())
                .time_to_live(KEPT)
                .build(),
            generations: Cache::builder()
                .max_capacity(remembered_max)
                .eviction_policy(lru())
                .time_to_live(KEPT)
                .build(),
            keys: Cache::builder()
                .max_capacity(KEYS_MAX)
                .eviction_policy(lru())
                .build(),
            has_any: AtomicBool::new(false),
        }
    }

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

    /// Remembers the key that a host has told to be revoked (`kid`), and gives it if it was not known to be.
    pub(super) fn learn_key<'t>(&self, told: &'t HashMap<String, String>) -> Option<&'t str> {
        let id = told.get("kid").filter(|id| id.len() <= ID_BYTES_MAX)?;
        if self.has_key(id) {
            return None;
        }
        self.keys.insert(id.clone(), ());
        Some(id)
    }

    /// Whether this key was revoked.
    pub(super) fn has_key(&self, id: &str) -> bool {
        self.keys.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_revoked_last_is_refused_however_much_was_revoked_before() {
        let revoked = Revoked::with_room_for(10);
        let told = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            pairs.iter().map(owned).collect()
        };
        let is_refused = |at: usize| {
            let session = json!({ "sid": format!("session-{at}"), "generation": 9 });
            let user = json!({ "generation": 1 });
            let refused = |subject: &str, claims: &Value| {
                revoked.contains(subject, claims.as_object().unwrap())
            };
            refused("nobody", &session) && refused(&format!("user-{at}"), &user)
        };
        for at in 0..50 {
            revoked.learn(&told(&[("sid", &format!("session-{at}"))]));
            let user = format!("user-{at}");
            revoked.learn(&told(&[("sub", &user), ("generation", "2")]));
            revoked.sessions.run_pending_tasks();
            revoked.generations.run_pending_tasks();
            assert!(is_refused(at), "{at}");
        }
        assert!(!is_refused(0));
    }
}
