//! Metrics of the process as a whole.

use std::sync::Arc;

use crate::runtime::Runtime;

/// Registers them; what changes all the time is read when somebody asks.
pub(super) fn register_process_metrics(
    metrics: &prometheus::Registry,
    runtime: &Arc<Runtime>,
) -> anyhow::Result<()> {
    use prometheus::{
        IntCounter, IntGauge,
        core::{Collector, Desc},
        proto::MetricFamily,
    };
    struct InProgress(Arc<Runtime>, IntGauge);
    impl Collector for InProgress {
        fn desc(&self) -> Vec<&Desc> {
            self.1.desc()
        }
        fn collect(&self) -> Vec<MetricFamily> {
            self.1.set(self.0.calls_in_progress().into());
            self.1.collect()
        }
    }
    struct Instances(Arc<Runtime>, IntGauge);
    impl Collector for Instances {
        fn desc(&self) -> Vec<&Desc> {
            self.1.desc()
        }
        fn collect(&self) -> Vec<MetricFamily> {
            let instances = self.0.core_instances();
            self.1.set(i64::try_from(instances).unwrap_or(i64::MAX));
            self.1.collect()
        }
    }
    struct Reused(Arc<Runtime>, IntCounter);
    impl Collector for Reused {
        fn desc(&self) -> Vec<&Desc> {
            self.1.desc()
        }
        fn collect(&self) -> Vec<MetricFamily> {
            self.1.reset();
            self.1.inc_by(self.0.instances_reused());
            self.1.collect()
        }
    }
    let gauge = IntGauge::new(
        "gantry_invocations_in_progress",
        "Calls into plugins that are in progress.",
    )?;
    metrics.register(Box::new(InProgress(Arc::clone(runtime), gauge)))?;
    let instances = IntGauge::new(
        "gantry_core_instances",
        "WebAssembly instances, of calls in progress and kept for the next ones; a component has several.",
    )?;
    metrics.register(Box::new(Instances(Arc::clone(runtime), instances)))?;
    let reused = IntCounter::new(
        "gantry_instances_reused_total",
        "Calls into plugins that found an instance which had put itself back.",
    )?;
    metrics.register(Box::new(Reused(Arc::clone(runtime), reused)))?;
    let process = prometheus::process_collector::ProcessCollector::for_self();
    metrics.register(Box::new(process))?;
    Ok(())
}
