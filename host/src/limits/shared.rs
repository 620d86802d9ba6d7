//! What is counted on the server that several hosts share: one script decides all policies of a request, by the server's
//! clock.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Error, Script};
use crate::limits::counter::Standing;
use crate::limits::leases::{LEASE, Leases, micros, name};
use crate::limits::policy::Rule;
use crate::limits::{Check, Decision, Outcome, Permit};

const SCRIPT: &str = include_str!("shared.lua");

#[derive(Debug)]
pub(super) struct Shared {
    cluster: Cluster,
    script: Script,
    leases: Arc<Leases>,
}

impl Shared {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            script: Script::new(SCRIPT),
            leases: Arc::new(Leases::new()),
        }
    }

    /// Decides all of these at once, of which there is at least one.
    pub(super) async fn check<'a>(
        &self,
        checks: &[Check<'a>],
    ) -> Result<(Decision<'a>, Option<Permit>), Error> {
        let keys: Vec<String> = checks.iter().map(|check| self.key(check)).collect();
        let lease = rand::random::<u128>();
        let counted = checks.iter().zip(&keys);
        let counted = counted.filter(|(check, _)| check.policy.is_concurrency() && check.cost > 0);
        let counted: Vec<String> = counted.map(|(_, key)| key.clone()).collect();
        // Who goes away while the server decides, or does not hear of it in time, leaves no place taken.
        let expected = self.leases.expect(lease, counted);
        let answer = self
            .cluster
            .run_script::<Vec<i64>>(&self.script, &keys, |command| {
                command.arg(name(lease)).arg(micros(LEASE));
                for check in checks {
                    let (letter, step_us, limit) = numbers(check);
                    command.arg(letter).arg(step_us).arg(limit);
                    command
                        .arg(check.cost)
                        .arg(u8::from(check.policy.is_shadow));
                }
            });
        let answer = answer.await?;
        let mut decision = Decision::default();
        for (at, check) in checks.iter().enumerate() {
            let Some([violated, remaining, us]) = answer.get(at * 3..at * 3 + 3) else {
                return Err(Error::Refused("its answer is too short".to_owned()));
            };
            let ns = u64::try_from(*us).ok().map(|us| us.saturating_mul(1000));
            let standing = Standing {
                remaining: u64::try_from(*remaining).unwrap_or(0),
                reset_ns: ns,
            };
            let wait_ns = (*violated == 1).then_some(ns.unwrap_or(0));
            decision.outcomes[at] = Some(Outcome::new(check.policy, standing, wait_ns));
        }
        if !decision.is_admitted() {
            // It has taken none.
            expected.keep(|_| false);
            return Ok((decision, None));
        }
        let is_held = |key: &str| {
            let outcomes = keys.iter().zip(decision.outcomes.iter().flatten());
            let mut its = outcomes.filter(|(other, _)| *other == key);
            its.any(|(_, outcome)| !outcome.is_violated)
        };
        let is_any = expected.keep(is_held);
        let permit = is_any.then(|| Permit::shared(Arc::clone(&self.leases), lease));
        Ok((decision, permit))
    }

    /// Looks after what is in progress, until `stop` is cancelled.
    pub(super) async fn run(&self, stop: CancellationToken) {
        self.leases.run(&self.cluster, stop).await;
    }

    /// All are on one node of whatever is behind the address: a request may be held to limits of a route and of a key.
    fn key(&self, check: &Check<'_>) -> String {
        let (prefix, policy) = (self.cluster.prefix(), check.policy);
        let (id, key) = (policy.id, check.key.0);
        format!("{prefix}:{{limits}}:{}:{id:016x}:{key:032x}", policy.group)
    }
}

/// The rule as the script knows it. Times are rounded up, so that the rate is never exceeded.
fn numbers(check: &Check<'_>) -> (&'static str, u64, u64) {
    let us = |ns: u64| ns.div_ceil(1000);
    let limit = check.policy.limit;
    match check.policy.rule {
        Rule::Bucket { token_ns, full_ns } => {
            let burst = full_ns / token_ns;
            ("b", us(token_ns), us(token_ns).saturating_mul(burst))
        }
        Rule::Fixed { window_ns } => ("f", us(window_ns), limit),
        Rule::Sliding { part_ns } => ("s", us(part_ns), limit),
        Rule::Concurrency => ("c", 1, limit),
    }
}
