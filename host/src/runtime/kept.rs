//! Instances between two calls. Only those are kept that put themselves back, whose last call returned in good order, whose
//! memory never grew, and whose handles are as they were: what they hold is what a new instance holds.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use wasmtime::{Store, component::Instance};

use crate::runtime::cpu::CpuClock;
use crate::runtime::state::{Idle, PluginState};
use crate::runtime::{CallContext, restore};
use crate::services::Allowance;

/// An instance which is not called for so long gives its place to others.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Whatever a store gathers over time is bounded.
const CALLS_MAX: u32 = 100_000;

/// Counts the kept instances of all plugins.
pub(super) struct Keeper {
    places: AtomicU32,
    /// Of each plugin.
    shelves: usize,
    per_shelf_max: usize,
    /// Calls into kept instances of plugins that are gone.
    reused_before: AtomicU64,
    plugins: Mutex<Vec<Weak<Kept>>>,
    began: Instant,
    /// When idle instances were looked for, after `began`.
    swept_s: AtomicU64,
}

impl Keeper {
    /// Room for so many instances in all, and for so many of one plugin.
    pub(super) fn new(instances_max: u32, per_plugin_max: usize) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let shelves = threads.min(per_plugin_max).max(1);
        Self {
            places: AtomicU32::new(instances_max),
            shelves,
            per_shelf_max: per_plugin_max / shelves,
            reused_before: AtomicU64::new(0),
            plugins: Mutex::default(),
            began: Instant::now(),
            swept_s: AtomicU64::new(0),
        }
    }

    /// The instances of one more plugin.
    pub(super) fn keep_for_plugin(keeper: &Arc<Self>) -> Arc<Kept> {
        let kept = Arc::new(Kept {
            keeper: Arc::clone(keeper),
            shelves: (0..keeper.shelves).map(|_| Shelf::default()).collect(),
        });
        let mut plugins = lock(&keeper.plugins);
        plugins.retain(|plugin| plugin.strong_count() > 0);
        plugins.push(Arc::downgrade(&kept));
        kept
    }

    /// How many calls found an instance that was kept.
    pub(super) fn reused(&self) -> u64 {
        let now: u64 = self.plugins().iter().map(|plugin| plugin.reused()).sum();
        self.reused_before.load(Relaxed) + now
    }

    fn plugins(&self) -> Vec<Arc<Kept>> {
        lock(&self.plugins)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn take_place(keeper: &Arc<Self>) -> Option<Place> {
        let take = |places: u32| places.checked_sub(1);
        let taken = keeper.places.fetch_update(Relaxed, Relaxed, take);
        taken.ok().map(|_| Place(Arc::clone(keeper)))
    }

    /// Drops the instances that nobody has called for a while. Looks for them once a second at the most.
    fn drop_idle(&self) {
        let now = self.began.elapsed().as_secs();
        if self.swept_s.swap(now, Relaxed) == now {
            return;
        }
        for plugin in self.plugins() {
            for shelf in &plugin.shelves {
                // They are dropped outside of the lock.
                let idle: Vec<_> = {
                    let instances = &mut shelf.lock().instances;
                    let is_idle = |one: &Waiting| one.since.elapsed() > IDLE_MAX;
                    let count = instances.iter().take_while(|one| is_idle(one)).count();
                    instances.drain(..count).collect()
                };
                drop(idle);
            }
        }
    }
}

/// The kept instances of one plugin. Each thread has a shelf, so that threads do not wait for one another, nor their
/// processors' caches.
pub(super) struct Kept {
    keeper: Arc<Keeper>,
    shelves: Box<[Shelf]>,
}

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Shelf(Mutex<OnShelf>);

#[derive(Default)]
struct OnShelf {
    /// The one that waits for longest is the first.
    instances: Vec<Waiting>,
    /// Calls that found one here.
    reused: u64,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, OnShelf> {
        lock(&self.0)
    }
}

/// An instance that can be called as if it were new, and since when.
struct Waiting {
    ready: Box<Ready>,
    since: Instant,
}

/// A place among the kept instances, given back when this is dropped.
struct Place(Arc<Keeper>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.fetch_add(1, Relaxed);
    }
}

/// What a call runs in.
pub(super) struct Ready {
    pub(super) store: Store<PluginState>,
    /// Once it is made.
    pub(super) instance: Option<Instance>,
    /// What its memories and tables take when a call begins.
    memory_bytes: usize,
    /// Calls before this one.
    calls: u32,
    /// What it has once it was kept.
    kept: Option<(Idle, Place)>,
}

impl Ready {
    /// In this store, in which nothing has been made yet.
    pub(super) fn new(store: Store<PluginState>) -> Self {
        Self {
            store,
            instance: None,
            memory_bytes: 0,
            calls: 0,
            kept: None,
        }
    }

    /// The instance is made. What grows from now on is the guest's doing.
    pub(super) fn complete(&mut self, instance: Instance) -> Instance {
        self.memory_bytes = self.store.data_mut().memory.begin();
        *self.instance.insert(instance)
    }

    /// The next call of an instance that was kept.
    pub(super) fn begin(&mut self, call: CallContext, allowance: Allowance, clock: CpuClock) {
        let state = self.store.data_mut();
        state.begin(call, allowance, clock);
        // It was allowed when the instance was made, under the same limit.
        let _ = state.memory.take(self.memory_bytes);
    }

    /// Whether it holds what a new instance holds.
    fn is_as_new(&mut self) -> bool {
        let state = self.store.data_mut();
        self.instance.is_some()
            && self.calls < CALLS_MAX
            && !state.memory.has_grown()
            && restore::is_as_new(&mut state.table)
    }
}

impl Kept {
    /// The instance that was kept last, on the shelf of this thread if there is one.
    pub(super) fn take(&self) -> Option<Box<Ready>> {
        let own = self.own_shelf();
        let others = (1..self.shelves.len()).map(|next| (own + next) % self.shelves.len());
        [own].into_iter().chain(others).find_map(|shelf| {
            let mut shelf = self.shelves.get(shelf)?.lock();
            let instance = shelf.instances.pop()?;
            shelf.reused += 1;
            Some(instance.ready)
        })
    }

    /// Keeps an instance whose call has returned, if there is room. It holds nothing of the call any more.
    pub(super) fn put(&self, mut ready: Box<Ready>) {
        if !ready.is_as_new() {
            return;
        }
        if ready.kept.is_none() {
            let Some(place) = self.place() else {
                return;
            };
            ready.kept = Some((Idle::new(ready.store.data()), place));
        }
        if let Some((idle, _)) = &ready.kept {
            ready.store.data_mut().end(idle);
        }
        ready.calls += 1;
        let since = Instant::now();
        let Some(shelf) = self.shelves.get(self.own_shelf()) else {
            return;
        };
        let mut shelf = shelf.lock();
        if shelf.instances.len() < self.keeper.per_shelf_max {
            shelf.instances.push(Waiting { ready, since });
        }
    }

    fn place(&self) -> Option<Place> {
        Keeper::take_place(&self.keeper).or_else(|| {
            self.keeper.drop_idle();
            Keeper::take_place(&self.keeper)
        })
    }

    fn own_shelf(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Relaxed);
        }
        NUMBER.with(|number| number % self.shelves.len().max(1))
    }

    fn reused(&self) -> u64 {
        self.shelves.iter().map(|shelf| shelf.lock().reused).sum()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeper.reused_before.fetch_add(self.reused(), Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
