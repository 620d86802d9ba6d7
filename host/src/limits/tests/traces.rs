//! Whatever arrives, no stretch of time is admitted more than a limit says.

use proptest::prelude::*;

use super::{key, policy, policy_of, spend};
use crate::limits::table::Table;
use crate::limits::{Algorithm, Check, Policy};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However requests arrive, every stretch of time admits at most the burst and what was refilled meanwhile; also
    /// when the table is far too small for the callers.
    #[test]
    fn no_stretch_of_time_admits_more_than_burst_and_rate(
        limit in 1_u64..50,
        window_ms in 1_u64..5_000,
        burst in 1_u64..20,
        entries_max in prop_oneof![Just(1_usize), Just(100_000)],
        arrivals in prop::collection::vec((0_u64..400, 1_u32..4, 0_u8..3), 1..200),
    ) {
        let table = Table::new(entries_max);
        let policy = policy("api", limit, window_ms, burst);
        let mut now_ns = 0;
        let mut admitted: [Vec<(u64, u64)>; 3] = Default::default();
        for (wait_ms, cost, who) in arrivals {
            now_ns += wait_ms * 1_000_000;
            let check = Check { policy: &policy, key: key(&who.to_string()), cost };
            if table.check(&[check], now_ns).is_admitted() {
                admitted[usize::from(who)].push((now_ns, u64::from(cost)));
            }
        }
        for spent in &admitted {
            for from in 0..spent.len() {
                let mut sum = 0;
                for (at_ns, cost) in &spent[from..] {
                    sum += cost;
                    let refilled = u128::from(at_ns - spent[from].0) * u128::from(limit)
                        / (u128::from(window_ms) * 1_000_000);
                    prop_assert!(u128::from(sum) <= u128::from(burst) + refilled);
                }
            }
        }
    }

    /// Whatever stretch of time as long as the window: no more than the limit.
    #[test]
    fn no_window_that_slides_admits_more_than_the_limit(
        limit in 1_u64..30,
        window_ms in 1_u64..3_000,
        entries_max in prop_oneof![Just(1_usize), Just(100_000)],
        arrivals in prop::collection::vec((0_u64..300, 1_u32..4, 0_u8..3), 1..200),
    ) {
        let policy = policy_of(Algorithm::SlidingWindow, limit, window_ms);
        for spent in &trace(&policy, entries_max, &arrivals) {
            for from in 0..spent.len() {
                let within = spent[from..]
                    .iter()
                    .take_while(|(at_ns, _)| at_ns - spent[from].0 < window_ms * 1_000_000);
                prop_assert!(within.map(|(_, cost)| cost).sum::<u64>() <= limit);
            }
        }
    }

    /// From the beginning of each window to its end: no more than the limit.
    #[test]
    fn no_fixed_window_admits_more_than_the_limit(
        limit in 1_u64..30,
        window_ms in 1_u64..3_000,
        entries_max in prop_oneof![Just(1_usize), Just(100_000)],
        arrivals in prop::collection::vec((0_u64..300, 1_u32..4, 0_u8..3), 1..200),
    ) {
        let policy = policy_of(Algorithm::FixedWindow, limit, window_ms);
        for spent in &trace(&policy, entries_max, &arrivals) {
            let mut windows = std::collections::BTreeMap::new();
            for (at_ns, cost) in spent {
                *windows.entry(at_ns / (window_ms * 1_000_000)).or_insert(0) += cost;
            }
            prop_assert!(windows.values().all(|sum| *sum <= limit));
        }
    }

    /// Whoever begins and ends, and in whatever order: no more at once than the limit.
    #[test]
    fn no_more_is_in_progress_than_the_limit(
        limit in 1_u64..6,
        steps in prop::collection::vec((any::<bool>(), 0_u8..3), 1..200),
    ) {
        let table = Table::new(1);
        let policy = policy_of(Algorithm::Concurrency, limit, 0);
        let mut running = [0_u64; 3];
        for (begins, who) in steps {
            let running = &mut running[usize::from(who)];
            let who = key(&who.to_string());
            if begins {
                let is_admitted = spend(&table, &policy, who, 0).is_admitted();
                prop_assert_eq!(is_admitted, *running < limit);
                *running += u64::from(is_admitted);
            } else if *running > 0 {
                table.release(policy.id, who);
                *running -= 1;
            }
        }
    }
}

/// What three callers were let through with, each with its moment.
fn trace(policy: &Policy, entries_max: usize, arrivals: &[(u64, u32, u8)]) -> [Vec<(u64, u64)>; 3] {
    let table = Table::new(entries_max);
    let mut now_ns = 0;
    let mut admitted: [Vec<(u64, u64)>; 3] = Default::default();
    for (wait_ms, cost, who) in arrivals {
        now_ns += wait_ms * 1_000_000;
        let check = Check {
            policy,
            key: key(&who.to_string()),
            cost: *cost,
        };
        if table.check(&[check], now_ns).is_admitted() {
            admitted[usize::from(*who)].push((now_ns, u64::from(*cost)));
        }
    }
    admitted
}
