//! The chain of what happened: each entry has the hash of the one before, and the host signs the last one, so that nobody
//! can change, remove or add one unnoticed. Written in the transaction of what it tells of. Which events are too many, and
//! which are suspicious, is for `audit` to know.

mod canonical;
mod cause;
mod event;
mod mark;
mod query;
mod store;
mod verify;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ed25519_dalek::{SigningKey, VerifyingKey};
use sqlx::AnyPool;
use tokio::sync::mpsc;

use crate::clock::Clock;

pub use canonical::canonical;
pub use cause::{Actor, Cause, acting_as, actor, carried, within};
pub use event::{Entry, Event, Outcome};
pub use mark::{Checkpoint, NOTHING, key_of, key_text};
pub use query::{Copy, Filter, Place, Told, find};
pub use verify::{Finding, Report, verify, verify_export};

use mark::{Kind, Mark};

type Transaction = sqlx::Transaction<'static, sqlx::Any>;

/// Something to be written, or counted, by and by.
#[derive(Debug, Clone)]
pub enum Note {
    Event(Box<Event>),
    /// It is written already, with what it belongs to; whether it is suspicious is still to be seen.
    Written(Box<Event>),
    /// Somebody was answered that there is no such thing, or that they may not.
    TurnedAway {
        address: IpAddr,
        status: u16,
    },
}

/// The way to the chain. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    key: SigningKey,
    clock: Clock,
    detail_bytes_max: usize,
    notes: mpsc::Sender<Note>,
    lost: AtomicU64,
    appended: AtomicU64,
}

/// The key that signs the chain, made of what the host's keys give for it.
pub fn verifying_key(seed: &[u8; 32]) -> VerifyingKey {
    SigningKey::from_bytes(seed).verifying_key()
}

impl Ledger {
    /// A chain that this key signs, and what is noted for it: so many notes wait at most.
    pub fn new(
        seed: &[u8; 32],
        clock: Clock,
        detail_bytes_max: usize,
        queue_max: usize,
    ) -> (Self, mpsc::Receiver<Note>) {
        let (notes, receiver) = mpsc::channel(queue_max);
        let inner = Inner {
            key: SigningKey::from_bytes(seed),
            clock,
            detail_bytes_max,
            notes,
            lost: AtomicU64::new(0),
            appended: AtomicU64::new(0),
        };
        (Self(Arc::new(inner)), receiver)
    }

    /// Writes events at the end of the chain; they are there if and only if the transaction is committed.
    pub async fn append(&self, tx: &mut Transaction, events: &[Event]) -> Result<(), sqlx::Error> {
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        if count == 0 {
            return Ok(());
        }
        // Before the time is asked: entries stand in the order in which they got their numbers.
        let (last, mut hash) = store::advance(tx, count).await?;
        let at_ms = self.0.clock.now_ms();
        for (event, seq) in events.iter().zip(last - count + 1..) {
            let entry = Entry::new(seq, at_ms, event, &hash, self.0.detail_bytes_max);
            store::insert(tx, &entry).await?;
            hash = entry.hash;
        }
        let head = Mark::sign(&self.0.key, Kind::Head, last, at_ms, &hash);
        store::put_mark(tx, Kind::Head, &head).await?;
        self.0.appended.fetch_add(count.unsigned_abs(), Relaxed);
        Ok(())
    }

    /// Has an event written soon, without waiting for it. If too much waits, it is lost, and counted.
    pub fn note(&self, event: Event) {
        self.send(Note::Event(Box::new(event)));
    }

    /// Has it looked whether an event that was written is suspicious.
    pub fn note_written(&self, event: Event) {
        self.send(Note::Written(Box::new(event)));
    }

    /// Notes that somebody was turned away with this status, so that those who try around are found.
    pub fn note_turned_away(&self, address: IpAddr, status: u16) {
        self.send(Note::TurnedAway { address, status });
    }

    fn send(&self, note: Note) {
        if self.0.notes.try_send(note).is_err() {
            self.0.lost.fetch_add(1, Relaxed);
        }
    }

    /// How many notes were lost, since this was last asked.
    pub fn take_lost(&self) -> u64 {
        self.0.lost.swap(0, Relaxed)
    }

    /// How many events this process has appended.
    pub fn appended(&self) -> u64 {
        self.0.appended.load(Relaxed)
    }

