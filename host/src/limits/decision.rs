//! What the limiter decided, and how clients are told.

use std::fmt::Write as _;

use crate::limits::counter::Standing;
use crate::limits::{CHECKS_MAX, Policy};

const SECOND_NS: u64 = 1_000_000_000;

/// What one policy says about one request.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The policy that was asked.
    pub policy: &'a Policy,
    /// What the caller may still spend at once, after this request.
    pub remaining: u64,
    /// Seconds until the caller may spend again (if violated) or has all of it back (if not), rounded up. Nothing where
    /// nobody can know.
    pub reset_s: Option<u64>,
    /// Whether this policy refused the request, or would have if it did not only tell.
    pub is_violated: bool,
}

/// Whether a request may go on, and how the caller stands with each policy. If one policy refused, none was charged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decision<'a> {
    pub(super) outcomes: [Option<Outcome<'a>>; CHECKS_MAX],
}

impl<'a> Decision<'a> {
    /// Whether no policy refused.
    pub fn is_admitted(&self) -> bool {
        self.violated().next().is_none()
    }

    /// The outcomes of the policies that refuse, in the order of the checks.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome<'a>> {
        let all = self.outcomes.iter().flatten();
        all.filter(|outcome| !outcome.policy.is_shadow)
    }

    /// The outcomes of the policies that refused.
    pub fn violated(&self) -> impl Iterator<Item = &Outcome<'a>> {
        self.outcomes().filter(|outcome| outcome.is_violated)
    }

    /// The outcomes of the policies that only tell, and that would have refused.
    pub fn shadowed(&self) -> impl Iterator<Item = &Outcome<'a>> {
        let all = self.outcomes.iter().flatten();
        all.filter(|outcome| outcome.policy.is_shadow && outcome.is_violated)
    }

    /// Seconds after which the same request can be admitted: the value of `Retry-After`. None if it was admitted.
    pub fn retry_after_s(&self) -> Option<u64> {
        let seconds = self.violated().map(|outcome| outcome.reset_s.unwrap_or(1));
        seconds.max()
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
        let mut value = String::with_capacity(48);
        for outcome in self.outcomes() {
            let comma = if value.is_empty() { "" } else { ", " };
            let (name, remaining) = (outcome.policy.name(), outcome.remaining);
            // Writing to a string does not fail.
            let _ = write!(value, "{comma}\"{name}\";r={remaining}");
            if let Some(seconds) = outcome.reset_s {
                let _ = write!(value, ";t={seconds}");
            }
        }
        value
    }

    /// Values of `X-RateLimit-Limit`, `-Remaining` and `-Reset`, which know one limit only: the one that refused, or of
    /// which least is left. None if nothing was checked.
    pub fn legacy_headers(&self) -> Option<[u64; 3]> {
        let nearest = self.outcomes().min_by_key(|outcome| {
            let share = u128::from(outcome.remaining) * 1_000_000;
            (
                !outcome.is_violated,
                share / u128::from(outcome.policy.limit),
            )
        })?;
        let (limit, remaining) = (nearest.policy.limit, nearest.remaining);
        Some([limit, remaining, nearest.reset_s.unwrap_or(1)])
    }
}

impl<'a> Outcome<'a> {
    /// `wait_ns`: how long until the request fits, if it does not fit now.
    pub(super) fn new(policy: &'a Policy, standing: Standing, wait_ns: Option<u64>) -> Self {
        let reset_ns = match wait_ns {
            Some(wait_ns) if !policy.is_concurrency() => Some(wait_ns),
            _ => standing.reset_ns,
        };
        Self {
            policy,
            remaining: standing.remaining,
            reset_s: reset_ns.map(|ns| ns.div_ceil(SECOND_NS)),
            is_violated: wait_ns.is_some(),
        }
    }
}
