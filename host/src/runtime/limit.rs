//! What keeps one invocation within its bounds: memory and the number of calls at once. Time is in `cpu`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::ResourceLimiter;

use crate::runtime::{InvokeError, Limits};

/// Bounds the sum of all linear memories and tables of one instance. Synchronous: it runs inside `memory.grow`.
pub(super) struct MemoryLimiter {
    bytes: usize,
    bytes_peak: usize,
    bytes_max: usize,
    /// Whether growth was ever refused: a guest that then stops did so for want of memory.
    has_refused: bool,
    /// Whether the instance has asked for more than it began with.
    has_grown: bool,
}

/// What one element of a table costs the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

impl MemoryLimiter {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            bytes_peak: 0,
            bytes_max,
            has_refused: false,
            has_grown: false,
        }
    }

    /// From now on growth is the guest's doing and no longer that of making the instance. Returns what that took, in bytes.
    pub(super) fn begin(&mut self) -> usize {
        self.has_grown = false;
        self.bytes
    }

    /// Whether a memory or a table was asked to grow since the call began.
    pub(super) fn has_grown(&self) -> bool {
        self.has_grown
    }

    /// Most bytes held at once.
    pub(super) fn peak_bytes(&self) -> usize {
        self.bytes_peak
    }

    pub(super) fn has_refused(&self) -> bool {
        self.has_refused
    }

    /// Counts bytes that the host holds for the instance, if they still fit.
    #[must_use]
    pub(super) fn take(&mut self, more: usize) -> bool {
        let bytes = self.bytes.saturating_add(more);
        let is_allowed = bytes <= self.bytes_max;
        if is_allowed {
            self.bytes = bytes;
            self.bytes_peak = self.bytes_peak.max(bytes);
        } else {
            self.has_refused = true;
        }
        is_allowed
    }

    /// Gives back what `take` has counted. Linear memories never shrink; what the host holds beside them may.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        self.has_grown = true;
        // Asked before wasmtime looks at the maximum: what cannot become larger is not counted as if it did.
        let fits_its_type = maximum.is_none_or(|maximum| desired <= maximum);
        fits_its_type && self.take(desired.saturating_sub(current))
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow(bytes(current), bytes(desired), maximum.map(bytes)))
    }
}

/// A bounded number of places, with a bounded queue for those who wait.
#[derive(Debug)]
pub(super) struct Places {
    semaphore: Arc<Semaphore>,
    places: u32,
    waiting: AtomicU32,
    queue_max: u32,
    wait_max: Duration,
}

/// A place that is taken until this is dropped.
pub(super) type Place<'a> = SemaphorePermit<'a>;

/// The same for a call that outlives what it was taken from.
#[derive(Debug)]
pub(super) struct OwnPlace(Arc<Semaphore>);

impl Drop for OwnPlace {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

impl Places {
    pub(super) fn new(places: u32, queue_max: u32, wait_max: Duration) -> Self {
        let semaphore = Arc::new(Semaphore::new(places as usize));
        Self {
            semaphore,
            places,
            waiting: AtomicU32::new(0),
            queue_max,
            wait_max,
        }
    }

    /// The bounds of one plugin.
    pub(super) fn of_plugin(limits: &Limits, wait_max: Duration) -> Self {
        Self::new(limits.concurrency_max, limits.queue_max, wait_max)
    }

    /// How many places are taken now.
    pub(super) fn taken(&self) -> u32 {
        let free = u32::try_from(self.semaphore.available_permits()).unwrap_or(u32::MAX);
        self.places.saturating_sub(free)
    }

    /// Makes a place outlive the borrow.
    pub(super) fn own(&self, place: Place<'_>) -> OwnPlace {
        place.forget();
        OwnPlace(Arc::clone(&self.semaphore))
    }

    /// A place now or after a short wait.
    pub(super) async fn take(&self) -> Result<Place<'_>, InvokeError> {
        if let Ok(place) = self.semaphore.try_acquire() {
            return Ok(place);
        }
        let saturated = InvokeError::Saturated { limit: self.places };
        let waiting = Waiting::join(&self.waiting);
        if waiting.position >= self.queue_max {
            return Err(saturated);
        }
        match tokio::time::timeout(self.wait_max, self.semaphore.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(saturated),
        }
    }
}

/// A place in the queue, given up however the waiting ends.
struct Waiting<'a> {
    count: &'a AtomicU32,
    position: u32,
}

impl<'a> Waiting<'a> {
    fn join(count: &'a AtomicU32) -> Self {
        Self {
            count,
            position: count.fetch_add(1, Relaxed),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_are_counted_together() {
        let mut limiter = MemoryLimiter::new(1 << 20);
        assert!(limiter.memory_growing(0, 512 << 10, None).unwrap());
        assert!(limiter.memory_growing(0, 256 << 10, None).unwrap());
        assert!(
            limiter.table_growing(0, 16 << 10, None).unwrap(),
            "128 KiB of table"
        );
        assert!(!limiter.memory_growing(512 << 10, 1 << 20, None).unwrap());
        assert!(limiter.has_refused());
        assert_eq!(
            limiter.peak_bytes(),
            896 << 10,
            "a refused growth is not counted"
        );
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_the_peak_stays() {
        let mut limiter = MemoryLimiter::new(100);
        assert!(limiter.take(80));
        assert!(!limiter.take(30));
        limiter.give_back(80);
        assert!(limiter.take(30));
        assert_eq!(limiter.peak_bytes(), 80);
    }

    #[test]
    fn what_cannot_grow_is_not_counted_as_if_it_had() {
        let mut limiter = MemoryLimiter::new(1 << 20);
        for _ in 0..100 {
            let grows = limiter.memory_growing(64 << 10, 256 << 10, Some(128 << 10));
            assert!(!grows.unwrap(), "its type ends at 128 KiB");
            let grows = limiter.table_growing(100, 10_000, Some(5000));
            assert!(!grows.unwrap());
        }
        assert!(!limiter.has_refused(), "that was no want of memory");
        assert!(limiter.memory_growing(0, 1 << 20, Some(1 << 20)).unwrap());
        assert_eq!(limiter.peak_bytes(), 1 << 20);
    }

    #[test]
    fn a_sum_that_overflows_is_refused() {
        let mut limiter = MemoryLimiter::new(usize::MAX - 1);
        assert!(limiter.memory_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(0, usize::MAX, None).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn those_beyond_the_queue_are_turned_away_at_once_and_the_others_after_the_wait() {
        let places = Places::new(1, 1, Duration::from_secs(2));
        let held = places.take().await.unwrap();
        let (first, second) = tokio::join!(places.take(), places.take());
        assert!(matches!(first, Err(InvokeError::Saturated { limit: 1 })));
        assert!(matches!(second, Err(InvokeError::Saturated { limit: 1 })));
        assert_eq!(
            places.waiting.load(Relaxed),
            0,
            "nobody is left in the queue"
        );
        drop(held);
        assert!(places.take().await.is_ok());
    }
}
