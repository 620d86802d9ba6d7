//! What one version did lately: requests, errors and latencies in a sliding window, counted without a lock. A few counts
//! may get lost where one stretch of time gives way to the next; a judgement about a version does not hang on them.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The window moves in so many steps.
const STEPS: usize = 12;
/// Classes of latency, each √2 times as long as the one before: from 50 µs to half a minute.
const CLASSES: usize = 40;

const BOUNDS_US: [u64; CLASSES] = {
    let mut bounds = [0; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        let whole = 50 << (class / 2);
        bounds[class] = if class % 2 == 0 {
            whole
        } else {
            whole * 181 / 128
        };
        class += 1;
    }
    bounds
};

/// Counts of one version. Requests add to them; whoever judges the version sums them up.
#[derive(Debug)]
pub struct Figures {
    step_ns: u64,
    steps: Box<[Step; STEPS]>,
}

#[derive(Debug, Default)]
struct Step {
    /// Which stretch of time these counts are of, from 1 on.
    number: AtomicU64,
    requests: AtomicU32,
    errors: AtomicU32,
    latencies: Latencies,
}

#[derive(Debug)]
struct Latencies([AtomicU32; CLASSES]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; CLASSES])
    }
}

/// What a version did within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    pub requests: u64,
    /// Answers with a status from 500 on that are not the host's own fault.
    pub errors: u64,
    /// Half of the calls took no longer. In milliseconds; 0 without calls.
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Sum {
    /// The part of the requests that failed, 0 to 1.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 {
            0.0
        } else {
            self.errors as f64 / self.requests as f64
        }
    }
}

impl Figures {
    /// Counts over a window of this length.
    pub fn new(window: Duration) -> Self {
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            step_ns: (window_ns / STEPS as u64).max(1),
            steps: Box::default(),
        }
    }

    /// Counts one call. `now_ns` is the clock's monotonic time.
    pub fn count(&self, now_ns: u64, took: Duration, is_error: bool) {
        let number = now_ns / self.step_ns + 1;
        let step = &self.steps[(number % STEPS as u64) as usize];
        let before = step.number.load(Relaxed);
        if before != number
            && step
                .number
                .compare_exchange(before, number, Relaxed, Relaxed)
                .is_ok()
        {
            step.clear();
        }
        step.requests.fetch_add(1, Relaxed);
        if is_error {
            step.errors.fetch_add(1, Relaxed);
        }
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_US
            .partition_point(|bound| *bound < us)
            .min(CLASSES - 1);
        step.latencies.0[class].fetch_add(1, Relaxed);
    }

    /// What was counted within the window that ends now.
    pub fn sum(&self, now_ns: u64) -> Sum {
        let number = now_ns / self.step_ns + 1;
        let mut sum = Sum::default();
        let mut latencies = [0u64; CLASSES];
        for step in self.steps.iter() {
            let of = step.number.load(Relaxed);
            if of == 0 || of + (STEPS as u64) <= number {
                continue;
            }
            sum.requests += u64::from(step.requests.load(Relaxed));
            sum.errors += u64::from(step.errors.load(Relaxed));
            for (all, own) in latencies.iter_mut().zip(&step.latencies.0) {
                *all += u64::from(own.load(Relaxed));
            }
        }
        sum.p50_ms = percentile(&latencies, 0.50);
        sum.p99_ms = percentile(&latencies, 0.99);
        sum
    }
}

impl Step {
    fn clear(&self) {
        self.requests.store(0, Relaxed);
        self.errors.store(0, Relaxed);
        for latency in &self.latencies.0 {
            latency.store(0, Relaxed);
        }
    }
}

/// The upper bound of the class in which this part of all calls lies.
fn percentile(latencies: &[u64; CLASSES], part: f64) -> f64 {
    let all: u64 = latencies.iter().sum();
    let wanted = (all as f64 * part).ceil();
    let mut seen = 0;
    for (count, bound_us) in latencies.iter().zip(BOUNDS_US) {
        seen += count;
        if *count > 0 && seen as f64 >= wanted {
            return bound_us as f64 / 1000.0;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let figures = Figures::new(Duration::from_secs(60));
        figures.count(0, Duration::from_millis(1), true);
        figures.count(30 * SECOND, Duration::from_millis(1), false);
        assert_eq!(figures.sum(31 * SECOND).requests, 2);
        assert!((figures.sum(31 * SECOND).error_rate() - 0.5).abs() < f64::EPSILON);
        let later = figures.sum(61 * SECOND);
        assert_eq!((later.requests, later.errors), (1, 0));
        assert_eq!(figures.sum(1000 * SECOND), Sum::default());
        // The same place in the ring, a long time later.
        figures.count(600 * SECOND, Duration::from_millis(1), false);
        let again = figures.sum(600 * SECOND);
        assert_eq!((again.requests, again.errors), (1, 0));
    }

    #[test]
    fn latencies_are_told_to_within_a_class() {
        let figures = Figures::new(Duration::from_secs(60));
        for ms in 1..=100 {
            figures.count(0, Duration::from_millis(ms), false);
        }
        let sum = figures.sum(0);
        assert!((50.0..=71.0).contains(&sum.p50_ms), "{sum:?}");
        assert!((99.0..=140.0).contains(&sum.p99_ms), "{sum:?}");
        let quick = Figures::new(Duration::from_secs(60));
        quick.count(0, Duration::ZERO, false);
        quick.count(0, Duration::from_secs(3600), false);
        assert!(quick.sum(0).p99_ms > 30_000.0, "a class for everything");
    }

    #[test]
    fn many_threads_count_together() {
        let figures = Figures::new(Duration::from_secs(60));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..1000 {
                        figures.count(0, Duration::from_micros(n), n % 10 == 0);
                    }
                });
            }
        });
        let sum = figures.sum(0);
        assert!(sum.requests > 3990, "{sum:?}");
        assert!((sum.error_rate() - 0.1).abs() < 0.01, "{sum:?}");
    }
}
