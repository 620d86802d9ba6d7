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
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `now_ms` until it is moved.
    pub fn manual(now_ms: i64) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, as the rows keep time. May jump when the machine's clock is set.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            None => jiff::Timestamp::now().as_millisecond(),
            Some(now_ms) => now_ms.load(Ordering::Acquire),
        }
    }

    /// Nanoseconds since some moment in this process. Never goes back, so it is the one to measure and limit with.
    pub fn monotonic_ns(&self) -> u64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match &self.0 {
            None => u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Some(now_ms) => now_ms.load(Ordering::Acquire).unsigned_abs() * 1_000_000,
        }
    }

    /// Sets a manual clock, also back. The machine's clock stays as it is.
    pub fn set_ms(&self, now: i64) {
        if let Some(now_ms) = &self.0 {
            now_ms.store(now, Ordering::Release);
        }
    }

    /// Moves a manual clock forward, in milliseconds. The machine's clock does not move.
    pub fn advance_ms(&self, ms: u32) {
        if let Some(now_ms) = &self.0 {
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
    fn the_machines_clock_does_not_go_back() {
        let clock = Clock::system();
        let first = clock.monotonic_ns();
        clock.advance_ms(1_000_000);
        assert!(clock.monotonic_ns() >= first);
        assert!(clock.monotonic_ns() - first < 1_000_000_000_000);
    }
}
