//! What a request must know of the `cache` of its route, computed when the table is made.

use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

use crate::cache::{Cache, Part};
use crate::ids::PluginName;
use crate::plugins::manifest::{self, Auth, RouteCache};
use crate::plugins::metrics::CacheMetrics;
use crate::plugins::store::LiveRow;

/// A route whose answers are kept.
#[derive(Debug)]
pub struct Cached {
    /// As the manifest has it.
    pub rule: RouteCache,
    /// Whether each caller has answers of their own.
    pub is_by_caller: bool,
    pub metrics: CacheMetrics,
    /// The digest of all that is the same for all requests to the route, to be continued with what is not.
    seed: Sha256,
    plugin: PluginName,
    part: OnceLock<Arc<Part>>,
}

impl Cached {
    /// The `cache` of a route. Answers are kept apart from those of every other deployment, and of the same one with
    /// other settings or grants or on another mount.
    pub(super) fn new(
        row: &LiveRow,
        route: &manifest::Route,
        rule: &RouteCache,
        metrics: CacheMetrics,
    ) -> Self {
        let mut seed = Sha256::new();
        let settings = serde_json::to_string(&row.config).unwrap_or_default();
        let deployment = row.deployment.to_string();
        for part in [
            "answer 2",
            row.plugin.as_str(),
            &deployment,
            &settings,
            &row.mount.to_string(),
            &route.path,
            route.version.as_deref().unwrap_or_default(),
        ] {
            add(&mut seed, part.as_bytes());
        }
        seed.update((row.grants.iter().count() as u64).to_le_bytes());
        for grant in row.grants.iter() {
            add(&mut seed, grant.to_string().as_bytes());
        }
        Self {
            is_by_caller: route.auth != Auth::Public && !rule.is_shared,
            rule: rule.clone(),
            metrics,
            seed,
            plugin: row.plugin.clone(),
            part: OnceLock::new(),
        }
    }

    /// A digest that begins with all that is the same for all requests to the route.
    pub fn digest(&self) -> Sha256 {
        self.seed.clone()
    }

    /// Whose answers these are.
    pub fn plugin(&self) -> &PluginName {
        &self.plugin
    }

    /// Where the answers are. Looked up once.
    pub fn part(&self, cache: &Cache) -> &Arc<Part> {
        self.part.get_or_init(|| cache.part(&self.plugin))
    }
}

/// Continues a digest, so that where one piece ends and the next begins is part of it.
pub fn add(digest: &mut Sha256, piece: &[u8]) {
    digest.update((piece.len() as u64).to_le_bytes());
    digest.update(piece);
}
