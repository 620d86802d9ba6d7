//! The table of buckets. A bucket is one number (GCRA): the moment at which it will be full again.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::limits::{CHECKS_MAX, Config, Decision, Key, Outcome, Policy};

/// Enough that threads seldom meet. Fewer if there are fewer entries, so that the bound stays exact.
const SHARDS_MAX: usize = 64;
/// Stands for no shard.
const NOWHERE: usize = usize::MAX;
/// Most policies per shard whose newcomers have a bucket of their own when the shard is full.
const SHARED_MAX: usize = 256;
/// A shard smaller than this is not worth sweeping.
const SWEEP_AT_MIN: usize = 64;

/// One question to the limiter: may this caller spend `cost` under this policy? A cost of 0 only asks how the caller
/// stands. A cost above the burst is never admitted.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    pub policy: &'a Policy,
    pub key: Key,
    pub cost: u32,
}

/// A request met more policies than the limiter decides at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} limits apply to one request; at most {CHECKS_MAX} are possible")]
pub struct TooManyChecks(pub usize);

/// Decides how often callers may do things. One per process; share it by reference or `Arc`.
///
/// Memory is bounded by [`Config::entries_max`]. A bucket that is full again is forgotten, which changes nothing.
#[derive(Debug)]
pub struct Limiter {
    shards: Box<[Mutex<Shard>]>,
    entries_per_shard_max: usize,
    /// With secret seeds, so that nobody can aim at one shard.
    hasher: RandomState,
}

impl Limiter {
    /// A limiter that remembers nothing yet.
    pub fn new(config: &Config) -> Self {
        let shards = config.entries_max.clamp(1, SHARDS_MAX);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            entries_per_shard_max: (config.entries_max / shards).max(1),
            hasher: RandomState::new(),
        }
    }

    /// Decides several policies at once: either all admit the request and all are charged, or none is. `now_ns` is
    /// the time of a clock that never goes back ([`crate::clock::Clock::monotonic_ns`]).
    pub fn check<'a>(
        &self,
        checks: &[Check<'a>],
        now_ns: u64,
    ) -> Result<Decision<'a>, TooManyChecks> {
        if checks.len() > CHECKS_MAX {
            return Err(TooManyChecks(checks.len()));
        }
        let mut places = [Place::default(); CHECKS_MAX];
        for (place, check) in places.iter_mut().zip(checks) {
            *place = self.place_of(check);
        }
        let mut locked = self.lock(&places[..checks.len()]);

        let mut standings = [Standing::default(); CHECKS_MAX];
        for (at, check) in checks.iter().enumerate() {
            // The same bucket may stand twice in the list; then both costs count.
            let earlier = (0..at).filter(|earlier| places[*earlier].slot == places[at].slot);
            let earlier_ns = earlier
                .map(|earlier| cost_ns(&checks[earlier]))
                .sum::<u64>();
            let used_ns = locked
                .shard(places[at].shard)
                .used_ns(&places[at].slot, now_ns);
            let wanted_ns = used_ns + earlier_ns + cost_ns(check);
            let wait_ns = wanted_ns.saturating_sub(check.policy.full_ns);
            let is_refused = wait_ns > 0 && check.cost > 0;
            standings[at] = Standing {
                used_ns,
                wanted_ns,
                wait_ns: is_refused.then_some(wait_ns),
            };
        }
        let is_admitted = standings.iter().all(|standing| standing.wait_ns.is_none());
        let mut outcomes = [None; CHECKS_MAX];
        for (at, check) in checks.iter().enumerate() {
            let standing = &standings[at];
            let used_ns = if is_admitted {
                standing.wanted_ns
            } else {
                standing.used_ns
            };
            outcomes[at] = Some(Outcome::new(check.policy, used_ns, standing.wait_ns));
            if is_admitted && check.cost > 0 {
                let shard = locked.shard(places[at].shard);
                shard.spend(
                    places[at].slot,
                    cost_ns(check),
                    now_ns,
                    self.entries_per_shard_max,
                );
            }
        }
        Ok(Decision { outcomes })
    }

    /// Forgets all callers, as at a start.
    pub fn forget(&self) {
        for shard in &self.shards {
            *lock(shard) = Shard::default();
        }
    }

    /// How many callers are remembered, counted once per policy.
    pub fn entries(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).buckets.len())
            .sum()
    }

    fn place_of(&self, check: &Check<'_>) -> Place {
        let hash = self.hasher.hash_one((check.policy.id, check.key));
        let slot = Slot {
            hash,
            policy: check.policy.id,
            key: check.key,
        };
        // The table inside the shard uses the other bits.
        Place {
            shard: (hash >> 32) as usize % self.shards.len(),
            slot,
        }
    }

    /// Locks each shard once, always in the same order, so that two requests cannot wait for each other.
    fn lock(&self, places: &[Place]) -> Locked<'_> {
        let mut order = [NOWHERE; CHECKS_MAX];
        for (shard, place) in order.iter_mut().zip(places) {
            *shard = place.shard;
        }
        order.sort_unstable();
        let mut guards = [const { None }; CHECKS_MAX];
        let mut last = None;
        for (guard, shard) in guards.iter_mut().zip(order) {
            if shard != NOWHERE && last != Some(shard) {
                *guard = Some((shard, lock(&self.shards[shard])));
                last = Some(shard);
            }
        }
        Locked(guards)
    }
}

