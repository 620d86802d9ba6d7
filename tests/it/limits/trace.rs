//! Whatever arrives, and wherever it is counted: no stretch of time is admitted more than a limit says. Here on the shared
//! server and by its clock; in the process, the limiter's own tests try many more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gantry::cluster::{self, Cluster};
use gantry::limits::{
    Algorithm, Check, Config, Key, KeyKind, Limiter, Naming, Policy, PolicyConfig, Store,
};
use gantry_harness::RedisServer;
use prometheus::Registry;

/// A host's limiter on this server.
async fn limiter(server: &RedisServer) -> Arc<Limiter> {
    let registry = Registry::new();
    let config = cluster::Config {
        redis_url: server.url().into(),
        command_timeout_ms: 10_000,
        ..cluster::Config::default()
    };
    let cluster = Cluster::open(&config, &registry).await.unwrap();
    let config = Config {
        store: Store::Shared,
        ..Config::default()
    };
    Limiter::new(&config, cluster, &registry).unwrap()
}

fn policy(name: &str, algorithm: Algorithm, limit: u64, window_ms: u64) -> Policy {
    let config = PolicyConfig {
        name: name.to_owned(),
        limit,
        window_ms,
        burst: None,
        key: KeyKind::Route,
        algorithm,
        shadow: false,
        fail: None,
    };
    Policy::new("test", "test", &config).unwrap()
}

/// One after the other, without anything from outside: the same numbers at every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What was admitted: between which two moments, and what it cost.
type Admitted = Vec<(Duration, Duration, u64)>;

/// Lets several callers ask at once, on two hosts, now and then in bursts, for so long.
async fn play(server: &RedisServer, policy: &Policy, time: Duration) -> Admitted {
    let limiters = [limiter(server).await, limiter(server).await];
    let began = Instant::now();
    let callers = (0..6_u64).map(|number| {
        let limiter = &limiters[usize::try_from(number % 2).unwrap()];
        async move {
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (number + 1));
            let mut admitted = Vec::new();
            while began.elapsed() < time {
                let check = Check {
                    policy,
                    key: Key::of_name("test", "ann", Naming::Shared),
                    cost: u32::try_from(1 + dice.roll(3)).unwrap(),
                };
                let before = began.elapsed();
                let admission = limiter.check(&[check], 0).await.unwrap();
                if admission.decision.is_admitted() {
                    admitted.push((before, began.elapsed(), u64::from(check.cost)));
                }
                if dice.roll(4) == 0 {
                    let pause = Duration::from_millis(dice.roll(120));
                    tokio::time::sleep(pause).await;
                }
            }
            admitted
        }
    });
    let mut all: Admitted = futures_util::future::join_all(callers)
        .await
        .into_iter()
        .flatten()
        .collect();
    all.sort_unstable();
    assert!(all.len() > 3, "nothing was let through");
    all
}

/// Whether each stretch of time that surely holds some of these is one in which so much may be admitted.
fn check(admitted: &Admitted, most: impl Fn(Duration) -> u64) {
    for first in 0..admitted.len() {
        for last in first..admitted.len() {
            let (from, until) = (admitted[first].0, admitted[last].1);
            let surely = admitted
                .iter()
                .filter(|(before, after, _)| *before >= from && *after <= until);
            let sum: u64 = surely.map(|(_, _, cost)| cost).sum();
            let most = most(until - from);
            assert!(sum <= most, "{sum} in {:?}, at most {most}", until - from);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stretch_of_time_on_the_shared_server_admits_more_than_burst_and_rate() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let policy = policy("bucket", Algorithm::TokenBucket, 20, 500);
    let admitted = play(&server, &policy, Duration::from_secs(2)).await;
    check(&admitted, |time| {
        20 + u64::try_from(time.as_micros() * 20 / 500_000).unwrap()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_that_slides_on_the_shared_server_admits_more_than_the_limit() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let policy = policy("sliding", Algorithm::SlidingWindow, 20, 400);
    let admitted = play(&server, &policy, Duration::from_secs(2)).await;
    check(&admitted, |time| match time.as_millis() < 400 {
        true => 20,
        false => u64::MAX,
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fixed_window_on_the_shared_server_admits_more_than_the_limit() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let policy = policy("fixed", Algorithm::FixedWindow, 20, 400);
    let admitted = play(&server, &policy, Duration::from_secs(2)).await;
    // A stretch of time touches so many windows at most.
    check(&admitted, |time| {
        let windows = time.as_millis() / 400 + 2;
        20 * u64::try_from(windows).unwrap()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_in_progress_on_the_shared_server_than_the_limit() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let policy = policy("running", Algorithm::Concurrency, 3, 0);
    let check = Check {
        policy: &policy,
        key: Key::EVERYBODY,
        cost: 1,
    };
    let hosts = [limiter(&server).await, limiter(&server).await];
    let mut held = Vec::new();
    for number in 0..10 {
        let admission = hosts[number % 2].check(&[check], 0).await.unwrap();
        assert_eq!(admission.decision.is_admitted(), number < 3);
        held.extend(admission.permit);
    }
    assert_eq!(held.len(), 3);
}
