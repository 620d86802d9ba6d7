//! What time it is, passed in, so that tests can move it. Nothing else in the host asks the machine for a time that
//! decides something.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

/// The machine's clock, or one that a test moves by hand. Cheap to clone; clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// How far another clock that it follows is ahead, in milliseconds.
    System(Arc<AtomicI64>),
    Manual(Arc<AtomicI64>),
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Kind::System(Arc::default()))
    }

    /// A clock that stands still at `now_ms` until it is moved.
    pub fn manual(now_ms: i64) -> Self {
        Self(Kind::Manual(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, as the rows keep time. May jump when the machine's clock is set.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Kind::System(ahead_ms) => {
                let now_ms = jiff::Timestamp::now().as_millisecond();
                now_ms.saturating_add(ahead_ms.load(Ordering::Acquire))
            }
            Kind::Manual(now_ms) => now_ms.load(Ordering::Acquire),
        }
    }

    /// Lets the machine's clock show the time of another one, which is so far ahead of it. A manual clock stays as it is.
    pub fn follow(&self, by_ms: i64) {
        if let Kind::System(ahead_ms) = &self.0 {
            ahead_ms.store(by_ms, Ordering::Release);
        }
    }

    /// How far the clock that it follows is ahead of the machine's, in milliseconds.
    pub fn ahead_ms(&self) -> i64 {
        match &self.0 {
            Kind::System(ahead_ms) => ahead_ms.load(Ordering::Acquire),
            Kind::Manual(_) => 0,
        }
    }

    /// Nanoseconds since some moment in this process. Never goes back, so it is the one to measure and limit with.
    pub fn monotonic_ns(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match &self.0 {
            Kind::System(_) => u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Kind::Manual(now_ms) => now_ms.load(Ordering::Acquire).unsigned_abs() * 1_000_000,
        }
    }

    /// Sets a manual clock, also back. The machine's clock stays as it is.
    pub fn set_ms(&self, now: i64) {
        if let Kind::Manual(now_ms) = &self.0 {
            now_ms.store(now, Ordering::Release);
        }
    }

    /// Moves a manual clock forward, in milliseconds. The machine's clock does not move.
    pub fn advance_ms(&self, ms: u32) {
        if let Kind::Manual(now_ms) = &self.0 {
            now_ms.fetch_add(i64::from(ms), Ordering::AcqRel);
        }
    }
}

/// A time of the rows as APIs tell it (RFC 3339).
pub fn rfc3339(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map(|time| time.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_for_all_who_hold_it() {
        let clock = Clock::manual(1_000);
        let other = clock.clone();
        assert_eq!(
            (other.now_ms(), other.monotonic_ns()),
            (1_000, 1_000_000_000)
        );
        clock.advance_ms(500);
        assert_eq!(
            (other.now_ms(), other.monotonic_ns()),
            (1_500, 1_500_000_000)
        );
    }

    #[test]
    fn the_machines_clock_shows_the_time_of_the_one_that_it_follows() {
        let clock = Clock::system();
        let other = clock.clone();
        let before = (other.now_ms(), other.monotonic_ns());
        clock.follow(3_600_000);
        assert!((3_600_000..3_700_000).contains(&(other.now_ms() - before.0)));
        assert!(other.monotonic_ns() - before.1 < 100_000_000_000);
        clock.follow(-3_600_000);
        assert!(other.now_ms() < before.0);
        let by_hand = Clock::manual(1);
        by_hand.follow(5);
        assert_eq!(by_hand.now_ms(), 1);
    }

    #[test]
    fn the_machines_clock_does_not_go_back() {
        let clock = Clock::system();
        let first = clock.monotonic_ns();
        clock.advance_ms(1_000_000);
        assert!(clock.monotonic_ns() >= first);
        assert!(clock.monotonic_ns() - first < 1_000_000_000_000);
    }
}
