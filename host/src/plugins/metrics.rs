//! What is counted per plugin and route, in handles made when a deployment is loaded: a request only adds to them.
//! Labels come from manifests, so their number is bounded by what is deployed.

use std::{sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use crate::ids::PluginName;
use crate::plugins::accounts::Accounts;
use crate::plugins::breaker::Scope;
use crate::plugins::filters::PLUGIN;
use crate::plugins::versions::Callers;
use crate::runtime::{Direction, Fault};
use crate::services::Account;

/// Seconds. From what a plugin needs at least to what it is allowed at most.
const DURATION_BUCKETS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

const SCOPES: [Scope; 2] = [Scope::Client, Scope::Everybody];

/// The same for filters, some of which only change a header.
const FILTER_BUCKETS: &[f64] = &[
    0.000_001, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1,
    0.5, 2.5,
];

/// What a limit does to those beyond it.
const MODES: [&str; 2] = ["enforced", "shadow"];

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The families. One per process.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    faults: IntCounterVec,
    swaps: IntCounterVec,
    holds: IntCounterVec,
    kept_away: IntCounterVec,
    limited: IntCounterVec,
    accounts: Accounts,
    callers: Callers,
    filter_failures: IntCounterVec,
    filter_duration: HistogramVec,
    cache: IntCounterVec,
}

impl Metrics {
    /// Registers the families. Fails if they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new(
                    "gantry_requests_total",
                    "Requests answered, by plugin, route and class of status.",
                ),
                &["plugin", "route", "status"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "gantry_request_duration_seconds",
                    "Time from the head of a request to its answer, by plugin and route.",
                )
                .buckets(DURATION_BUCKETS.to_vec()),
                &["plugin", "route"],
            )?,
            faults: IntCounterVec::new(
                Opts::new(
                    "gantry_invocation_faults_total",
                    "Invocations that gave no response, by whose fault it was.",
                ),
                &["plugin", "fault"],
            )?,
            swaps: IntCounterVec::new(
                Opts::new(
                    "gantry_plugin_swaps_total",
                    "How often another deployment became live.",
                ),
                &["plugin"],
            )?,
            holds: IntCounterVec::new(
                Opts::new(
                    "gantry_route_holds_total",
                    "How often calls were kept away from a route that kept crashing: those of a client or of everybody.",
                ),
                &["plugin", "route", "scope"],
            )?,
            kept_away: IntCounterVec::new(
                Opts::new(
                    "gantry_route_kept_away_total",
                    "Requests that were not let through to a route that kept crashing.",
                ),
                &["plugin", "route"],
            )?,
            limited: IntCounterVec::new(
                Opts::new(
                    "gantry_route_limited_total",
                    "Requests beyond a rate limit, by plugin and route: refused (`enforced`), or let through because the \
                     limit only tells (`shadow`).",
                ),
                &["plugin", "route", "mode"],
            )?,
            accounts: Accounts::default(),
            callers: Callers::register(registry)?,
            filter_failures: IntCounterVec::new(
                Opts::new(
                    "gantry_filter_failures_total",
                    "Calls of a filter that failed, whether the request went on or not.",
                ),
                &["filter", "direction"],
            )?,
            filter_duration: HistogramVec::new(
                HistogramOpts::new(
                    "gantry_filter_duration_seconds",
                    "How long a filter took; its count is how often it was called.",
                )
                .buckets(FILTER_BUCKETS.to_vec()),
                &["filter", "direction"],
            )?,
            cache: IntCounterVec::new(
                Opts::new(
                    "gantry_cache_requests_total",
                    "Requests to routes whose answers are kept, by what the cache had to do with the answer.",
                ),
                &["plugin", "route", "result"],
            )?,
        };
        registry.register(Box::new(metrics.cache.clone()))?;
        registry.register(Box::new(metrics.filter_failures.clone()))?;
        registry.register(Box::new(metrics.filter_duration.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.holds.clone()))?;
        registry.register(Box::new(metrics.kept_away.clone()))?;
        registry.register(Box::new(metrics.limited.clone()))?;
        registry.register(Box::new(metrics.accounts.collector()?))?;
        registry.register(Box::new(metrics.faults.clone()))?;
        registry.register(Box::new(metrics.swaps.clone()))?;
        Ok(metrics)
    }

    /// What the calls of all routes have used.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Who still calls routes that are deprecated.
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Handles for one route. Once per deployment.
    pub(super) fn of_route(&self, plugin: &PluginName, route: &str) -> RouteMetrics {
        let account = self.accounts.of_route(plugin, route);
        let plugin = plugin.as_str();
        RouteMetrics {
            account,
            requests: CLASSES.map(|class| self.requests.with_label_values(&[plugin, route, class])),
            duration: self.duration.with_label_values(&[plugin, route]),
            holds: SCOPES.map(|scope| {
                self.holds
                    .with_label_values(&[plugin, route, scope.as_str()])
            }),
            kept_away: self.kept_away.with_label_values(&[plugin, route]),
            limited: MODES.map(|mode| self.limited.with_label_values(&[plugin, route, mode])),
            client_faults: self
                .faults
                .with_label_values(&[plugin, Fault::Client.as_str()]),
            plugin_faults: self
                .faults
                .with_label_values(&[plugin, Fault::Plugin.as_str()]),
            platform_faults: self
                .faults
                .with_label_values(&[plugin, Fault::Platform.as_str()]),
        }
    }

    /// Handles for the cache of one route. Once per deployment.
    pub(super) fn of_cache(&self, plugin: &PluginName, route: &str) -> CacheMetrics {
        let of = |result| {
            self.cache
                .with_label_values(&[plugin.as_str(), route, result])
        };
        CacheMetrics {
            hits: of("hit"),
            shared: of("shared"),
            stale: of("stale"),
            collapsed: of("collapsed"),
            misses: of("miss"),
            bypassed: of("bypass"),
        }
    }

    /// Handles for one filter: a plugin with `plugin:` before its name, or one of the host's own. Once per list of filters.
    pub(super) fn of_filter(&self, filter: &str) -> FilterMetrics {
        let of = |direction: Direction| DirectionMetrics {
            failures: self
                .filter_failures
                .with_label_values(&[filter, direction.as_str()]),
            duration: self
                .filter_duration
                .with_label_values(&[filter, direction.as_str()]),
        };
        FilterMetrics {
            request: of(Direction::Request),
            response: of(Direction::Response),
        }
    }

    /// Where it is booked what a plugin uses as a filter.
    pub(super) fn account_of_filter(
        &self,
        filter: &PluginName,
        direction: Direction,
    ) -> Arc<Account> {
        self.accounts.of_route(filter, filter_route(direction))
    }

    /// Forgets the series of a plugin that has filtered and is gone.
    pub(super) fn remove_filter(&self, plugin: &PluginName) {
        let filter = &*format!("{PLUGIN}{plugin}");
        for direction in [Direction::Request, Direction::Response] {
            let labels = [filter, direction.as_str()];
            let _ = self.filter_failures.remove_label_values(&labels);
            let _ = self.filter_duration.remove_label_values(&labels);
            self.accounts.remove_route(plugin, filter_route(direction));
        }
    }

    pub(super) fn count_swap(&self, plugin: &PluginName) {
        self.swaps.with_label_values(&[plugin.as_str()]).inc();
    }

    /// Forgets the series of a plugin's route that is gone.
    pub(super) fn remove_route(&self, plugin: &PluginName, route: &str) {
        self.accounts.remove_route(plugin, route);
        self.callers.remove_route(plugin, route);
        let plugin = plugin.as_str();
        for class in CLASSES {
            let _ = self.requests.remove_label_values(&[plugin, route, class]);
        }
        let _ = self.duration.remove_label_values(&[plugin, route]);
        for scope in SCOPES {
            let _ = self
                .holds
                .remove_label_values(&[plugin, route, scope.as_str()]);
        }
        let _ = self.kept_away.remove_label_values(&[plugin, route]);
        for mode in MODES {
            let _ = self.limited.remove_label_values(&[plugin, route, mode]);
        }
    }

    /// Forgets the series of a plugin that is gone.
    pub(super) fn remove_plugin(&self, plugin: &PluginName) {
        for fault in [Fault::Client, Fault::Plugin, Fault::Platform] {
            let _ = self
                .faults
                .remove_label_values(&[plugin.as_str(), fault.as_str()]);
        }
        let _ = self.swaps.remove_label_values(&[plugin.as_str()]);
    }
}

