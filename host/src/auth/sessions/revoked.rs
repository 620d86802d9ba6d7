//! Sessions that were ended while access tokens of them are out. Asked for each request with an access token, so it is in
//! memory; an entry goes when the last such token has expired by itself.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::ids::SessionId;

/// How many entries there may be before those that have become needless are looked for.
const TIDY_AT_LEAST: usize = 64;

#[derive(Default)]
pub(in crate::auth) struct Revoked {
    /// Until when each is of interest.
    until_ms: RwLock<HashMap<SessionId, i64>>,
    count: AtomicUsize,
    /// At this many, needless ones are removed.
    tidy_at: AtomicUsize,
}

impl Revoked {
    /// Whether this session was revoked.
    pub(in crate::auth) fn contains(&self, id: SessionId) -> bool {
        // Most of the time there are none.
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let until_ms = self.until_ms.read().unwrap_or_else(PoisonError::into_inner);
        until_ms.contains_key(&id)
    }

    /// All of them, in no order.
    pub(in crate::auth) fn all(&self) -> Vec<SessionId> {
        let until_ms = self.until_ms.read().unwrap_or_else(PoisonError::into_inner);
        until_ms.keys().copied().collect()
    }

    /// Adds sessions of which access tokens may be out until then.
    pub(super) fn add(&self, ids: impl IntoIterator<Item = SessionId>, until_ms: i64, now_ms: i64) {
        let mut table = self
            .until_ms
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        table.extend(ids.into_iter().map(|id| (id, until_ms)));
        let tidy_at = self.tidy_at.load(Ordering::Relaxed).max(TIDY_AT_LEAST);
        if table.len() >= tidy_at {
            table.retain(|_, until_ms| *until_ms > now_ms);
            self.tidy_at.store(table.len() * 2, Ordering::Relaxed);
        }
        self.count.store(table.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_revoked_stays_until_no_token_of_it_is_good() {
        let revoked = Revoked::default();
        let ids: Vec<SessionId> = (0..100).map(|_| SessionId::new()).collect();
        assert!(!revoked.contains(ids[0]));
        revoked.add(ids[..50].iter().copied(), 1000, 0);
        revoked.add(ids[50..].iter().copied(), 2000, 500);
        assert!(ids.iter().all(|id| revoked.contains(*id)));
        for _ in 0..200 {
            revoked.add([SessionId::new()], 3000, 1500);
        }
        assert!(!ids[..50].iter().any(|id| revoked.contains(*id)));
        assert!(ids[50..].iter().all(|id| revoked.contains(*id)));
    }
}
