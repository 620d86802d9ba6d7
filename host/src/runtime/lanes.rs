//! Whose component is compiled next. Slow ones have a place of their own, and nobody has two components in the same line:
//! whoever deploys much waits behind themselves, not before others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Which line a component stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Quick,
    Slow,
}

/// The lines before the compiler.
pub(super) struct Lanes {
    quick: Line,
    slow: Line,
}

struct Line {
    places: Arc<Semaphore>,
    /// The callers who are in this line. Each has one turn at a time.
    callers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place in which one component is compiled, until it is dropped.
pub(super) struct Turn {
    // Given back in this order.
    _place: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Lanes {
    /// Lines before so many places together.
    pub(super) fn new(places: usize) -> Self {
        let slow = Arc::new(Semaphore::new(1));
        let quick = match places.saturating_sub(1) {
            0 => Arc::clone(&slow),
            places => Arc::new(Semaphore::new(places)),
        };
        let line = |places| Line {
            places,
            callers: Mutex::default(),
        };
        Self {
            quick: line(quick),
            slow: line(slow),
        }
    }

    /// Waits for a place. Callers are served in the order in which they came, each with one component.
    pub(super) async fn take(&self, lane: Lane, caller: &str) -> Result<Turn, AcquireError> {
        let line = match lane {
            Lane::Quick => &self.quick,
            Lane::Slow => &self.slow,
        };
        let own = line.of(caller).acquire_owned().await?;
        let place = Arc::clone(&line.places).acquire_owned().await?;
        Ok(Turn {
            _place: place,
            _own: own,
        })
    }
}

impl Line {
    fn of(&self, caller: &str) -> Arc<Semaphore> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // Those whom nobody waits for any more. What is left is as many as are waiting.
        callers.retain(|_, own| Arc::strong_count(own) > 1);
        let own = callers
            .entry(caller.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(1)));
        Arc::clone(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_component_does_not_hold_up_a_quick_one() {
        let lanes = Lanes::new(2);
        let _slow = lanes.take(Lane::Slow, "ana").await.unwrap();
        // Not even one of the same caller.
        let _quick = lanes.take(Lane::Quick, "ana").await.unwrap();
        assert!(is_waiting(lanes.take(Lane::Slow, "ben")).await);
        assert!(is_waiting(lanes.take(Lane::Quick, "ben")).await);
    }

    #[tokio::test]
    async fn somebody_with_many_components_waits_behind_the_others() {
        let lanes = Arc::new(Lanes::new(2));
        let first = lanes.take(Lane::Quick, "ana").await.unwrap();
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        for caller in ["ana", "ana", "ana", "ben"] {
            let (lanes, served) = (Arc::clone(&lanes), served.clone());
            tasks.spawn(async move {
                let _turn = lanes.take(Lane::Quick, caller).await.unwrap();
                served.send(caller).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        assert_eq!(order.recv().await, Some("ben"), "before the second of ana");
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn with_one_place_all_share_it_and_nobody_is_remembered() {
        let lanes = Lanes::new(1);
        let slow = lanes.take(Lane::Slow, "ana").await.unwrap();
        assert!(is_waiting(lanes.take(Lane::Quick, "ben")).await);
        drop(slow);
        drop(lanes.take(Lane::Quick, "cem").await.unwrap());
        drop(lanes.take(Lane::Quick, "dua").await.unwrap());
        assert_eq!(lanes.quick.callers.lock().unwrap().len(), 1);
    }

    async fn is_waiting(take: impl Future<Output = Result<Turn, AcquireError>>) -> bool {
        let mut take = std::pin::pin!(take);
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(take.as_mut().poll(context).is_pending())
        })
        .await
    }
}