struct Locked<'a>([Option<(usize, MutexGuard<'a, Shard>)>; CHECKS_MAX]);

impl Locked<'_> {
    fn shard(&mut self, wanted: usize) -> &mut Shard {
        let found = self
            .0
            .iter_mut()
            .flatten()
            .find(|(shard, _)| *shard == wanted);
        found
            .map(|(_, guard)| &mut **guard)
            .expect("the shard of every check is locked")
    }
}

/// Nothing in a shard can be half done when a thread panics, so a poisoned lock is still good.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cost_ns(check: &Check<'_>) -> u64 {
    check
        .policy
        .token_ns
        .saturating_mul(u64::from(check.cost))
        .min(u64::MAX / 16)
}

/// How a caller stands with one policy: nanoseconds of refill spent, spent if the request is charged, and missing.
#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    used_ns: u64,
    wanted_ns: u64,
    wait_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    shard: usize,
    slot: Slot,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            shard: NOWHERE,
            slot: Slot {
                hash: 0,
                policy: 0,
                key: Key::EVERYBODY,
            },
        }
    }
}

/// Names a bucket, and brings its hash along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    hash: u64,
    policy: u64,
    key: Key,
}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Passes on the hash that a slot brings along.
#[derive(Debug, Default, Clone, Copy)]
struct Passed(u64);

impl Hasher for Passed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Debug, Default)]
struct Shard {
    /// When each bucket will be full again.
    buckets: HashMap<Slot, u64, BuildHasherDefault<Passed>>,
    /// The same, by policy, for all newcomers who found no place. Someone who gets a place later starts from it, or
    /// finding a place would be a second burst.
    shared: HashMap<u64, u64, BuildHasherDefault<Passed>>,
    /// The number of buckets at which to look for some to forget.
    sweep_at: usize,
    /// Sweeping forgot what was full by this moment, so no decision may be made for an earlier one.
    swept_at_ns: u64,
    /// No bucket is full again before this moment: sweeping earlier would find nothing.
    sweep_after_ns: u64,
}

impl Shard {
    fn used_ns(&self, slot: &Slot, now_ns: u64) -> u64 {
        self.full_at_ns(slot)
            .saturating_sub(now_ns.max(self.swept_at_ns))
    }

    fn full_at_ns(&self, slot: &Slot) -> u64 {
        let found = self.buckets.get(slot);
        found
            .or_else(|| self.shared.get(&self.shared_by(slot)))
            .copied()
            .unwrap_or(0)
    }

    fn spend(&mut self, slot: Slot, cost_ns: u64, now_ns: u64, entries_max: usize) {
        let now_ns = now_ns.max(self.swept_at_ns);
        let full_at_ns = self.full_at_ns(&slot).max(now_ns) + cost_ns;
        if let Some(bucket) = self.buckets.get_mut(&slot) {
            *bucket = full_at_ns;
            return;
        }
        let sweep_at_min = SWEEP_AT_MIN.min(entries_max);
        if self.buckets.len() >= self.sweep_at.clamp(sweep_at_min, entries_max) {
            self.sweep(now_ns);
            // Twice as many before the next sweep: each insertion pays for a constant part of it.
            self.sweep_at = self.buckets.len() * 2;
        }
        if self.buckets.len() < entries_max {
            self.sweep_after_ns = self.sweep_after_ns.min(full_at_ns);
            self.buckets.insert(slot, full_at_ns);
        } else {
            self.shared.insert(self.shared_by(&slot), full_at_ns);
        }
    }

    fn sweep(&mut self, now_ns: u64) {
        if now_ns < self.sweep_after_ns {
            return;
        }
        self.buckets.retain(|_, full_at_ns| *full_at_ns > now_ns);
        self.shared.retain(|_, full_at_ns| *full_at_ns > now_ns);
        self.swept_at_ns = now_ns;
        self.sweep_after_ns = self.buckets.values().copied().min().unwrap_or(u64::MAX);
    }

    /// Newcomers share by policy, and if there are too many policies for that, all together.
    fn shared_by(&self, slot: &Slot) -> u64 {
        let has_place = self.shared.len() < SHARED_MAX || self.shared.contains_key(&slot.policy);
        if has_place { slot.policy } else { 0 }
    }
}
