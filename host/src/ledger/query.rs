//! Reading the chain: by what happened, or all of it from some place on.

use sqlx::AnyPool;

use super::event::Entry;
use super::mark::{Checkpoint, Kind};
use super::{Ledger, store};

/// Which entries are wanted. What is not set does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub actor: Option<String>,
    /// An action, or the beginning of actions and `*`.
    pub action: Option<String>,
    pub target: Option<String>,
    pub outcome: Option<String>,
    pub request_id: Option<String>,
    /// Milliseconds since 1970.
    pub since_ms: Option<i64>,
    pub until_ms: Option<i64>,
    /// Only entries with smaller numbers.
    pub before_seq: Option<i64>,
    /// Most entries.
    pub limit: i64,
}

/// The whole chain from some place on, up to where it was when somebody asked.
#[derive(Debug, Clone)]
pub struct Copy {
    pool: AnyPool,
    /// The last number that was read.
    after: i64,
    /// The hash of the entry with that number.
    pub prev: String,
    /// Where the copy ends.
    pub checkpoint: Checkpoint,
}

/// A place of the chain, by which somebody knows it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(super) seq: i64,
    pub(super) hash: String,
}

/// What was done behind a place.
#[derive(Debug)]
pub struct Told {
    /// Number, action and target of each, oldest first.
    pub events: Vec<(i64, String, String)>,
    /// The place of the last one.
    pub end: Place,
}

/// Entries that fit, newest first.
pub async fn find(pool: &AnyPool, filter: &Filter) -> Result<Vec<Entry>, sqlx::Error> {
    store::find(pool, filter).await
}

impl Ledger {
    /// A copy of the chain behind the entry with this number, or from its beginning.
    pub async fn copy(&self, pool: &AnyPool, after: i64) -> Result<Copy, sqlx::Error> {
        let mut tx = pool.begin().await?;
        let head = store::mark(&mut tx, Kind::Head).await?;
        let base = store::mark(&mut tx, Kind::Base).await?;
        let (head_seq, head_hash) = head.map_or_else(
            || (0, super::NOTHING.to_owned()),
            |head| (head.seq, head.hash),
        );
        let (base_seq, base_hash) = base.map_or_else(
            || (0, super::NOTHING.to_owned()),
            |base| (base.seq, base.hash),
        );
        let checkpoint = self.checkpoint_of(head_seq, &head_hash);
        let after = after.clamp(base_seq, head_seq.max(base_seq));
        let prev = match after {
            after if after == base_seq => Some(base_hash),
            after => store::hash_of(pool, after).await?,
        };
        Ok(Copy {
            pool: pool.clone(),
            after,
            prev: prev.unwrap_or_default(),
            checkpoint,
        })
    }
}

impl Copy {
    /// The number of the last entry that is not part of what comes.
    pub fn after(&self) -> i64 {
        self.after
    }

    /// The next entries, oldest first; none at the end.
    pub async fn next(&mut self) -> Result<Vec<Entry>, sqlx::Error> {
        const PAGE: i64 = 500;
        let mut tx = self.pool.begin().await?;
        let rows = store::rows_after(&mut tx, self.after, PAGE).await?;
        let entries: Result<Vec<_>, _> = rows.iter().map(store::entry).collect();
        let mut entries = entries?;
        entries.retain(|entry| entry.seq <= self.checkpoint.seq);
        if let Some(last) = entries.last() {
            self.after = last.seq;
        }
        Ok(entries)
    }
}
