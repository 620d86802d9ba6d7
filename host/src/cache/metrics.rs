//! What is in the cache now, by plugin, for `/metrics`.

use prometheus::{
    IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::cache::Cache;

struct Contents {
    cache: Cache,
    bytes: IntGaugeVec,
    entries: IntGaugeVec,
    evictions: IntCounterVec,
}

/// Registers the families. Fails if they are registered already.
pub fn register(registry: &Registry, cache: &Cache) -> prometheus::Result<()> {
    let contents = Contents {
        cache: cache.clone(),
        bytes: IntGaugeVec::new(
            Opts::new(
                "gantry_cache_bytes",
                "Bytes that are kept in memory, by plugin.",
            ),
            &["plugin"],
        )?,
        entries: IntGaugeVec::new(
            Opts::new(
                "gantry_cache_entries",
                "Answers and values that are kept in memory, by plugin.",
            ),
            &["plugin"],
        )?,
        evictions: IntCounterVec::new(
            Opts::new(
                "gantry_cache_evictions_total",
                "Entries that went because there was no more room, by plugin.",
            ),
            &["plugin"],
        )?,
    };
    registry.register(Box::new(contents))
}

impl Collector for Contents {
    fn desc(&self) -> Vec<&Desc> {
        let families: [&dyn Collector; 3] = [&self.bytes, &self.entries, &self.evictions];
        families.into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Plugins that are gone are not told any more.
        self.bytes.reset();
        self.entries.reset();
        self.evictions.reset();
        for figures in self.cache.figures() {
            let plugin = [figures.plugin.as_str()];
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let of =
                |family: &IntGaugeVec, count| family.with_label_values(&plugin).set(number(count));
            of(&self.bytes, figures.bytes);
            of(&self.entries, figures.entries);
            let evictions = self.evictions.with_label_values(&plugin);
            evictions.inc_by(figures.evictions);
        }
        let families: [&dyn Collector; 3] = [&self.bytes, &self.entries, &self.evictions];
        families.into_iter().flat_map(Collector::collect).collect()
    }
}
