//! What is counted in this process: a table in shards, with a fixed number of places.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::limits::counter::{Counter, PROGRESS_WAIT_NS};
use crate::limits::{CHECKS_MAX, Check, Decision, Key, Outcome, Policy};

/// Enough that threads seldom meet. Fewer if there are fewer entries, so that the bound stays exact.
const SHARDS_MAX: usize = 64;
/// Stands for no shard.
const NOWHERE: usize = usize::MAX;
/// Most policies per shard whose newcomers have a counter of their own when the shard is full.
const SHARED_MAX: usize = 256;
/// A shard smaller than this is not worth sweeping.
const SWEEP_AT_MIN: usize = 64;

/// Counters of this process. Memory is bounded by the number of places, and, of what is in progress, by what is. A counter
/// that is idle is forgotten, which changes nothing.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    entries_per_shard_max: usize,
    /// With secret seeds, so that nobody can aim at one shard.
    hasher: RandomState,
}

impl Table {
    /// A table with nothing in it.
    pub(super) fn new(entries_max: usize) -> Self {
        let shards = entries_max.clamp(1, SHARDS_MAX);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            entries_per_shard_max: (entries_max / shards).max(1),
            hasher: RandomState::new(),
        }
    }

    /// Decides several policies at once: either all that refuse admit the request and are charged, or none is. There are
    /// at most [`CHECKS_MAX`]. Allocates only for a caller who is not remembered yet. Calls in progress of a request that
    /// is admitted must be ended with [`Table::release`].
    pub(super) fn check<'a>(&self, checks: &[Check<'a>], now_ns: u64) -> Decision<'a> {
        let mut places = [Place::default(); CHECKS_MAX];
        for (place, check) in places.iter_mut().zip(checks) {
            *place = self.place_of(check.policy.id, check.key);
        }
        let mut locked = self.lock(&places[..checks.len()]);

        let mut before = [Counter::default(); CHECKS_MAX];
        let mut after = [Counter::default(); CHECKS_MAX];
        let mut waits_ns = [None; CHECKS_MAX];
        let mut is_admitted = true;
        for (at, Check { policy, cost, .. }) in checks.iter().enumerate() {
            let place = places[at];
            let shard = locked.shard(place.shard);
            let (found, has_place) = shard.find(&place.slot, policy, self.entries_per_shard_max);
            let has_place = has_place || {
                shard.sweep(shard.not_before(now_ns));
                shard.has_place(self.entries_per_shard_max)
            };
            let now_ns = shard.not_before(now_ns);
            before[at] = found.at(policy.rule, now_ns);
            if before[at].waits_less_than(found, policy.rule) {
                // Also for those who are refused, or they would wait from now on each time they ask.
                shard.correct(&place.slot, before[at]);
            }
            // The same counter may stand twice in the list; then both costs count.
            let earlier = (0..at).rfind(|earlier| places[*earlier].slot == place.slot);
            after[at] = earlier.map_or(before[at], |earlier| after[earlier]);
            let mut wait_ns = after[at].wait_ns(policy, u64::from(*cost), now_ns);
            if !has_place && *cost > 0 {
                wait_ns = wait_ns.or(Some(PROGRESS_WAIT_NS));
            }
            if wait_ns.is_none() {
                after[at].spend(policy, u64::from(*cost), now_ns);
            }
            waits_ns[at] = wait_ns;
            is_admitted &= wait_ns.is_none() || policy.is_shadow;
        }

        let mut decision = Decision::default();
        for (at, Check { policy, cost, .. }) in checks.iter().enumerate() {
            let Place { shard, slot } = places[at];
            let shard = locked.shard(shard);
            let now_ns = shard.not_before(now_ns);
            let is_charged = is_admitted && waits_ns[at].is_none();
            let counter = if is_charged { after[at] } else { before[at] };
            let standing = counter.standing(policy, now_ns);
            decision.outcomes[at] = Some(Outcome::new(policy, standing, waits_ns[at]));
            if is_charged && *cost > 0 {
                shard.keep(slot, policy, counter, now_ns, self.entries_per_shard_max);
            }
        }
        decision
    }

    /// Ends one call in progress.
    pub(super) fn release(&self, policy: u64, key: Key) {
        let place = self.place_of(policy, key);
        lock(&self.shards[place.shard]).release(&place.slot);
    }

    /// Forgets all callers, as at a start. What is in progress stays.
    pub(super) fn forget(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let progress = std::mem::take(&mut shard.progress);
            *shard = Shard {
                progress,
                ..Shard::default()
            };
        }
    }

    /// How many callers are remembered, counted once per policy.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        let shards = self.shards.iter().map(lock);
        shards
            .map(|shard| shard.counters.len() + shard.progress.len())
            .sum()
    }

    fn place_of(&self, policy: u64, key: Key) -> Place {
        let hash = self.hasher.hash_one((policy, key));
        // The table inside the shard uses the other bits.
        Place {
            shard: (hash >> 32) as usize % self.shards.len(),
            slot: Slot { hash, policy, key },
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

/// Names a counter, and brings its hash along.
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

type Hashed = BuildHasherDefault<Passed>;

#[derive(Debug, Default)]
struct Shard {
    counters: HashMap<Slot, Counter, Hashed>,
    /// By policy, one for all newcomers who found no place. Someone who gets a place later starts from it, or finding a
    /// place would be a second burst.
    shared: HashMap<u64, Counter, Hashed>,
    /// Calls in progress. There are never more entries than calls.
    progress: HashMap<Slot, u32, Hashed>,
    /// The number of counters at which to look for some to forget.
    sweep_at: usize,
    /// Sweeping forgot what was idle by this moment, so no decision may be made for an earlier one.
    swept_at_ns: u64,
    /// No counter is idle before this moment: sweeping earlier would find nothing.
    sweep_after_ns: u64,
}

impl Shard {
    fn not_before(&self, now_ns: u64) -> u64 {
        now_ns.max(self.swept_at_ns)
    }

    /// The counter, and whether there is a place for it.
    fn find(&self, slot: &Slot, policy: &Policy, entries_max: usize) -> (Counter, bool) {
        if policy.is_concurrency() {
            let count = self.progress.get(slot).copied().unwrap_or(0);
            return (Counter::of_progress(count), true);
        }
        if let Some(counter) = self.counters.get(slot) {
            return (*counter, true);
        }
        match self.shared.get(&slot.policy) {
            Some(counter) => (*counter, true),
            // With so many policies under a flood at once, newcomers to further ones wait until some are idle.
            None => (Counter::default(), self.has_place(entries_max)),
        }
    }

    /// Whether there is a place for a newcomer to a policy without others.
    fn has_place(&self, entries_max: usize) -> bool {
        self.counters.len() < entries_max || self.shared.len() < SHARED_MAX
    }

    fn keep(
        &mut self,
        slot: Slot,
        policy: &Policy,
        counter: Counter,
        now_ns: u64,
        entries_max: usize,
    ) {
        if policy.is_concurrency() {
            self.progress.insert(slot, counter.progress());
            return;
        }
        if let Some(kept) = self.counters.get_mut(&slot) {
            *kept = counter;
            return;
        }
        let sweep_at_min = SWEEP_AT_MIN.min(entries_max);
        if self.counters.len() >= self.sweep_at.clamp(sweep_at_min, entries_max) {
            self.sweep(now_ns);
            // Twice as many before the next sweep: each insertion pays for a constant part of it.
            self.sweep_at = self.counters.len() * 2;
        }
        if self.counters.len() < entries_max {
            self.sweep_after_ns = self.sweep_after_ns.min(counter.idle_at_ns);
            self.counters.insert(slot, counter);
        } else {
            self.shared.insert(slot.policy, counter);
        }
    }

    /// Puts another counter in the place of one that is there.
    fn correct(&mut self, slot: &Slot, counter: Counter) {
        if let Some(kept) = self.counters.get_mut(slot) {
            *kept = counter;
        } else if let Some(kept) = self.shared.get_mut(&slot.policy) {
            *kept = counter;
        }
    }

    fn release(&mut self, slot: &Slot) {
        if let Some(count) = self.progress.get_mut(slot) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.progress.remove(slot);
            }
        }
    }

    fn sweep(&mut self, now_ns: u64) {
        if now_ns < self.sweep_after_ns {
            return;
        }
        self.counters
            .retain(|_, counter| counter.idle_at_ns > now_ns);
        self.shared.retain(|_, counter| counter.idle_at_ns > now_ns);
        self.swept_at_ns = now_ns;
        let idle = self.counters.values().map(|counter| counter.idle_at_ns);
        self.sweep_after_ns = idle.min().unwrap_or(u64::MAX);
    }
}
