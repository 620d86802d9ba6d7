//! The accounts of all routes: found when a deployment is loaded, read by those who ask what plugins use.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{
    CounterVec, IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::ids::PluginName;
use crate::services::{Account, Totals};

/// What the calls of each route have used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    book: Mutex<Book>,
    since: jiff::Timestamp,
}

#[derive(Debug, Default)]
struct Book {
    accounts: BTreeMap<Key, Arc<Account>>,
    /// How many were left when it was last looked for those that nobody needs.
    looked_len: usize,
}

/// Fewer accounts than this are not worth a look.
const LOOK_MIN: usize = 256;

type Key = (PluginName, Arc<str>);

impl Default for Accounts {
    fn default() -> Self {
        Self(Arc::new(Inner {
            book: Mutex::default(),
            since: jiff::Timestamp::now(),
        }))
    }
}

impl Accounts {
    /// Since when everything is counted.
    pub fn since(&self) -> jiff::Timestamp {
        self.0.since
    }

    /// Route by route what a plugin has used.
    pub fn of_plugin(&self, plugin: &PluginName) -> Vec<(Arc<str>, Totals)> {
        let book = self.lock();
        let own = book.accounts.range((plugin.clone(), "".into())..);
        let own = own.take_while(|((name, _), _)| name == plugin);
        own.map(|((_, route), account)| (Arc::clone(route), account.totals()))
            .collect()
    }

    /// The account of a route. Deployments that follow one another go on with the same.
    pub(super) fn of_route(&self, plugin: &PluginName, route: &str) -> Arc<Account> {
        let Book {
            accounts,
            looked_len,
        } = &mut *self.lock();
        // Only when there are twice as many: looking at all for each would make a start as slow as the square of their
        // number.
        if accounts.len() > 2 * (*looked_len).max(LOOK_MIN) {
            // What was made for a deployment that did not become live.
            accounts
                .retain(|_, account| Arc::strong_count(account) > 1 || account.totals().calls > 0);
            *looked_len = accounts.len();
        }
        let key = (plugin.clone(), route.into());
        Arc::clone(accounts.entry(key).or_default())
    }

    pub(super) fn remove_route(&self, plugin: &PluginName, route: &str) {
        let key = (plugin.clone(), route.into());
        self.lock().accounts.remove(&key);
    }

    /// For `/metrics`. The label of the service is one of a handful; the others come from manifests.
    pub(super) fn collector(&self) -> prometheus::Result<impl Collector + use<>> {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let of_route = ["plugin", "route"];
        let of_service = ["plugin", "route", "service"];
        let of_direction = ["plugin", "route", "direction"];
        Ok(Families {
            accounts: self.clone(),
            turn: Mutex::default(),
            cpu: CounterVec::new(
                opts(
                    "gantry_invocation_cpu_seconds_total",
                    "Processor time of plugins and of the host's work for them, statements included, without waiting.",
                ),
                &of_route,
            )?,
            memory: IntGaugeVec::new(
                opts(
                    "gantry_invocation_memory_peak_bytes",
                    "Most memory that one invocation of the route has held.",
                ),
                &of_route,
            )?,
            host_calls: IntCounterVec::new(
                opts("gantry_host_calls_total", "Calls of services by plugins."),
                &of_service,
            )?,
            host_call_time: CounterVec::new(
                opts(
                    "gantry_host_call_seconds_total",
                    "Time until services had answered plugins, waiting included.",
                ),
                &of_service,
            )?,
            rows: IntCounterVec::new(
                opts(
                    "gantry_sql_rows_total",
                    "Rows that SQL statements of plugins have returned (`read`) and changed (`written`).",
                ),
                &of_direction,
            )?,
            egress: IntCounterVec::new(
                opts(
                    "gantry_egress_bytes_total",
                    "Bytes that plugins have sent to other servers and received from them, headers included.",
                ),
                &of_direction,
            )?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The families, filled anew each time somebody asks: a request only adds to its account.
struct Families {
    accounts: Accounts,
    turn: Mutex<()>,
    cpu: CounterVec,
    memory: IntGaugeVec,
    host_calls: IntCounterVec,
    host_call_time: CounterVec,
    rows: IntCounterVec,
    egress: IntCounterVec,
}

impl Families {
    fn all(&self) -> [&dyn Collector; 6] {
        [
            &self.cpu,
            &self.memory,
            &self.host_calls,
            &self.host_call_time,
            &self.rows,
            &self.egress,
        ]
    }

    fn fill(&self, plugin: &str, route: &str, totals: &Totals) {
        let own = [plugin, route];
        self.cpu
            .with_label_values(&own)
            .inc_by(totals.cpu.as_secs_f64());
        let peak = i64::try_from(totals.memory_peak_bytes).unwrap_or(i64::MAX);
        self.memory.with_label_values(&own).set(peak);
        for sums in &totals.services {
            let labels = [plugin, route, sums.service.as_str()];
            self.host_calls
                .with_label_values(&labels)
                .inc_by(sums.calls);
            self.host_call_time
                .with_label_values(&labels)
                .inc_by(sums.time.as_secs_f64());
        }
        let sums = [
            (&self.rows, "read", totals.rows_read),
            (&self.rows, "written", totals.rows_written),
            (&self.egress, "sent", totals.bytes_sent),
            (&self.egress, "received", totals.bytes_received),
        ];
        for (family, direction, sum) in sums {
            if sum > 0 {
                family
                    .with_label_values(&[plugin, route, direction])
                    .inc_by(sum);
            }
        }
    }
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.cpu.reset();
        self.memory.reset();
        self.host_calls.reset();
        self.host_call_time.reset();
        self.rows.reset();
        self.egress.reset();
        for ((plugin, route), account) in &self.accounts.lock().accounts {
            self.fill(plugin.as_str(), route, &account.totals());
        }
        self.all()
            .into_iter()
            .flat_map(Collector::collect)
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_of_what_never_became_live_go_before_there_are_many() {
        let accounts = Accounts::default();
        let live = accounts.of_route(&"live".parse().unwrap(), "/");
        for number in 0..10 * LOOK_MIN {
            let plugin = format!("p{number}").parse().unwrap();
            drop(accounts.of_route(&plugin, "/"));
        }
        let left = accounts.lock().accounts.len();
        assert!(left <= 2 * LOOK_MIN + 1, "{left}");
        let again = accounts.of_route(&"live".parse().unwrap(), "/");
        assert!(Arc::ptr_eq(&live, &again), "one that is used stays");
    }
}