/// What stands in the place of a route where a filter's use is booked.
fn filter_route(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "request-filter",
        Direction::Response => "response-filter",
    }
}

/// What is counted for one filter.
#[derive(Debug)]
pub struct FilterMetrics {
    request: DirectionMetrics,
    response: DirectionMetrics,
}

#[derive(Debug)]
struct DirectionMetrics {
    failures: IntCounter,
    duration: Histogram,
}

impl FilterMetrics {
    /// Counts a call.
    pub fn count_call(&self, direction: Direction, duration: Duration) {
        self.of(direction).duration.observe(duration.as_secs_f64());
    }

    /// Counts a call that failed, or could not be made.
    pub fn count_failure(&self, direction: Direction) {
        self.of(direction).failures.inc();
    }

    fn of(&self, direction: Direction) -> &DirectionMetrics {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }
}

/// What is counted for one route.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Where calls book what they use.
    pub account: Arc<Account>,
    requests: [IntCounter; 4],
    duration: Histogram,
    holds: [IntCounter; 2],
    kept_away: IntCounter,
    limited: [IntCounter; 2],
    client_faults: IntCounter,
    plugin_faults: IntCounter,
    platform_faults: IntCounter,
}

/// What the cache of one route counts.
#[derive(Debug)]
pub struct CacheMetrics {
    /// Answers that were there and fresh.
    pub hits: IntCounter,
    /// Answers that another host had had made.
    pub shared: IntCounter,
    /// Answers that were there and not fresh any more.
    pub stale: IntCounter,
    /// Answers that were made for another request.
    pub collapsed: IntCounter,
    /// Answers that were made.
    pub misses: IntCounter,
    /// Requests that are not answered out of the cache.
    pub bypassed: IntCounter,
}

impl RouteMetrics {
    /// Counts an answer.
    pub fn count_request(&self, status: u16, duration: Duration) {
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.requests[class].inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// Counts that calls are kept away from now on.
    pub fn count_hold(&self, scope: Scope) {
        match scope {
            Scope::Client => self.holds[0].inc(),
            Scope::Everybody => self.holds[1].inc(),
        }
    }

    /// Counts a request that was not let through.
    pub fn count_kept_away(&self) {
        self.kept_away.inc();
    }

    /// Counts a request beyond a limit, which was refused, or let through because the limit only tells.
    pub fn count_limited(&self, is_shadow: bool) {
        self.limited[usize::from(is_shadow)].inc();
    }

    /// Counts an invocation that gave no response.
    pub fn count_fault(&self, fault: Fault) {
        match fault {
            Fault::Client => self.client_faults.inc(),
            Fault::Plugin => self.plugin_faults.inc(),
            Fault::Platform => self.platform_faults.inc(),
        }
    }
}
