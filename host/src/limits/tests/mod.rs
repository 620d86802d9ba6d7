//! The rules of the limiter, case by case and with many threads.

mod algorithms;
mod traces;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use prometheus::Registry;

use crate::limits::table::Table;
use crate::limits::{
    Algorithm, CHECKS_MAX, Caller, Check, Config, Decision, Error, Key, KeyKind, Limiter, Naming,
    Policy, PolicyConfig, Store,
};

const SECOND_NS: u64 = 1_000_000_000;

fn config(name: &str, limit: u64, window_ms: u64, burst: u64) -> PolicyConfig {
    PolicyConfig {
        name: name.into(),
        limit,
        window_ms,
        burst: Some(burst),
        key: KeyKind::Ip,
        algorithm: Algorithm::TokenBucket,
        shadow: false,
        fail: None,
    }
}

/// A policy of another algorithm.
fn policy_of(algorithm: Algorithm, limit: u64, window_ms: u64) -> Policy {
    let config = PolicyConfig {
        algorithm,
        burst: None,
        ..config("api", limit, window_ms, 1)
    };
    Policy::new("test", "test", &config).unwrap()
}

fn table() -> Table {
    Table::new(200_000)
}

fn policy(name: &str, limit: u64, window_ms: u64, burst: u64) -> Policy {
    Policy::new("test", "test", &config(name, limit, window_ms, burst)).unwrap()
}

fn key(name: &str) -> Key {
    Key::of_name("test", name, Naming::InProcess)
}

fn spend<'a>(table: &Table, policy: &'a Policy, who: Key, now_ns: u64) -> Decision<'a> {
    let check = Check {
        policy,
        key: who,
        cost: 1,
    };
    table.check(&[check], now_ns)
}

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    let table = table();
    let policy = policy("api", 10, 10_000, 3);
    // (second, admitted, remaining, reset)
    let cases = [
        (0, true, 2, 1),
        (0, true, 1, 2),
        (0, true, 0, 3),
        (0, false, 0, 1),
        (1, true, 0, 3),
        (1, false, 0, 1),
        (3, true, 1, 2),
        (100, true, 2, 1),
    ];
    for (second, is_admitted, remaining, reset_s) in cases {
        let decision = spend(&table, &policy, key("ann"), second * SECOND_NS);
        let outcome = decision.outcomes().next().unwrap();
        let seen = (
            second,
            decision.is_admitted(),
            outcome.remaining,
            outcome.reset_s,
        );
        assert_eq!(seen, (second, is_admitted, remaining, Some(reset_s)));
        assert_eq!(decision.retry_after_s(), (!is_admitted).then_some(reset_s));
    }
}

#[test]
fn waiting_for_retry_after_is_enough() {
    let table = table();
    let policy = policy("slow", 3, 3_600_000, 3);
    let mut now_ns = 17;
    for _ in 0..20 {
        let decision = spend(&table, &policy, key("ann"), now_ns);
        if let Some(seconds) = decision.retry_after_s() {
            assert!(!spend(&table, &policy, key("ann"), now_ns + SECOND_NS).is_admitted());
            now_ns += seconds * SECOND_NS;
            assert!(spend(&table, &policy, key("ann"), now_ns).is_admitted());
        }
    }
    assert!(now_ns > 3600 * SECOND_NS);
}

#[test]
fn callers_and_policies_do_not_touch_one_another() {
    let table = table();
    let (first, second) = (
        policy("first", 1, 60_000, 1),
        policy("second", 1, 60_000, 1),
    );
    assert!(spend(&table, &first, key("ann"), 0).is_admitted());
    assert!(spend(&table, &first, key("bob"), 0).is_admitted());
    assert!(spend(&table, &second, key("ann"), 0).is_admitted());
    assert!(!spend(&table, &first, key("ann"), 0).is_admitted());
    // A redeployment makes the policy anew; what was spent stays spent.
    assert!(!spend(&table, &policy("first", 1, 60_000, 1), key("ann"), 0).is_admitted());
}

#[test]
fn a_request_that_one_policy_refuses_costs_nothing_with_the_others() {
    let table = table();
    let (wide, narrow) = (policy("wide", 5, 60_000, 5), policy("narrow", 1, 60_000, 1));
    let both = [
        Check {
            policy: &wide,
            key: key("ann"),
            cost: 1,
        },
        Check {
            policy: &narrow,
            key: key("ann"),
            cost: 1,
        },
    ];
    assert!(table.check(&both, 0).is_admitted());
    for _ in 0..10 {
        let decision = table.check(&both, 0);
        let violated: Vec<_> = decision
            .violated()
            .map(|outcome| outcome.policy.name())
            .collect();
        assert_eq!(violated, ["narrow"]);
        assert_eq!(
            decision.outcomes().map(|o| o.remaining).collect::<Vec<_>>(),
            [4, 0]
        );
    }
    for _ in 0..4 {
        assert!(spend(&table, &wide, key("ann"), 0).is_admitted());
    }
    assert!(!spend(&table, &wide, key("ann"), 0).is_admitted());
}

