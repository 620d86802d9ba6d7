//! What one version did lately: requests, errors and latencies in a sliding window, counted without a lock. A few counts
//! may get lost where one stretch of time gives way to the next; a judgement about a version does not hang on them.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::http::address;

/// The window moves in so many steps.
const STEPS: usize = 12;
/// Classes of latency, each √2 times as long as the one before: from 50 µs to half a minute.
const CLASSES: usize = 40;
/// Clients are told apart as far as they fall into different ones of so many groups.
const GROUPS: usize = 64;

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
    /// Calls of one group of clients that count within a step.
    calls_max: u32,
    steps: Box<[Step; STEPS]>,
}

#[derive(Debug, Default)]
struct Step {
    /// Which stretch of time these counts are of, from 1 on.
    number: AtomicU64,
    requests: AtomicU32,
    errors: AtomicU32,
    /// Those that count for a judgement.
    judged: AtomicU32,
    judged_errors: AtomicU32,
    latencies: Counts<CLASSES>,
    /// Calls of each group of clients that count.
    groups: Counts<GROUPS>,
    /// The groups whose calls have failed, one bit each.
    failed: AtomicU64,
}

#[derive(Debug)]
struct Counts<const N: usize>([AtomicU32; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; N])
    }
}

/// What a version did within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    pub requests: u64,
    /// Answers with a status from 500 on that are not the host's own fault.
    pub errors: u64,
    /// Half of the calls that count took no longer. In milliseconds; 0 without calls.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// What counts for a judgement.
    pub judged: Judged,
}

/// Without the calls by which a client goes beyond its share: nobody decides alone what becomes of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Judged {
    pub requests: u64,
    pub errors: u64,
    /// How many clients have called, up to 64; some that are two may count as one.
    pub clients: u32,
    /// How many of them met an error.
    pub clients_failed: u32,
}

impl Sum {
    /// The part of the requests that failed, 0 to 1.
    pub fn error_rate(&self) -> f64 {
        rate(self.errors, self.requests)
    }
}

impl Judged {
    pub(super) fn error_rate(&self) -> f64 {
        rate(self.errors, self.requests)
    }
}

fn rate(errors: u64, requests: u64) -> f64 {
    match requests {
        0 => 0.0,
        requests => errors as f64 / requests as f64,
    }
}

impl Figures {
    /// Counts over a window of this length, in each twelfth of which one client counts with `calls_max` calls at most.
    pub fn new(window: Duration, calls_max: u32) -> Self {
        let window_ns = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            step_ns: (window_ns / STEPS as u64).max(1),
            calls_max: calls_max.max(1),
            steps: Box::default(),
        }
    }

    /// Counts one call. `now_ns` is the clock's monotonic time.
    pub fn count(&self, now_ns: u64, client: IpAddr, took: Duration, is_error: bool) {
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
        let group = group_of(client);
        if step.groups.0[group].load(Relaxed) >= self.calls_max {
            return;
        }
        step.groups.0[group].fetch_add(1, Relaxed);
        step.judged.fetch_add(1, Relaxed);
        if is_error {
            step.judged_errors.fetch_add(1, Relaxed);
            step.failed.fetch_or(1 << group, Relaxed);
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
        let (mut seen, mut failed) = (0u64, 0u64);
        for step in self.steps.iter() {
            let of = step.number.load(Relaxed);
            if of == 0 || of + (STEPS as u64) <= number {
                continue;
            }
            sum.requests += u64::from(step.requests.load(Relaxed));
            sum.errors += u64::from(step.errors.load(Relaxed));
            sum.judged.requests += u64::from(step.judged.load(Relaxed));
            sum.judged.errors += u64::from(step.judged_errors.load(Relaxed));
            for (all, own) in latencies.iter_mut().zip(&step.latencies.0) {
                *all += u64::from(own.load(Relaxed));
            }
            for (group, calls) in step.groups.0.iter().enumerate() {
                seen |= u64::from(calls.load(Relaxed) > 0) << group;
            }
            failed |= step.failed.load(Relaxed);
        }
        sum.judged.clients = seen.count_ones();
        sum.judged.clients_failed = failed.count_ones();
        sum.p50_ms = percentile(&latencies, 0.50);
        sum.p99_ms = percentile(&latencies, 0.99);
        sum
    }
}

