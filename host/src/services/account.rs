//! What calls have used: an account for each route of each plugin, which the calls of the route are booked on. Counting is
//! adding to atomics that were found when the deployment was loaded.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// What a guest asks for, as the accounts name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Kv,
    /// The standard `wasi:keyvalue`, on the stores of `kv`.
    Keyvalue,
    Cache,
    Blobs,
    Sql,
    Secrets,
    Tokens,
    Config,
    Log,
    /// Requests to other servers.
    Outbound,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Kv,
        Self::Keyvalue,
        Self::Cache,
        Self::Blobs,
        Self::Sql,
        Self::Secrets,
        Self::Tokens,
        Self::Config,
        Self::Log,
        Self::Outbound,
    ];

    /// The word for it in metrics and in the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Keyvalue => "keyvalue",
            Self::Cache => "cache",
            Self::Blobs => "blobs",
            Self::Sql => "sql",
            Self::Secrets => "secrets",
            Self::Tokens => "tokens",
            Self::Config => "config",
            Self::Log => "log",
            Self::Outbound => "outbound",
        }
    }
}

/// Sums of what calls have used. Each call has one of its own, which is added to the one of its route when everything
/// that was done for the call is over.
#[derive(Debug, Default)]
pub struct Account {
    calls: AtomicU64,
    cpu_ns: AtomicU64,
    memory_peak_bytes: AtomicU64,
    rows_read: AtomicU64,
    rows_written: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
    services: [HostCalls; Service::ALL.len()],
}

#[derive(Debug, Default)]
struct HostCalls {
    calls: AtomicU64,
    ns: AtomicU64,
}

/// What stands on an account at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls into the plugin that are over.
    pub calls: u64,
    /// Guest code and the host's work for it, statements included, without waiting.
    pub cpu: Duration,
    /// Most memory that one call has held.
    pub memory_peak_bytes: u64,
    /// Rows that SQL statements have returned.
    pub rows_read: u64,
    /// Rows that SQL statements have changed.
    pub rows_written: u64,
    /// To other servers, headers included.
    pub bytes_sent: u64,
    /// From other servers, headers included.
    pub bytes_received: u64,
    /// Only services that were called.
    pub services: Vec<ServiceTotals>,
}

/// What was asked of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTotals {
    pub service: Service,
    pub calls: u64,
    /// Until the answers were there, waiting included.
    pub time: Duration,
}

impl Account {
    /// What stands on it now.
    pub fn totals(&self) -> Totals {
        let services = Service::ALL.iter().zip(&self.services);
        let services = services.filter_map(|(service, sums)| {
            let calls = sums.calls.load(Relaxed);
            (calls > 0).then(|| ServiceTotals {
                service: *service,
                calls,
                time: Duration::from_nanos(sums.ns.load(Relaxed)),
            })
        });
        Totals {
            calls: self.calls.load(Relaxed),
            cpu: Duration::from_nanos(self.cpu_ns.load(Relaxed)),
            memory_peak_bytes: self.memory_peak_bytes.load(Relaxed),
            rows_read: self.rows_read.load(Relaxed),
            rows_written: self.rows_written.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            services: services.collect(),
        }
    }

    /// Processor time so far, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Relaxed)
    }

    pub(super) fn add_cpu(&self, ns: u64) {
        self.cpu_ns.fetch_add(ns, Relaxed);
    }

    pub(super) fn note_memory(&self, bytes: u64) {
        self.memory_peak_bytes.fetch_max(bytes, Relaxed);
    }

    pub(super) fn add_rows(&self, read: u64, written: u64) {
        add(&self.rows_read, read);
        add(&self.rows_written, written);
    }

    pub(super) fn add_bytes(&self, sent: u64, received: u64) {
        add(&self.bytes_sent, sent);
        add(&self.bytes_received, received);
    }

    pub(super) fn add_host_calls(&self, service: Service, calls: u64, ns: u64) {
        let sums = &self.services[service as usize];
        add(&sums.calls, calls);
        add(&sums.ns, ns);
    }

    /// Books a call that is over.
    pub(super) fn book(&self, call: &Self) {
        self.calls.fetch_add(1, Relaxed);
        self.cpu_ns.fetch_add(call.cpu_ns(), Relaxed);
        self.note_memory(call.memory_peak_bytes.load(Relaxed));
        self.add_rows(
            call.rows_read.load(Relaxed),
            call.rows_written.load(Relaxed),
        );
        self.add_bytes(
            call.bytes_sent.load(Relaxed),
            call.bytes_received.load(Relaxed),
        );
        for (service, sums) in Service::ALL.iter().zip(&call.services) {
            let calls = sums.calls.load(Relaxed);
            if calls > 0 {
                self.add_host_calls(*service, calls, sums.ns.load(Relaxed));
            }
        }
    }
}

impl Totals {
    /// Both together; of peaks the higher one.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.calls += other.calls;
        self.cpu += other.cpu;
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.rows_read += other.rows_read;
        self.rows_written += other.rows_written;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        for more in &other.services {
            let same = |sums: &&mut ServiceTotals| sums.service == more.service;
            match self.services.iter_mut().find(same) {
                Some(sums) => {
                    sums.calls += more.calls;
                    sums.time += more.time;
                }
                None => self.services.push(more.clone()),
            }
        }
        self
    }
}

/// Most sums are zero in most calls; what is not written needs no cache line.
fn add(sum: &AtomicU64, more: u64) {
    if more > 0 {
        sum.fetch_add(more, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_stand_in_their_own_places() {
        for (index, service) in Service::ALL.iter().enumerate() {
            assert_eq!(*service as usize, index, "{service:?}");
        }
    }

    #[test]
    fn two_routes_add_up_and_a_peak_stays_a_peak() {
        let (first, second) = (Account::default(), Account::default());
        for (account, memory) in [(&first, 10), (&second, 30)] {
            let call = Account::default();
            call.add_cpu(5);
            call.note_memory(memory);
            call.add_rows(2, 1);
            call.add_bytes(100, 200);
            call.add_host_calls(Service::Sql, 1, 7);
            account.book(&call);
        }
        let both = first.totals().plus(&second.totals());
        assert_eq!(both.calls, 2);
        assert_eq!(both.cpu, Duration::from_nanos(10));
        assert_eq!(both.memory_peak_bytes, 30);
        assert_eq!((both.rows_read, both.rows_written), (4, 2));
        assert_eq!((both.bytes_sent, both.bytes_received), (200, 400));
        let sql = ServiceTotals {
            service: Service::Sql,
            calls: 2,
            time: Duration::from_nanos(14),
        };
        assert_eq!(both.services, [sql]);
    }
}
