//! What keeps one invocation within its time: how much processor time it has used, and whether it may go on.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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
}

/// Measures the processor time of one invocation: what the polls of its future take, which is guest code and the host's
/// work for it, and not the time it waits.
///
/// Asking the system for the processor time of a thread costs nearly half a microsecond, and most calls are over in a
/// few. So the polls of a short call are timed by the wall, which costs nothing, and count as two ticks of the epoch at
/// the most: guest code that runs for longer meets an epoch, so the rest was the system running something else. From the
/// first epoch on each poll is measured by the thread's own clock. A call is never blamed for a busy machine. What other
/// threads do for the call, they charge to the same allowance.
#[derive(Clone)]
pub(super) struct CpuClock(Arc<CpuTimes>);

struct CpuTimes {
    origin: Instant,
    /// Most that a poll counts which was timed by the wall.
    wall_ns_max: u64,
    allowance: Allowance,
    /// Whether the call has met an epoch.
    is_long: AtomicBool,
    /// When the poll in progress began: by the thread's clock if the call was long by then, else after `origin`.
    poll_began_ns: AtomicU64,
    /// Which of the two it is.
    poll_is_measured: AtomicBool,
}

impl CpuClock {
    /// Starts at zero. `tick` is how often the epoch moves on.
    pub(super) fn start(now: Instant, tick: Duration, allowance: Allowance) -> Self {
        Self(Arc::new(CpuTimes {
            origin: now,
            wall_ns_max: nanoseconds(tick * 2),
            allowance,
            is_long: AtomicBool::new(false),
            poll_began_ns: AtomicU64::new(0),
            poll_is_measured: AtomicBool::new(false),
        }))
    }

    /// What to do at an epoch, which is inside a poll: stop, or let others run and go on.
    pub(super) fn at_epoch(&self) -> Result<UpdateDeadline, Stop> {
        let times = &*self.0;
        times.is_long.store(true, Relaxed);
        let left = times.allowance.cpu_left();
        if left.is_zero() || Duration::from_nanos(self.poll_ns()) > left {
            Err(Stop::Cpu)
        } else if Instant::now() >= times.allowance.deadline().into_std() {
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

    fn begin_poll(&self) {
        let times = &*self.0;
        let is_measured = times.is_long.load(Relaxed);
        let now = if is_measured {
            thread_ns()
        } else {
            nanoseconds(times.origin.elapsed())
        };
        times.poll_is_measured.store(is_measured, Relaxed);
        times.poll_began_ns.store(now, Relaxed);
    }

    /// What the poll in progress has used.
    fn poll_ns(&self) -> u64 {
        let times = &*self.0;
        let began = times.poll_began_ns.load(Relaxed);
        if times.poll_is_measured.load(Relaxed) {
            thread_ns().saturating_sub(began)
        } else {
            let wall = nanoseconds(times.origin.elapsed()).saturating_sub(began);
            wall.min(times.wall_ns_max)
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
        self.clock.begin_poll();
        let poll = self.future.as_mut().poll(context);
        let used = Duration::from_nanos(self.clock.poll_ns());
        self.clock.0.allowance.charge(used);
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
        let allowance = Allowance::new(deadline.into(), cpu_max, Quota::new(0));
        let clock = CpuClock::start(Instant::now(), TICK, allowance.clone());
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
        assert_eq!(used, TICK * 2, "timed by the wall, up to two ticks");

        clock.at_epoch().unwrap();
        clock.timed(std::pin::pin!(held_up())).await;
        let used = allowance.cpu_used();
        assert!(used < TICK * 4, "measured by the thread's clock: {used:?}");
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