    /// What verifies the marks of this chain.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0.key.verifying_key()
    }

    /// Where the chain is now, signed.
    pub async fn checkpoint(&self, pool: &AnyPool) -> Result<Checkpoint, sqlx::Error> {
        let mut tx = pool.begin().await?;
        let head = store::mark(&mut tx, Kind::Head).await?;
        let head = head.ok_or(sqlx::Error::RowNotFound)?;
        Ok(self.checkpoint_of(head.seq, &head.hash))
    }

    fn checkpoint_of(&self, seq: i64, hash: &str) -> Checkpoint {
        Checkpoint::sign(&self.0.key, seq, self.0.clock.now_ms(), hash)
    }

    /// Where the chain ends.
    pub async fn end(&self, pool: &AnyPool) -> Result<Place, sqlx::Error> {
        // Of the entry itself, as it is read later: somebody may have changed one of the two.
        if let Some((seq, hash)) = store::last(pool).await? {
            return Ok(Place { seq, hash });
        }
        let mut tx = pool.begin().await?;
        Ok(place_of(store::mark(&mut tx, Kind::Base).await?))
    }

    /// What was done behind this place, so much at most. Whoever changes what others keep in memory tells it here. Nothing if
    /// the chain does not go through that place, or not any more: the rows are those of an earlier time, or what came behind
    /// it has been removed.
    pub async fn told_after(
        &self,
        pool: &AnyPool,
        after: &Place,
        limit: i64,
    ) -> Result<Option<Told>, sqlx::Error> {
        let mut rows = store::told_from(pool, after.seq, limit.saturating_add(1)).await?;
        let is_passed = match rows.first() {
            Some((seq, _, _, hash)) if *seq == after.seq => *hash == after.hash,
            _ => {
                let mut tx = pool.begin().await?;
                place_of(store::mark(&mut tx, Kind::Base).await?) == *after
            }
        };
        if !is_passed {
            return Ok(None);
        }
        rows.retain(|(seq, ..)| *seq > after.seq);
        let end = rows.last().map(|(seq, _, _, hash)| Place {
            seq: *seq,
            hash: hash.clone(),
        });
        let events = rows.into_iter();
        let events = events.map(|(seq, action, target, _)| (seq, action, target));
        Ok(Some(Told {
            events: events.collect(),
            end: end.unwrap_or_else(|| after.clone()),
        }))
    }

    /// Whether the chain goes through this place. One that was removed because of its age counts as passed.
    pub async fn passes(&self, pool: &AnyPool, place: &Checkpoint) -> Result<bool, sqlx::Error> {
        // Once more, because it may be removed between the two looks.
        Ok(self.passes_now(pool, place).await? || self.passes_now(pool, place).await?)
    }

    async fn passes_now(&self, pool: &AnyPool, place: &Checkpoint) -> Result<bool, sqlx::Error> {
        let mut tx = pool.begin().await?;
        let base = store::mark(&mut tx, Kind::Base).await?;
        drop(tx);
        let is_signed = place.is_signed(&self.verifying_key());
        let (seq, hash) = base.map_or((0, NOTHING.to_owned()), |base| (base.seq, base.hash));
        Ok(is_signed
            && match place.seq {
                at if at < seq => true,
                at if at == seq => hash == place.hash,
                at => store::hash_of(pool, at).await?.as_deref() == Some(&*place.hash),
            })
    }

    /// Removes the oldest events before a time, so many at most, and signs where the chain begins from then on. How many
    /// are gone.
    pub async fn trim(
        &self,
        tx: &mut Transaction,
        before_ms: i64,
        limit: u32,
    ) -> Result<u64, sqlx::Error> {
        let last = store::last_before(tx, before_ms, i64::from(limit)).await?;
        let Some((seq, hash)) = last else {
            return Ok(0);
        };
        let now_ms = self.0.clock.now_ms();
        let base = Mark::sign(&self.0.key, Kind::Base, seq, now_ms, &hash);
        store::put_mark(tx, Kind::Base, &base).await?;
        store::delete_through(tx, seq).await
    }
}

fn place_of(mark: Option<Mark>) -> Place {
    let (seq, hash) = mark.map_or((0, NOTHING.to_owned()), |mark| (mark.seq, mark.hash));
    Place { seq, hash }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}
