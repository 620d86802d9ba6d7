//! Decides where it is counted, and what happens when the shared server cannot be asked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;

use crate::cluster::{self, Cluster};
use crate::limits::shared::Shared;
use crate::limits::table::Table;
use crate::limits::{CHECKS_MAX, Check, Config, Decision, Fail, Naming, Permit, Store};

/// Why nothing was decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} limits apply to one request; at most {CHECKS_MAX} are possible")]
    TooManyChecks(usize),

    /// The shared server cannot be reached, and the limit is one that lets nobody through then.
    #[error("the limit `{0}` cannot be counted now")]
    Uncounted(String),

    #[error("`limits.store` is `shared`, and `cluster.redis_url` names no server")]
    NoServer,

    #[error("the limiter's metrics cannot be registered: {0}")]
    Metrics(String),
}

/// Decides how often callers may do things. One per process.
#[derive(Debug)]
pub struct Limiter {
    table: Arc<Table>,
    shared: Option<Shared>,
    fail: Fail,
    has_legacy_headers: bool,
    /// Requests that were decided without the shared server, by what became of a limit: open, closed, local.
    without_shared: [IntCounter; 3],
    /// When it was last told that the server refuses.
    told_ns: AtomicU64,
}

/// What was decided, and what the request holds until its answer is over.
#[derive(Debug)]
pub struct Admission<'a> {
    pub decision: Decision<'a>,
    /// Held only by requests that are admitted and that a limit of calls in progress counts.
    pub permit: Option<Permit>,
}

impl Limiter {
    /// A limiter that remembers nothing yet.
    pub fn new(
        config: &Config,
        cluster: Option<Cluster>,
        registry: &Registry,
    ) -> Result<Arc<Self>, Error> {
        let shared = match config.store {
            Store::Process => None,
            Store::Shared => Some(Shared::new(cluster.ok_or(Error::NoServer)?)),
        };
        let opts = Opts::new(
            "gantry_limits_without_shared_total",
            "Limits of requests that were decided without the shared server, by how: open, closed or local.",
        );
        let unregistered = |error: prometheus::Error| Error::Metrics(error.to_string());
        let without = IntCounterVec::new(opts, &["fail"]).map_err(unregistered)?;
        registry
            .register(Box::new(without.clone()))
            .map_err(unregistered)?;
        let of = |fail: Fail| without.with_label_values(&[&fail.to_string()]);
        Ok(Arc::new(Self {
            table: Arc::new(Table::new(config.entries_max)),
            shared,
            fail: config.fail,
            has_legacy_headers: config.legacy_headers,
            without_shared: [of(Fail::Open), of(Fail::Closed), of(Fail::Local)],
            told_ns: AtomicU64::new(0),
        }))
    }

    /// Decides several policies at once: either all admit the request and all are charged, or none is.
    /// `now_ns` is the time of a clock that never goes back ([`crate::clock::Clock::monotonic_ns`]); the shared server
    /// has its own.
    pub async fn check<'a>(
        &self,
        checks: &[Check<'a>],
        now_ns: u64,
    ) -> Result<Admission<'a>, Error> {
        if checks.len() > CHECKS_MAX {
            return Err(Error::TooManyChecks(checks.len()));
        }
        match &self.shared {
            Some(shared) if !checks.is_empty() => {
                // On the heap: most hosts have no shared server, and no room is to be kept for it in each request.
                Box::pin(self.check_shared(shared, checks, now_ns)).await
            }
            _ => Ok(self.check_here(checks, now_ns)),
        }
    }

    /// How names become the keys of checks.
    pub fn naming(&self) -> Naming {
        match &self.shared {
            None => Naming::InProcess,
            Some(_) => Naming::Shared,
        }
    }

    /// Whether answers have the headers of older clients, too.
    pub fn has_legacy_headers(&self) -> bool {
        self.has_legacy_headers
    }

    /// Looks after what is on the shared server, until `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        if let Some(shared) = &self.shared {
            shared.run(stop).await;
        }
    }

    /// Forgets all callers of this process, as at a start. What is in progress stays.
    pub fn forget(&self) {
        self.table.forget();
    }

    /// A server that answers and refuses is told of once a minute.
    fn tell(&self, error: &cluster::Error, now_ns: u64) {
        const MINUTE_NS: u64 = 60_000_000_000;
        let cluster::Error::Refused(reason) = error else {
            return;
        };
        let told_ns = self.told_ns.load(Relaxed);
        let is_time = told_ns == 0 || now_ns.saturating_sub(told_ns) > MINUTE_NS;
        let stored = || {
            let new_ns = now_ns.max(1);
            self.told_ns
                .compare_exchange(told_ns, new_ns, Relaxed, Relaxed)
        };
        if is_time && stored().is_ok() {
            tracing::error!(error.cause = %reason, "The shared server does not count rate limits");
        }
    }

    fn check_here<'a>(&self, checks: &[Check<'a>], now_ns: u64) -> Admission<'a> {
        let decision = self.table.check(checks, now_ns);
        let mut places = SmallVec::new();
        if decision.is_admitted() {
            for (check, outcome) in checks.iter().zip(decision.outcomes.iter().flatten()) {
                if check.policy.is_concurrency() && check.cost > 0 && !outcome.is_violated {
                    places.push((check.policy.id, check.key));
                }
            }
        }
        let has_places = !places.is_empty();
        Admission {
            decision,
            permit: has_places.then(|| Permit::in_process(Arc::clone(&self.table), places)),
        }
    }

    async fn check_shared<'a>(
        &self,
        shared: &Shared,
        checks: &[Check<'a>],
        now_ns: u64,
    ) -> Result<Admission<'a>, Error> {
        match shared.check(checks).await {
            Ok((decision, permit)) => return Ok(Admission { decision, permit }),
            // One that is lost is told of where it is lost.
            Err(error) => self.tell(&error, now_ns),
        }
        let [open, closed, local] = &self.without_shared;
        let mut here: SmallVec<[Check<'a>; CHECKS_MAX]> = SmallVec::new();
        for check in checks {
            match check.policy.fail.unwrap_or(self.fail) {
                Fail::Open => open.inc(),
                Fail::Closed if check.policy.is_shadow => {}
                Fail::Closed => {
                    closed.inc();
                    return Err(Error::Uncounted(check.policy.name().to_owned()));
                }
                Fail::Local => {
                    local.inc();
                    here.push(*check);
                }
            }
        }
        Ok(self.check_here(&here, now_ns))
    }
}
