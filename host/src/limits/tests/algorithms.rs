//! Each algorithm, case by case.

use prometheus::Registry;

use super::{SECOND_NS, config, key, policy, policy_of, spend, table};
use crate::limits::{Algorithm, Check, Config, Decision, Limiter, Policy, PolicyConfig};

/// (second, admitted, remaining, reset)
fn play(policy: &Policy, cases: &[(u64, bool, u64, u64)]) {
    let table = table();
    for (second, is_admitted, remaining, reset_s) in cases {
        let decision = spend(&table, policy, key("ann"), second * SECOND_NS);
        let outcome = decision.outcomes().next().unwrap();
        let seen = (
            decision.is_admitted(),
            outcome.remaining,
            outcome.reset_s.unwrap(),
        );
        assert_eq!(seen, (*is_admitted, *remaining, *reset_s), "at {second} s");
    }
}

#[test]
fn a_fixed_window_gives_its_limit_until_it_ends() {
    let policy = policy_of(Algorithm::FixedWindow, 2, 10_000);
    play(
        &policy,
        &[
            (3, true, 1, 7),
            (9, true, 0, 1),
            (9, false, 0, 1),
            (10, true, 1, 10),
            (11, true, 0, 9),
            (19, false, 0, 1),
            (1_000_000, true, 1, 10),
        ],
    );
}

#[test]
fn a_sliding_window_gives_back_what_has_left_it() {
    // A part is a second long.
    let policy = policy_of(Algorithm::SlidingWindow, 2, 8_000);
    play(
        &policy,
        &[
            (3, true, 1, 9),
            (7, true, 0, 9),
            (8, false, 0, 4),
            (11, false, 0, 1),
            (12, true, 0, 9),
            (12, false, 0, 4),
            (16, true, 0, 9),
            (1_000_000, true, 1, 9),
        ],
    );
}

#[test]
fn who_has_spent_under_another_rule_is_not_held_for_longer_than_the_new_one_says() {
    let began_ns = 10_000 * SECOND_NS;
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let table = table();
        let (short, long) = (
            policy_of(algorithm, 100, 1_000),
            policy_of(algorithm, 3, 3_600_000),
        );
        for _ in 0..2 {
            assert!(spend(&table, &short, key("ann"), began_ns).is_admitted());
        }
        let third = spend(&table, &long, key("ann"), began_ns);
        assert!(third.is_admitted());
        assert_eq!(
            third.outcomes().next().unwrap().remaining,
            0,
            "what was spent counts"
        );
        let refused = spend(&table, &long, key("ann"), began_ns);
        let wait_s = refused.retry_after_s().unwrap();
        assert!(wait_s <= 3600 + 3600 / 8, "{algorithm}: {wait_s}");
        let later_ns = began_ns + wait_s * SECOND_NS;
        assert!(spend(&table, &long, key("ann"), later_ns).is_admitted());
    }
    let table = table();
    let (slow, fast) = (
        policy("api", 1, 3_600_000, 10),
        policy("api", 10, 1_000, 10),
    );
    for _ in 0..10 {
        assert!(spend(&table, &slow, key("ann"), began_ns).is_admitted());
    }
    let refused = spend(&table, &fast, key("ann"), began_ns);
    assert_eq!(refused.retry_after_s(), Some(1));
    assert!(spend(&table, &fast, key("ann"), began_ns + SECOND_NS).is_admitted());
}

