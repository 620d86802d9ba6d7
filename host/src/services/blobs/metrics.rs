//! What is counted of files and of the store behind them.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

/// Seconds. A folder takes milliseconds, a server of objects some ten.
const BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// What is asked of the store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Put,
    Get,
    List,
    Delete,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Put, Self::Get, Self::List, Self::Delete];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Handles that an operation only adds to.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    done: [IntCounter; Operation::ALL.len()],
    failed: [IntCounter; Operation::ALL.len()],
    duration: [Histogram; Operation::ALL.len()],
    pub(super) bytes_taken: IntCounter,
    pub(super) bytes_given: IntCounter,
    /// Uploads that a request or a call is sending now.
    pub(super) in_progress: IntGauge,
    pub(super) expired: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "gantry_blobs_store_requests_total",
                "Requests to the store of files, by what was asked and what came of it.",
            ),
            &["operation", "outcome"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "gantry_blobs_store_request_duration_seconds",
                "How long requests to the store of files took, with what was tried again.",
            )
            .buckets(BUCKETS.to_vec()),
            &["operation"],
        )?;
        let bytes = IntCounterVec::new(
            Opts::new(
                "gantry_blobs_bytes_total",
                "Bytes of files that were taken and given out.",
            ),
            &["direction"],
        )?;
        let in_progress = IntGauge::new(
            "gantry_blobs_uploads_in_progress",
            "Uploads of files that are being sent.",
        )?;
        let expired = IntCounter::new(
            "gantry_blobs_uploads_expired_total",
            "Uploads of files that were given up because nobody added to them.",
        )?;
        let of = |operation: Operation, outcome| {
            requests.with_label_values(&[operation.as_str(), outcome])
        };
        let metrics = Self {
            done: Operation::ALL.map(|operation| of(operation, "done")),
            failed: Operation::ALL.map(|operation| of(operation, "failed")),
            duration: Operation::ALL
                .map(|operation| duration.with_label_values(&[operation.as_str()])),
            bytes_taken: bytes.with_label_values(&["in"]),
            bytes_given: bytes.with_label_values(&["out"]),
            in_progress: in_progress.clone(),
            expired: expired.clone(),
        };
        registry.register(Box::new(requests))?;
        registry.register(Box::new(duration))?;
        registry.register(Box::new(bytes))?;
        registry.register(Box::new(in_progress))?;
        registry.register(Box::new(expired))?;
        Ok(metrics)
    }

    pub(super) fn count(&self, operation: Operation, is_done: bool) {
        let counters = if is_done { &self.done } else { &self.failed };
        counters[operation as usize].inc();
    }

    pub(super) fn observe(&self, operation: Operation, took: Duration) {
        self.duration[operation as usize].observe(took.as_secs_f64());
    }
}