impl Step {
    fn clear(&self) {
        self.requests.store(0, Relaxed);
        self.errors.store(0, Relaxed);
        self.judged.store(0, Relaxed);
        self.judged_errors.store(0, Relaxed);
        self.failed.store(0, Relaxed);
        for count in self.latencies.0.iter().chain(&self.groups.0) {
            count.store(0, Relaxed);
        }
    }
}

/// The same each time. What an address of version 6 may change at will does not matter.
fn group_of(client: IpAddr) -> usize {
    let bits = match address::network(client) {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(network) => (network.to_bits() >> 64) as u64,
    };
    // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4): the highest six bits.
    (u64::wrapping_mul(bits, 0x9e37_79b9_7f4a_7c15) >> 58) as usize
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
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let figures = Figures::new(Duration::from_secs(60), u32::MAX);
        figures.count(0, CLIENT, Duration::from_millis(1), true);
        figures.count(30 * SECOND, CLIENT, Duration::from_millis(1), false);
        assert_eq!(figures.sum(31 * SECOND).requests, 2);
        assert!((figures.sum(31 * SECOND).error_rate() - 0.5).abs() < f64::EPSILON);
        let later = figures.sum(61 * SECOND);
        assert_eq!((later.requests, later.errors), (1, 0));
        assert_eq!(figures.sum(1000 * SECOND), Sum::default());
        // The same place in the ring, a long time later.
        figures.count(600 * SECOND, CLIENT, Duration::from_millis(1), false);
        let again = figures.sum(600 * SECOND);
        assert_eq!((again.requests, again.errors), (1, 0));
    }

    #[test]
    fn latencies_are_told_to_within_a_class() {
        let figures = Figures::new(Duration::from_secs(60), u32::MAX);
        for ms in 1..=100 {
            figures.count(0, CLIENT, Duration::from_millis(ms), false);
        }
        let sum = figures.sum(0);
        assert!((50.0..=71.0).contains(&sum.p50_ms), "{sum:?}");
        assert!((99.0..=140.0).contains(&sum.p99_ms), "{sum:?}");
        let quick = Figures::new(Duration::from_secs(60), u32::MAX);
        quick.count(0, CLIENT, Duration::ZERO, false);
        quick.count(0, CLIENT, Duration::from_secs(3600), false);
        assert!(quick.sum(0).p99_ms > 30_000.0, "a class for everything");
    }

    #[test]
    fn many_threads_count_together() {
        let figures = Figures::new(Duration::from_secs(60), u32::MAX);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..1000 {
                        figures.count(0, CLIENT, Duration::from_micros(n), n % 10 == 0);
                    }
                });
            }
        });
        let sum = figures.sum(0);
        assert!(sum.requests > 3990, "{sum:?}");
        assert!((sum.judged.error_rate() - 0.1).abs() < 0.01, "{sum:?}");
    }

    #[test]
    fn a_client_counts_with_its_share_and_no_more() {
        let figures = Figures::new(Duration::from_secs(60), 20);
        let client = |number: u8| IpAddr::from([192, 0, 2, number]);
        for _ in 0..1000 {
            figures.count(0, client(1), Duration::from_secs(1), true);
        }
        assert_eq!(figures.sum(0).requests, 1000);
        let alone = figures.sum(0).judged;
        assert_eq!((alone.requests, alone.errors), (20, 20));
        assert_eq!((alone.clients, alone.clients_failed), (1, 1));
        for number in 2..=30 {
            figures.count(0, client(number), Duration::from_millis(1), false);
        }
        let beside = figures.sum(0).judged;
        assert_eq!(beside.errors, 20, "{beside:?}");
        assert_eq!(beside.clients_failed, 1, "{beside:?}");
        assert!(beside.clients > 15, "{beside:?}");
        // In the next step it may count again.
        figures.count(6 * SECOND, client(1), Duration::from_secs(1), true);
        assert_eq!(figures.sum(6 * SECOND).judged.errors, 21);
    }

    #[test]
    fn all_addresses_of_one_network_are_one_client() {
        let group = |text: &str| group_of(text.parse().unwrap());
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1"));
        assert_eq!(group("::ffff:192.0.2.7"), group("192.0.2.7"));
        let all: std::collections::BTreeSet<_> =
            (0..=255).map(|n| group_of([10, 0, 0, n].into())).collect();
        assert!(all.len() > 50, "{}", all.len());
    }
}
