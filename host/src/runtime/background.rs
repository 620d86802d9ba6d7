//! Where calls go on that take long, and where code is checked and loaded: on threads of their own, which the system
//! serves after all others. A guest that computes for seconds uses what is left of the machine, and whoever has a short
//! question does not wait for it.

use std::{
    future::{pending, poll_fn},
    io,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::process::nice;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinError,
};
use tokio_util::task::AbortOnDropHandle;

use crate::runtime::cpu::CpuClock;

/// A thread with this nice value has about a tenth of the weight of the others (`sched(7)`): little beside them, and
/// enough to come to its end.
const NICE: i32 = 10;

/// The threads of long calls, as many as the machine has processors.
pub(super) struct Background {
    /// Until it is dropped.
    threads: Option<Runtime>,
    handle: Handle,
}

impl Background {
    /// Starts the threads. They wait for nothing but calls: timers and sockets stay with those who began the call.
    pub(super) fn start() -> io::Result<Self> {
        let threads = Builder::new_multi_thread()
            .thread_name("long-calls")
            .on_thread_start(|| {
                if let Err(error) = nice(NICE) {
                    tracing::warn!(%error, "Long calls compete with short ones");
                }
            })
            .build()?;
        Ok(Self {
            handle: threads.handle().clone(),
            threads: Some(threads),
        })
    }

    /// Drives a call to its end: here while it is short, and in the background once `clock` says that it is long. `keep`
    /// gives what must outlive the call there, whether or not somebody still waits for it.
    pub(super) async fn drive<F, K>(
        &self,
        mut call: Pin<Box<F>>,
        clock: &CpuClock,
        keep: impl FnOnce() -> K,
    ) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
        K: Unpin + Send + 'static,
    {
        let while_short = poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if clock.is_long() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(output) = while_short.await {
            return output;
        }
        let away = Away {
            home: Handle::current(),
            call: Some(call),
            _kept: keep(),
        };
        outcome(AbortOnDropHandle::new(self.handle.spawn(away)).await).await
    }

    /// Does work that takes long and waits for nobody, in the background. It goes on if nobody waits for it any more.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        outcome(self.handle.spawn_blocking(work).await).await
    }
}

async fn outcome<T>(ended: Result<T, JoinError>) -> T {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(output) => output,
        Err(Ok(panic)) => resume_unwind(panic),
        // Nobody has ended it: the threads are there for as long as somebody waits.
        Err(Err(_)) => pending().await,
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            // Dropped as it is, it would wait for them, and the host may be dropped by a thread that must not wait.
            threads.shutdown_background();
        }
    }
}

/// A call that is polled away from where it began, but as if it were there: what it starts and what it waits for belongs
/// to `home`, and not to threads that are served last.
struct Away<F, K> {
    home: Handle,
    /// Until it is dropped.
    call: Option<Pin<Box<F>>>,
    /// Given up after the call.
    _kept: K,
}

impl<F: Future, K: Unpin> Future for Away<F, K> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { home, call, .. } = &mut *self;
        let _at_home = home.enter();
        match call {
            Some(call) => call.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F, K> Drop for Away<F, K> {
    fn drop(&mut self) {
        let _at_home = self.home.enter();
        self.call = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering::SeqCst},
        },
        thread,
        time::{Duration, Instant},
    };

    use crate::services::{Allowance, Quota};

    use super::*;

    const CPU_MAX: Duration = Duration::from_secs(1);

    /// The clock of a call that has used so much.
    fn clock(used: Duration) -> CpuClock {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(60);
        let allowance = Allowance::new(deadline.into(), CPU_MAX, Quota::new(0), Arc::default());
        allowance.charge(used);
        CpuClock::start(now, allowance)
    }

    fn thread_name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    async fn pause(clock: &CpuClock) {
        clock.at_epoch().unwrap();
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn a_long_call_goes_on_in_the_background_and_what_it_starts_stays_at_home() {
        let background = Background::start().unwrap();
        let clock = clock(Duration::from_millis(2));
        let own = clock.clone();
        let call = Box::pin(async move {
            let first = thread_name();
            pause(&own).await;
            #[expect(clippy::disallowed_methods, reason = "it is waited for")]
            let started = tokio::spawn(async { thread_name() });
            tokio::time::sleep(Duration::from_millis(1)).await;
            (first, thread_name(), started.await.unwrap())
        });
        let (first, then, started) = background.drive(call, &clock, || ()).await;
        assert_eq!(first, thread_name());
        assert_eq!(then, "long-calls");
        assert_eq!(started, thread_name());
    }

    #[tokio::test]
    async fn a_short_call_stays_where_it_is_and_needs_nothing_to_be_kept() {
        let background = Background::start().unwrap();
        let clock = clock(Duration::ZERO);
        let own = clock.clone();
        let call = Box::pin(async move {
            pause(&own).await;
            thread_name()
        });
        let keep = || panic!("it is over when this returns");
        let name = background.drive::<_, ()>(call, &clock, keep).await;
        assert_eq!(name, thread_name());
    }

    #[tokio::test]
    async fn whoever_goes_away_ends_the_call_and_only_then_gives_up_what_was_kept() {
        struct Flag(Arc<AtomicBool>, Option<Arc<AtomicBool>>);
        impl Drop for Flag {
            fn drop(&mut self) {
                if let Some(before) = &self.1 {
                    assert!(before.load(SeqCst), "the call is still there");
                }
                self.0.store(true, SeqCst);
            }
        }
        let background = Background::start().unwrap();
        let clock = clock(Duration::from_millis(2));
        let (call_gone, place_gone) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (own, held) = (clock.clone(), Flag(Arc::clone(&call_gone), None));
        let call = Box::pin(async move {
            let _held = held;
            loop {
                pause(&own).await;
            }
        });
        let place = Flag(Arc::clone(&place_gone), Some(call_gone));
        let drive = background.drive::<_, Flag>(call, &clock, || place);
        let waited = tokio::time::timeout(Duration::from_millis(20), drive).await;
        assert!(waited.is_err());
        while !place_gone.load(SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    #[should_panic(expected = "of its own")]
    async fn a_panic_in_the_background_is_one_of_the_caller() {
        let background = Background::start().unwrap();
        let clock = clock(Duration::from_millis(2));
        let own = clock.clone();
        let call = Box::pin(async move {
            pause(&own).await;
            panic!("of its own");
        });
        let () = background.drive(call, &clock, || ()).await;
    }
}
