//! Requests that are alike and come at the same time: one has the answer made, the others wait for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::watch;

use crate::cache::{Entry, Key};

/// What came of having an answer made.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is kept.
    Kept(Arc<Entry>),
    /// It is one for its client only; the others have theirs made each.
    Private,
    /// There is none, and asking again at once would fail too. The status of the failure.
    Failed(u16),
    /// Who had it made is gone; another one takes over.
    Abandoned,
}

/// What a request has to do.
#[derive(Debug)]
pub enum Turn {
    /// Have the answer made.
    Lead(Leader),
    /// Wait.
    Wait(Waiter),
    /// Too many wait already.
    Full,
}

#[derive(Debug)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Key, Arc<Flight>>>,
    waiting_max: usize,
}

#[derive(Debug)]
struct Flight {
    outcome: watch::Sender<Option<Outcome>>,
    waiting: AtomicUsize,
}

/// Has the answer made. Dropped without a word, it lets another one do so.
#[derive(Debug)]
pub struct Leader {
    flights: Arc<Flights>,
    key: Key,
    flight: Arc<Flight>,
}

/// Waits for the answer.
#[derive(Debug)]
pub struct Waiter {
    flight: Arc<Flight>,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Flights {
    pub(super) fn new(waiting_max: usize) -> Self {
        Self {
            under_way: Mutex::default(),
            waiting_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flight>>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(self: &Arc<Self>, key: Key) -> Turn {
        let mut under_way = self.lock();
        if let Some(flight) = under_way.get(&key) {
            if flight.waiting.load(Relaxed) >= self.waiting_max {
                return Turn::Full;
            }
            flight.waiting.fetch_add(1, Relaxed);
            return Turn::Wait(Waiter {
                outcome: flight.outcome.subscribe(),
                flight: Arc::clone(flight),
            });
        }
        let flight = Arc::new(Flight {
            outcome: watch::Sender::new(None),
            waiting: AtomicUsize::new(0),
        });
        under_way.insert(key, Arc::clone(&flight));
        Turn::Lead(Leader {
            flights: Arc::clone(self),
            key,
            flight,
        })
    }
}

impl Leader {
    /// Tells those who wait.
    pub fn settle(self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&self, outcome: Outcome) {
        let mut under_way = self.flights.lock();
        let is_ours = |flight: &Arc<Flight>| Arc::ptr_eq(flight, &self.flight);
        if under_way.get(&self.key).is_some_and(is_ours) {
            under_way.remove(&self.key);
            drop(under_way);
            self.flight.outcome.send_replace(Some(outcome));
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.tell(Outcome::Abandoned);
    }
}

impl Waiter {
    /// Waits until it is known what came of it.
    pub async fn outcome(mut self) -> Outcome {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or(Outcome::Abandoned)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.flight.waiting.fetch_sub(1, Relaxed);
    }
}
