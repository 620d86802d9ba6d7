//! What keeps one invocation within its time: how much processor time it has used, and whether it may go on.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

use crate::services::Allowance;

/// Why the host stopped a guest from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("the deadline has passed")]
    Deadline,
    #[error("the processor time is used up")]
    Cpu,
    #[error("another version took its place")]
    Retired,
}

/// Who has used more than this at an epoch is no short call any more.
const LONG: Duration = Duration::from_millis(1);

/// A long call makes way for other long ones once in so many epochs: it is asked at each whether it may go on, and every
/// way made costs.
const EPOCHS_OF_LONG: u32 = 4;

/// How long the last reading of a thread's own clock is good for. A shorter poll counts as long as it lasts.
const READING_AGE_MAX: Duration = Duration::from_micros(500);

thread_local! {
    /// When the clock of this thread was read last, and what it said.
    static READING: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// Measures the processor time of one invocation: what the polls of its future take, which is guest code and the host's
/// work for it, and not the time it waits.
///
/// Asking the system for the processor time of a thread costs more than half a microsecond, and most calls are over in a
/// few. So a poll that is over in less than [`READING_AGE_MAX`] counts as long as it lasted: nothing else that is worth
/// counting has run meanwhile. In a longer one the system may have run something else. It counts no more than the thread
/// itself has used since its clock was read last, and that was at most [`READING_AGE_MAX`] before the poll began. A call
/// is never blamed for a busy machine, and the sum over all calls is what the threads have used for them. What other
/// threads do for the call, they charge to the same allowance.
#[derive(Clone)]
pub(super) struct CpuClock(Arc<CpuTimes>);

struct CpuTimes {
    origin: Instant,
    allowance: Allowance,
    /// When the poll in progress began, after `origin`.
    poll_began_ns: AtomicU64,
    /// What the clock of its thread said at its last reading before.
    thread_ns: AtomicU64,
    /// Since the call is a long one. Zero while it is not.
    long_epochs: AtomicU32,
}

impl CpuClock {
    /// Starts at zero.
    pub(super) fn start(now: Instant, allowance: Allowance) -> Self {
        Self(Arc::new(CpuTimes {
            origin: now,
            allowance,
            poll_began_ns: AtomicU64::new(0),
            thread_ns: AtomicU64::new(0),
            long_epochs: AtomicU32::new(0),
        }))
    }

    /// What to do at an epoch, which is inside a poll: stop, or let others run and go on.
    pub(super) fn at_epoch(&self) -> Result<UpdateDeadline, Stop> {
        let allowance = &self.0.allowance;
        let (left, now) = (allowance.cpu_left(), self.poll_time());
        if left.is_zero() || now > left {
            Err(Stop::Cpu)
        } else if Instant::now() >= allowance.deadline().into_std() {
            Err(Stop::Deadline)
        } else {
            let epochs = self.0.long_epochs.load(Relaxed);
            if epochs > 0 || allowance.cpu_used() + now > LONG {
                self.0
                    .long_epochs
                    .store(epochs.wrapping_add(1).max(1), Relaxed);
            }
            match epochs % EPOCHS_OF_LONG {
                0 => Ok(UpdateDeadline::Yield(1)),
                _ => Ok(UpdateDeadline::Continue(1)),
            }
        }
    }

    /// Whether an epoch has found that the call takes long.
    pub(super) fn is_long(&self) -> bool {
        self.0.long_epochs.load(Relaxed) > 0
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

    /// Counts work that is done for the call between polls.
    pub(super) fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        self.begin_poll();
        let done = work();
        self.0.allowance.charge(self.poll_time());
        done
    }

    fn begin_poll(&self) {
        let times = &*self.0;
        let now = Instant::now();
        let reading = READING.get().filter(|(at, _)| now - *at < READING_AGE_MAX);
        let (_, thread_ns) = reading.unwrap_or_else(|| read_thread(now));
        times.thread_ns.store(thread_ns, Relaxed);
        let began = nanoseconds(now.duration_since(times.origin));
        times.poll_began_ns.store(began, Relaxed);
    }

    /// What the poll in progress has used.
    fn poll_time(&self) -> Duration {
        let times = &*self.0;
        let now = Instant::now();
        let began = times.origin + Duration::from_nanos(times.poll_began_ns.load(Relaxed));
        let lasted = now.saturating_duration_since(began);
        if lasted < READING_AGE_MAX {
            return lasted;
        }
        let (_, thread_ns) = read_thread(now);
        let used = thread_ns.saturating_sub(times.thread_ns.load(Relaxed));
        lasted.min(Duration::from_nanos(used))
    }
}

/// Reads the clock of this thread, and keeps that for those who come soon.
fn read_thread(now: Instant) -> (Instant, u64) {
    let reading = (now, thread_ns());
    READING.set(Some(reading));
    reading
}

struct Timed<'a, F> {
    future: Pin<&'a mut F>,
    clock: &'a CpuClock,
}

