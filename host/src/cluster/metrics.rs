//! What is counted of the shared server.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Seconds. A command takes a fraction of a millisecond in one network.
const BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
];

/// Handles that a command only adds to.
#[derive(Debug, Clone)]
pub(super) struct Metrics {
    pub(super) is_reachable: IntGauge,
    pub(super) connections: IntCounter,
    pub(super) answered: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) timed_out: IntCounter,
    pub(super) unreachable: IntCounter,
    pub(super) busy: IntCounter,
    duration: Histogram,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let commands = IntCounterVec::new(
            Opts::new(
                "gantry_cluster_commands_total",
                "Commands to the shared server, by what came of them.",
            ),
            &["outcome"],
        )?;
        let metrics = Self {
            is_reachable: IntGauge::new(
                "gantry_cluster_reachable",
                "Whether the shared server can be reached: 1 or 0.",
            )?,
            connections: IntCounter::new(
                "gantry_cluster_connections_total",
                "Connections made to the shared server, the first one included.",
            )?,
            answered: commands.with_label_values(&["answered"]),
            refused: commands.with_label_values(&["refused"]),
            timed_out: commands.with_label_values(&["timed_out"]),
            unreachable: commands.with_label_values(&["unreachable"]),
            busy: commands.with_label_values(&["busy"]),
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "gantry_cluster_command_duration_seconds",
                    "How long commands to the shared server took that were answered.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
        };
        registry.register(Box::new(commands))?;
        registry.register(Box::new(metrics.is_reachable.clone()))?;
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        Ok(metrics)
    }

    pub(super) fn answered(&self, took: Duration) {
        self.answered.inc();
        self.duration.observe(took.as_secs_f64());
    }
}