#[test]
fn calls_in_progress_are_counted_from_their_beginning_to_their_end() {
    let table = table();
    let policy = policy_of(Algorithm::Concurrency, 2, 0);
    for remaining in [1, 0] {
        let decision = spend(&table, &policy, key("ann"), 0);
        let outcome = decision.outcomes().next().unwrap();
        assert_eq!((outcome.remaining, outcome.reset_s), (remaining, None));
    }
    let refused = spend(&table, &policy, key("ann"), 3600 * SECOND_NS);
    assert_eq!(refused.retry_after_s(), Some(1));
    assert_eq!(
        refused.policy_header(),
        r#""api";q=2;qu="concurrent-requests""#
    );
    assert_eq!(refused.limit_header(), r#""api";r=0"#);
    assert!(spend(&table, &policy, key("bob"), 0).is_admitted());
    table.release(policy.id, key("ann"));
    assert!(spend(&table, &policy, key("ann"), 0).is_admitted());
    assert!(!spend(&table, &policy, key("ann"), 0).is_admitted());
    // A fresh start forgets what was spent, not what is in progress.
    table.forget();
    assert!(!spend(&table, &policy, key("ann"), 0).is_admitted());
    for who in ["ann", "ann", "bob"] {
        table.release(policy.id, key(who));
    }
    assert_eq!(table.entries(), 0);
}

#[tokio::test]
async fn a_place_in_progress_is_free_again_when_its_permit_is_dropped() {
    let limiter = Limiter::new(&Config::default(), None, &Registry::new()).unwrap();
    let (one, minute) = (
        policy_of(Algorithm::Concurrency, 1, 0),
        policy("minute", 2, 60_000, 2),
    );
    let checks = [&one, &minute].map(|policy| Check {
        policy,
        key: key("ann"),
        cost: 1,
    });
    let first = limiter.check(&checks, 0).await.unwrap();
    assert!(first.permit.is_some());
    let second = limiter.check(&checks, 0).await.unwrap();
    assert!(!second.decision.is_admitted() && second.permit.is_none());
    drop(first);
    let third = limiter.check(&checks, 0).await.unwrap();
    assert!(third.decision.is_admitted());
    drop(third);
    // The other limit refuses now, so no place is taken.
    for _ in 0..3 {
        let refused = limiter.check(&checks, 0).await.unwrap();
        let names = refused
            .decision
            .violated()
            .map(|outcome| outcome.policy.name());
        assert_eq!(names.collect::<Vec<_>>(), ["minute"]);
        assert!(refused.permit.is_none());
    }
}

#[test]
fn a_limit_that_only_tells_refuses_nobody_and_counts_as_if_it_did() {
    let table = table();
    let shadow = PolicyConfig {
        shadow: true,
        ..config("shadow", 1, 10_000, 1)
    };
    let shadow = Policy::new("test", "test", &shadow).unwrap();
    let wide = policy("wide", 3, 10_000, 3);
    let checks = [&wide, &shadow].map(|policy| Check {
        policy,
        key: key("ann"),
        cost: 1,
    });
    let shadowed = |decision: &Decision<'_>| {
        let names = decision.shadowed().map(|outcome| outcome.policy.name());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = table.check(&checks, 0);
    assert!(first.is_admitted() && shadowed(&first).is_empty());
    let second = table.check(&checks, 0);
    assert!(second.is_admitted());
    assert_eq!(shadowed(&second), ["shadow"]);
    assert_eq!(second.retry_after_s(), None);
    // Clients learn nothing of it.
    assert_eq!(second.policy_header(), r#""wide";q=3;w=10"#);
    assert_eq!(second.limit_header(), r#""wide";r=1;t=7"#);
    assert!(table.check(&checks, 0).is_admitted());
    let refused = table.check(&checks, 10 * SECOND_NS - 1);
    assert!(refused.is_admitted());
    // What others refuse is not charged to it either: it has a token again, and keeps it.
    let full = policy("wide", 3, 10_000, 1);
    assert!(spend(&table, &full, key("bob"), 0).is_admitted());
    let checks = [&full, &shadow].map(|policy| Check {
        policy,
        key: key("bob"),
        cost: 1,
    });
    let refused = table.check(&checks, 0);
    assert!(!refused.is_admitted() && shadowed(&refused).is_empty());
    assert!(shadowed(&spend(&table, &shadow, key("bob"), 0)).is_empty());
}

#[test]
fn older_clients_are_told_of_the_limit_that_is_nearest() {
    let table = table();
    let (hour, minute) = (
        policy("hour", 100, 3_600_000, 100),
        policy("minute", 2, 60_000, 2),
    );
    let checks = [&hour, &minute].map(|policy| Check {
        policy,
        key: key("ann"),
        cost: 1,
    });
    let told = |now_ns| table.check(&checks, now_ns).legacy_headers();
    assert_eq!(told(0), Some([2, 1, 30]));
    assert_eq!(told(0), Some([2, 0, 60]));
    assert_eq!(told(0), Some([2, 0, 30]));
    assert_eq!(table.check(&[], 0).legacy_headers(), None);
}