#[test]
fn costs_add_up_also_when_a_bucket_stands_twice_in_one_request() {
    let table = table();
    let policy = policy("units", 10, 60_000, 10);
    let check = |cost| Check {
        policy: &policy,
        key: key("ann"),
        cost,
    };
    assert!(!table.check(&[check(11)], 0).is_admitted());
    assert!(!table.check(&[check(6), check(5)], 0).is_admitted());
    assert!(table.check(&[check(6), check(3)], 0).is_admitted());
    let standing = table.check(&[check(0)], 0);
    assert!(standing.is_admitted());
    assert_eq!(standing.outcomes().next().unwrap().remaining, 1);
    assert!(!table.check(&[check(2)], 0).is_admitted());
    assert!(table.check(&[check(1)], 0).is_admitted());
    // Asking is possible with an empty bucket too.
    assert!(table.check(&[check(0)], 0).is_admitted());
}

#[tokio::test]
async fn more_policies_than_can_be_decided_are_an_error_and_charge_nothing() {
    let limiter = Limiter::new(&Config::default(), None, &Registry::new()).unwrap();
    let policy = policy("api", 10, 60_000, 10);
    let check = Check {
        policy: &policy,
        key: key("ann"),
        cost: 1,
    };
    let refused = limiter.check(&[check; CHECKS_MAX + 1], 0).await;
    assert_eq!(refused.unwrap_err(), Error::TooManyChecks(CHECKS_MAX + 1));
    let first = limiter.check(&[check], 0).await.unwrap();
    assert_eq!(first.decision.outcomes().next().unwrap().remaining, 9);
    assert!(limiter.check(&[], 0).await.unwrap().decision.is_admitted());
}

#[test]
fn a_shared_limiter_needs_a_shared_server() {
    let config = Config {
        store: Store::Shared,
        ..Config::default()
    };
    let refused = Limiter::new(&config, None, &Registry::new());
    assert_eq!(refused.unwrap_err(), Error::NoServer);
}

