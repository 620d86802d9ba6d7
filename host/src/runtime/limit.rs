//! What keeps one invocation within its bounds: memory, processor time and the number of calls at once.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::runtime::{InvokeError, Limits};
use crate::services::Allowance;

/// Bounds the sum of all linear memories and tables of one instance. Synchronous: it runs inside `memory.grow`.
pub(super) struct MemoryLimiter {
    bytes: usize,
    bytes_peak: usize,
    bytes_max: usize,
    /// Whether growth was ever refused: a guest that then stops did so for want of memory.
    has_refused: bool,
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
        }
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

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        self.take(desired.saturating_sub(current))
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        Ok(self.grow(bytes(current), bytes(desired)))
    }
}

/// Why the host stopped a guest from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("the deadline has passed")]
    Deadline,
    #[error("the processor time is used up")]
    Cpu,
}

/// Measures the processor time of one invocation: the time its future spends being polled, which is guest code and the
/// host's work for it, and not the time it waits. What other threads do for it, they charge to the same allowance.
#[derive(Clone)]
pub(super) struct CpuClock(Arc<CpuTimes>);

struct CpuTimes {
    origin: Instant,
    allowance: Allowance,
    /// When the poll in progress began, after `origin`.
    poll_began_ns: AtomicU64,
}

impl CpuClock {
    pub(super) fn start(now: Instant, allowance: Allowance) -> Self {
        Self(Arc::new(CpuTimes {
            origin: now,
            allowance,
            poll_began_ns: AtomicU64::new(0),
        }))
    }

    /// What to do at an epoch, which is inside a poll: stop, or let others run and go on.
    pub(super) fn at_epoch(&self) -> Result<UpdateDeadline, Stop> {
        let now = Instant::now();
        let times = &*self.0;
        let poll_ns = since(times.origin, now).saturating_sub(times.poll_began_ns.load(Relaxed));
        let left = times.allowance.cpu_left();
        if left.is_zero() || Duration::from_nanos(poll_ns) > left {
            Err(Stop::Cpu)
        } else if now >= times.allowance.deadline().into_std() {
            Err(Stop::Deadline)
        } else {
            Ok(UpdateDeadline::Yield(1))
        }
    }

    /// The same future, its polls timed.
    pub(super) fn timed<'a, F: Future>(
        &'a self,
        future: Pin<&'a mut F>,
    ) -> impl Future<Output = F::Output> + 'a {
        Timed {
            future,
            clock: self,
        }
    }
}

struct Timed<'a, F> {
    future: Pin<&'a mut F>,
    clock: &'a CpuClock,
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let began = Instant::now();
        let began_ns = since(self.clock.0.origin, began);
        self.clock.0.poll_began_ns.store(began_ns, Relaxed);
        let poll = self.future.as_mut().poll(context);
        self.clock.0.allowance.charge(began.elapsed());
        poll
    }
}

fn since(origin: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX)
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
pub(super) type Place = OwnedSemaphorePermit;

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

    /// A place now or after a short wait.
    pub(super) async fn take(&self) -> Result<Place, InvokeError> {
        if let Ok(place) = Arc::clone(&self.semaphore).try_acquire_owned() {
            return Ok(place);
        }
        let saturated = InvokeError::Saturated { limit: self.places };
        let waiting = Waiting::join(&self.waiting);
        if waiting.position >= self.queue_max {
            return Err(saturated);
        }
        match tokio::time::timeout(self.wait_max, Arc::clone(&self.semaphore).acquire_owned()).await
        {
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
    use crate::services::Quota;

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
    fn a_sum_that_overflows_is_refused() {
        let mut limiter = MemoryLimiter::new(usize::MAX - 1);
        assert!(limiter.memory_growing(0, 10, None).unwrap());
        assert!(!limiter.table_growing(0, usize::MAX, None).unwrap());
    }

    #[tokio::test]
    async fn waiting_does_not_count_as_processor_time() {
        let (now, cpu_max) = (Instant::now(), Duration::from_secs(1));
        let allowance = Allowance::new(now.into(), cpu_max, Quota::new(0));
        let clock = CpuClock::start(now, allowance.clone());
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::from_millis(30)));
        clock.timed(sleep).await;
        let used = allowance.cpu_used();
        assert!(used < Duration::from_millis(20), "{used:?}");
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