impl<F: Future> Future for Timed<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.clock.begin_poll();
        let poll = self.future.as_mut().poll(context);
        self.clock.0.allowance.charge(self.clock.poll_time());
        poll
    }
}

/// The processor time of this thread. A poll begins and ends on one thread.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::services::Quota;

    use super::*;

    const TICK: Duration = Duration::from_millis(5);

    fn start(cpu_max: Duration) -> (CpuClock, Allowance) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let allowance = Allowance::new(deadline.into(), cpu_max, Quota::new(0), Arc::default());
        let clock = CpuClock::start(Instant::now(), allowance.clone());
        (clock, allowance)
    }

    #[tokio::test]
    async fn waiting_does_not_count_as_processor_time() {
        let (clock, allowance) = start(Duration::from_secs(1));
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::from_millis(30)));
        clock.timed(sleep).await;
        let used = allowance.cpu_used();
        assert!(used < Duration::from_millis(20), "{used:?}");
    }

    #[tokio::test]
    async fn a_thread_that_the_system_holds_up_uses_no_processor_time() {
        let (clock, allowance) = start(Duration::from_secs(1));
        let held_up = async || std::thread::sleep(Duration::from_millis(60));
        clock.timed(std::pin::pin!(held_up())).await;
        let used = allowance.cpu_used();
        assert!(used < TICK, "{used:?}");
    }

    #[tokio::test]
    async fn long_polls_and_short_ones_add_up_to_what_the_thread_has_used() {
        let (clock, allowance) = start(Duration::from_secs(10));
        let began = thread_ns();
        for micros in [20, 2000, 50, 400, 600, 5000].repeat(10) {
            let work = async || {
                let until = Instant::now() + Duration::from_micros(micros);
                while Instant::now() < until {}
            };
            clock.timed(std::pin::pin!(work())).await;
        }
        let used = nanoseconds(allowance.cpu_used());
        let all = thread_ns() - began;
        // Each poll may be counted a little too high where the system ran something else.
        assert!(
            used > all * 9 / 10 && used < all * 11 / 10,
            "{used} of {all}"
        );
    }

    #[tokio::test]
    async fn work_between_polls_counts() {
        let (clock, allowance) = start(Duration::from_secs(10));
        clock.work(|| {
            let began = thread_ns();
            while thread_ns() < began + nanoseconds(TICK) {}
        });
        assert!(allowance.cpu_used() >= TICK, "{:?}", allowance.cpu_used());
    }

    #[tokio::test]
    async fn a_long_call_is_stopped_by_what_it_has_used() {
        let max = Duration::from_millis(40);
        let (clock, allowance) = start(max);
        let mut epochs = 0;
        let mut work = async || {
            loop {
                if let Err(stop) = clock.at_epoch() {
                    return stop;
                }
                epochs += 1;
                tokio::task::yield_now().await;
                let began = thread_ns();
                while thread_ns() < began + nanoseconds(TICK) {}
            }
        };
        let stop = clock.timed(std::pin::pin!(work())).await;
        assert_eq!(stop, Stop::Cpu);
        assert!(allowance.cpu_used() > max, "{:?}", allowance.cpu_used());
        assert!(epochs >= 4, "{epochs} epochs");
    }
}
