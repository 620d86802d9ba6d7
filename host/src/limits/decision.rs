//! What the limiter decided, and how clients are told.

use std::fmt::Write as _;

use crate::limits::{CHECKS_MAX, Policy};

const SECOND_NS: u64 = 1_000_000_000;

/// What one policy says about one request.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The policy that was asked.
    pub policy: &'a Policy,
    /// What the caller may still spend at once, after this request.
    pub remaining: u64,
    /// Seconds until the caller may spend again (if violated) or has its whole burst back (if not), rounded up.
    pub reset_s: u64,
    /// Whether this policy refused the request.
    pub is_violated: bool,
}

/// Whether a request may go on, and how the caller stands with each policy. If one policy refused, none was charged.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    pub(super) outcomes: [Option<Outcome<'a>>; CHECKS_MAX],
}

impl<'a> Decision<'a> {
    /// Whether no policy refused.
    pub fn is_admitted(&self) -> bool {
        self.violated().next().is_none()
    }

    /// The outcomes in the order of the checks.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome<'a>> {
        self.outcomes.iter().flatten()
    }

    /// The outcomes of the policies that refused.
    pub fn violated(&self) -> impl Iterator<Item = &Outcome<'a>> {
        self.outcomes().filter(|outcome| outcome.is_violated)
    }

    /// Seconds after which the same request can be admitted: the value of `Retry-After`. None if it was admitted.
    pub fn retry_after_s(&self) -> Option<u64> {
        self.violated().map(|outcome| outcome.reset_s).max()
    }

    /// The value of `RateLimit-Policy`: `"default";q=100;w=60`. Empty if nothing was checked.
    pub fn policy_header(&self) -> String {
        let mut value = String::new();
        for outcome in self.outcomes() {
            let comma = if value.is_empty() { "" } else { ", " };
            value.push_str(comma);
            value.push_str(outcome.policy.header_item());
        }
        value
    }

    /// The value of `RateLimit`: `"default";r=50;t=30`. Empty if nothing was checked.
    pub fn limit_header(&self) -> String {
        let mut value = String::new();
        for Outcome {
            policy,
            remaining,
            reset_s,
            ..
        } in self.outcomes()
        {
            let comma = if value.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(
                value,
                "{comma}\"{}\";r={remaining};t={reset_s}",
                policy.name()
            );
        }
        value
    }
}

impl<'a> Outcome<'a> {
    /// `used_ns`: how long until the bucket is full again. `wait_ns`: how long until the request fits, if it does not
    /// fit now.
    pub(super) fn new(policy: &'a Policy, used_ns: u64, wait_ns: Option<u64>) -> Self {
        Self {
            policy,
            remaining: policy.full_ns.saturating_sub(used_ns) / policy.token_ns,
            reset_s: wait_ns.unwrap_or(used_ns).div_ceil(SECOND_NS),
            is_violated: wait_ns.is_some(),
        }
    }
}
