//! What is remembered of one caller under one policy, and how each algorithm adds to it. The same arithmetic, in
//! microseconds, is in `shared.lua`.

use crate::limits::policy::{Policy, Rule};

/// So many parts make a sliding window. One that begins within a part counts all of it, so a window is never admitted more
/// than the limit, and sometimes as much less as was spent in an eighth of it.
pub(super) const PARTS: u64 = 8;
const HELD: usize = PARTS as usize + 1;

/// How long who meets the limit of calls in progress is told to wait: nobody knows when they end.
pub(super) const PROGRESS_WAIT_NS: u64 = 1_000_000_000;

/// What somebody has spent. Once it is idle it is worth nothing and can be forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counter {
    /// From this moment on nothing counts any more. Of a bucket: when it is full.
    pub(super) idle_at_ns: u64,
    /// Which window, or part of one, the first count is of; the others are of those before it.
    part: u64,
    counts: [u32; HELD],
}

/// How somebody stands: what they may still spend, and when they have all of it back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    pub(super) remaining: u64,
    /// Nothing of what is in progress: that ends when it ends.
    pub(super) reset_ns: Option<u64>,
}

impl Counter {
    /// So much in progress.
    pub(super) fn of_progress(count: u32) -> Self {
        let mut counter = Self::default();
        counter.counts[0] = count;
        counter
    }

    /// How much is in progress.
    pub(super) fn progress(&self) -> u32 {
        self.counts[0]
    }

    /// The counter as it is at this moment, without what does not count any more.
    pub(super) fn at(mut self, rule: Rule, now_ns: u64) -> Self {
        let part_ns = match rule {
            Rule::Concurrency => return self,
            Rule::Bucket { full_ns, .. } => {
                // Nobody waits for longer than an empty bucket takes, though the policy had a slower one before.
                self.idle_at_ns = self.idle_at_ns.min(now_ns.saturating_add(full_ns));
                return self;
            }
            Rule::Fixed { window_ns } => window_ns,
            Rule::Sliding { part_ns } => part_ns,
        };
        let part = now_ns / part_ns;
        if self.idle_at_ns <= now_ns {
            self = Self::default();
            self.part = part;
        }
        // A part of the future is one of a shorter window that the policy had before. What was spent then counts now, and not
        // until the future is there.
        self.part = self.part.min(part);
        let passed = part - self.part;
        if passed > 0 {
            let passed = usize::try_from(passed).unwrap_or(HELD).min(HELD);
            self.counts.copy_within(..HELD - passed, passed);
            self.counts[..passed].fill(0);
            self.part = part;
        }
        self
    }

    /// Whether this is a bucket that was filled to what the policy says now.
    pub(super) fn waits_less_than(&self, found: Self, rule: Rule) -> bool {
        matches!(rule, Rule::Bucket { .. }) && self.idle_at_ns < found.idle_at_ns
    }

    /// How long it takes until so much more can be spent; nothing if it can be now. The counter is as it is now.
    pub(super) fn wait_ns(&self, policy: &Policy, cost: u64, now_ns: u64) -> Option<u64> {
        if cost == 0 {
            return None;
        }
        let limit = policy.limit;
        match policy.rule {
            Rule::Bucket { token_ns, full_ns } => {
                let used_ns = self.idle_at_ns.saturating_sub(now_ns);
                let wanted_ns = used_ns.saturating_add(token_ns.saturating_mul(cost));
                (wanted_ns > full_ns).then(|| wanted_ns - full_ns)
            }
            Rule::Fixed { window_ns } => {
                let is_over = u64::from(self.counts[0]) + cost > limit;
                is_over.then(|| self.ends_ns(1, window_ns).saturating_sub(now_ns))
            }
            Rule::Sliding { part_ns } => {
                let spent: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
                let over = (spent + cost).checked_sub(limit).filter(|over| *over > 0)?;
                let mut freed = 0;
                let oldest_first = self.counts.iter().enumerate().rev();
                let mut enough = oldest_first.filter_map(|(age, count)| {
                    freed += u64::from(*count);
                    let at_ns = self.ends_ns(HELD as u64 - age as u64, part_ns);
                    (freed >= over).then(|| at_ns.saturating_sub(now_ns))
                });
                // A cost above the limit never fits.
                Some(enough.next().unwrap_or(part_ns * PARTS))
            }
            Rule::Concurrency => {
                let is_over = u64::from(self.counts[0]) + cost > limit;
                is_over.then_some(PROGRESS_WAIT_NS)
            }
        }
    }

    /// Spends what can be spent. The counter is as it is now.
    pub(super) fn spend(&mut self, policy: &Policy, cost: u64, now_ns: u64) {
        if cost == 0 {
            return;
        }
        let added = u32::try_from(cost).unwrap_or(u32::MAX);
        match policy.rule {
            Rule::Bucket { token_ns, .. } => {
                let cost_ns = token_ns.saturating_mul(cost).min(u64::MAX / 16);
                self.idle_at_ns = self.idle_at_ns.max(now_ns) + cost_ns;
            }
            Rule::Fixed { window_ns } => {
                self.counts[0] = self.counts[0].saturating_add(added);
                self.idle_at_ns = self.ends_ns(1, window_ns);
            }
            Rule::Sliding { part_ns } => {
                self.counts[0] = self.counts[0].saturating_add(added);
                self.idle_at_ns = self.ends_ns(HELD as u64, part_ns);
            }
            Rule::Concurrency => self.counts[0] = self.counts[0].saturating_add(added),
        }
    }

    /// How its owner stands. The counter is as it is now.
    pub(super) fn standing(&self, policy: &Policy, now_ns: u64) -> Standing {
        let spent: u64 = self.counts.iter().map(|count| u64::from(*count)).sum();
        let remaining = policy.limit.saturating_sub(spent);
        let reset_ns = Some(self.idle_at_ns.saturating_sub(now_ns));
        match policy.rule {
            Rule::Bucket { token_ns, full_ns } => {
                let used_ns = self.idle_at_ns.saturating_sub(now_ns);
                Standing {
                    remaining: full_ns.saturating_sub(used_ns) / token_ns,
                    reset_ns,
                }
            }
            Rule::Fixed { .. } | Rule::Sliding { .. } => Standing {
                remaining,
                reset_ns,
            },
            Rule::Concurrency => Standing {
                remaining,
                reset_ns: None,
            },
        }
    }

    /// When so many parts from the current one on are over.
    fn ends_ns(&self, parts: u64, part_ns: u64) -> u64 {
        (self.part + parts).saturating_mul(part_ns)
    }
}