#[test]
fn headers_are_structured_fields() {
    let table = table();
    let (minute, day) = (
        policy("user-min", 100, 60_000, 50),
        policy("day", 10_000, 86_400_000, 1),
    );
    let checks = [
        Check {
            policy: &minute,
            key: key("ann"),
            cost: 1,
        },
        Check {
            policy: &day,
            key: key("ann"),
            cost: 1,
        },
    ];
    let decision = table.check(&checks, 0);
    assert_eq!(
        decision.policy_header(),
        r#""user-min";q=100;w=60, "day";q=10000;w=86400"#
    );
    assert_eq!(
        decision.limit_header(),
        r#""user-min";r=49;t=1, "day";r=0;t=9"#
    );
    assert_eq!(decision.retry_after_s(), None);
    let refused = table.check(&checks, 0);
    assert_eq!(
        refused.limit_header(),
        r#""user-min";r=49;t=1, "day";r=0;t=9"#
    );
    assert_eq!(refused.retry_after_s(), Some(9));
    assert_eq!(policy("half", 1, 1500, 1).header_item(), r#""half";q=1"#);
    assert_eq!(table.check(&[], 0).limit_header(), "");
}

#[test]
fn a_policy_that_cannot_be_enforced_is_refused_with_a_reason() {
    let cases = [
        (config("", 1, 1, 1), "its name"),
        (config("A\"b", 1, 1, 1), "its name"),
        (config("a", 0, 1, 1), "at least 1"),
        (config("a", 1, 1, 0), "at least 1"),
        (config("a", 1, 0, 1), "31 days"),
        (config("a", 1, u64::MAX, 1), "31 days"),
        (config("a", u64::MAX, 1000, 1), "thousand million"),
        (config("a", 1, 31 * 24 * 3_600_000, 10_000), "too large"),
    ];
    for (config, rule) in cases {
        let message = Policy::new("test", "test", &config)
            .unwrap_err()
            .to_string();
        assert!(message.contains(rule), "{message}");
    }
    let written: PolicyConfig =
        serde_json::from_str(r#"{"name": "a", "limit": 7, "window_ms": 1000}"#).unwrap();
    assert_eq!((written.burst, written.key), (None, KeyKind::Ip));
    assert!(serde_json::from_str::<PolicyConfig>(r#"{"name": "a", "limt": 7}"#).is_err());
}

#[test]
fn callers_are_told_apart_by_what_the_policy_counts_by() {
    let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let ann = Caller {
        address: ip("192.0.2.1"),
        user: Some("ann"),
        api_key: None,
    };
    let robot = Caller {
        address: ip("192.0.2.1"),
        user: None,
        api_key: Some("ann"),
    };
    let guest = Caller {
        address: ip("192.0.2.1"),
        user: None,
        api_key: None,
    };
    let of = |kind, caller| Key::of_caller(kind, caller, Naming::InProcess);
    assert_eq!(of(KeyKind::Ip, &ann), of(KeyKind::Ip, &guest));
    assert_ne!(of(KeyKind::User, &ann), of(KeyKind::User, &guest));
    assert_eq!(of(KeyKind::User, &robot), of(KeyKind::Ip, &guest));
    assert_ne!(of(KeyKind::Principal, &ann), of(KeyKind::Principal, &robot));
    assert_eq!(of(KeyKind::Principal, &robot), of(KeyKind::ApiKey, &robot));
    assert_eq!(
        of(KeyKind::Route, &ann),
        of(KeyKind::Route, &Caller::default())
    );

    let address = |text: &str| Key::of_address(text.parse().unwrap());
    assert_eq!(address("2001:db8:1:2::1"), address("2001:db8:1:2:ffff::9"));
    assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
    assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    assert_ne!(address("::"), Key::EVERYBODY);
}

#[test]
fn buckets_that_are_full_again_are_forgotten() {
    let table = Table::new(64_000);
    let policy = policy("api", 1, 1000, 1);
    for second in 0..20 {
        for caller in 0..10_000 {
            let who = key(&format!("{second}/{caller}"));
            assert!(spend(&table, &policy, who, second * 10 * SECOND_NS).is_admitted());
        }
    }
    assert!(table.entries() < 30_000, "{}", table.entries());
}

#[test]
fn a_full_table_stays_bounded_and_lets_no_flood_of_new_callers_through() {
    let table = Table::new(640);
    let policy = policy("api", 2, 3_600_000, 2);
    assert!(spend(&table, &policy, key("old"), 0).is_admitted());
    let flood = (0..20_000).filter(|caller| {
        let who = key(&format!("new-{caller}"));
        spend(&table, &policy, who, 0).is_admitted()
    });
    // Each place, and then one shared burst in each of 64 shards.
    assert!(flood.count() <= 640 + 64 * 2);
    assert!(table.entries() <= 640);
    // Somebody who had a place keeps it, and its rest.
    assert!(spend(&table, &policy, key("old"), 0).is_admitted());
    assert!(!spend(&table, &policy, key("old"), 0).is_admitted());
    // When the flood is over, newcomers are served again.
    let later_ns = 3 * 3600 * SECOND_NS;
    assert!(spend(&table, &policy, key("later"), later_ns).is_admitted());
}

#[test]
fn many_threads_together_get_no_more_than_the_burst() {
    let table = table();
    let (a, b) = (
        policy("a", 1000, 3_600_000, 1000),
        policy("b", 700, 3_600_000, 700),
    );
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (table, a, b, admitted) = (&table, &a, &b, &admitted);
            scope.spawn(move || {
                let check = |policy| Check {
                    policy,
                    key: key("ann"),
                    cost: 1,
                };
                // Half of the threads ask in the other order: they must not wait for each other.
                let checks = if thread % 2 == 0 { [a, b] } else { [b, a] }.map(check);
                for _ in 0..500 {
                    if table.check(&checks, 0).is_admitted() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.load(Ordering::Relaxed), 700);
    let left = table.check(
        &[Check {
            policy: &a,
            key: key("ann"),
            cost: 0,
        }],
        0,
    );
    assert_eq!(left.outcomes().next().unwrap().remaining, 300);
}

#[test]
fn a_flood_of_callers_and_policies_gets_no_more_than_its_places() {
    let table = Table::new(64);
    let policies: Vec<Policy> = (0..500)
        .map(|number| policy(&format!("p{number}"), 1, 3_600_000, 1))
        .collect();
    let mut admitted = 0;
    for caller in 0..20 {
        for policy in &policies {
            let who = key(&format!("new-{caller}"));
            admitted += usize::from(spend(&table, policy, who, 0).is_admitted());
        }
    }
    // Each place, and then one for each policy in each shard.
    assert!(admitted <= 64 + 64 * 500, "{admitted}");
    assert!(table.entries() <= 64);
    let later_ns = 3 * 3600 * SECOND_NS;
    for policy in &policies {
        assert!(spend(&table, policy, key("later"), later_ns).is_admitted());
    }
}

#[test]
fn shared_names_are_the_same_everywhere_and_differ_by_what_they_name() {
    let of = |space, name| Key::of_name(space, name, Naming::Shared);
    assert_eq!(of("user", "ann"), of("user", "ann"));
    assert_ne!(of("user", "ann"), of("api-key", "ann"));
    assert_ne!(of("user", "ann"), of("usera", "nn"));
}
