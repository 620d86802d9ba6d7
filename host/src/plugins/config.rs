//! The settings of uploads and of what plugins get.

use serde::{Deserialize, Serialize};

use crate::plugins::Promises;
use crate::plugins::cors::OperatorCors;
use crate::plugins::filters::OperatorFilter;
use crate::plugins::limits::LimitOverride;
use crate::plugins::validate::Ceilings;
use crate::plugins::{breaker, bundle, rollout, store, trust, versions};

/// Uploads, and what plugins get.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether several hosts use the rows; follows from `db.shared`.
    #[serde(skip)]
    pub(crate) is_for_several_hosts: bool,
    /// Whether files are in a folder of this host; follows from `blobs.store`.
    #[serde(skip)]
    pub(crate) files_are_in_a_folder: bool,
    /// What it means that a `[[test]]` of a plugin fails when it is deployed: `required` (it is not deployed), `warn` or
    /// `off` (nobody looks). Default: `required`.
    pub tests: Tests,
    /// Longest time that all tests of a plugin may take when it is deployed. Default: 60000.
    pub tests_ms_max: u64,
    /// What happens to plugins that no trusted key has signed: `off` (nobody asks), `warn` or `required`. Default: off.
    pub signatures: trust::Policy,
    /// Keys that may sign plugins.
    pub trust: trust::Config,
    /// What stands before and behind the routes of plugins, outermost first, around what their manifests name. Each is
    /// `{ use = "plugin:NAME", on_failure = "closed" }` or one of the host's own, `{ use = "security-headers" }`, and may
    /// be bound to a `host` and a `mount`. Default: none.
    pub filters: Vec<OperatorFilter>,
    /// Pages of which other origins may call plugins, in the place of what their manifests say: one entry for each `plugin`, and
    /// one without it for all others. With an entry whose `origins` are empty, no pages may. Default: as manifests say.
    pub cors: Vec<OperatorCors>,
    /// What is made of the rate limits that manifests declare: each entry names a `plugin`, perhaps a `route`, and the
    /// `name` of a limit, and gives other values for `limit`, `window_ms`, `burst`, `key`, `algorithm`, `cost`, `shadow` or
    /// `fail`; or takes it away (`off`), or gives it to routes without it (`add`). Default: none.
    pub limits: Vec<LimitOverride>,
    /// Most plugins that are loaded at the same time when the host starts. Default: 8.
    pub loads_max: usize,
    /// How large an upload may be.
    pub bundle: bundle::Config,
    /// The most that any plugin may ask for.
    pub ceilings: Ceilings,
    /// What a plugin gets that does not ask.
    pub defaults: Defaults,
    /// How much history is kept.
    pub history: store::Config,
    /// How new versions are brought on.
    pub rollout: rollout::Config,
    /// When calls are kept away from a route that keeps crashing.
    pub breaker: breaker::Config,
    /// What becomes of a version that does not keep what the live one promises to its callers: `required` (it is refused,
    /// unless whoever brings it says that it may break them), `warn` or `off` (nobody looks). Default: `required`.
    pub promises: Promises,
    /// Whether a request can ask for an answer that the host makes up in the plugin's place (`Prefer: mock`). For
    /// development: such answers look real. Default: false.
    pub mocks_by_header: bool,
    /// What becomes of old versions of APIs.
    pub versions: versions::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            is_for_several_hosts: false,
            files_are_in_a_folder: false,
            signatures: trust::Policy::default(),
            trust: trust::Config::default(),
            tests: Tests::default(),
            tests_ms_max: 60_000,
            filters: Vec::new(),
            cors: Vec::new(),
            limits: Vec::new(),
            loads_max: 8,
            bundle: bundle::Config::default(),
            ceilings: Ceilings::default(),
            defaults: Defaults::default(),
            history: store::Config::default(),
            rollout: rollout::Config::default(),
            breaker: breaker::Config::default(),
            promises: Promises::default(),
            mocks_by_header: false,
            versions: versions::Config::default(),
        }
    }
}

/// What it means for a deployment that a test fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tests {
    /// The plugin is not deployed.
    #[default]
    Required,
    /// The plugin is deployed, and whoever deploys it is told.
    Warn,
    /// Tests are not run.
    Off,
}

/// The limits of a plugin that does not set its own.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// All linear memories and tables of one instance together. Default: 64 MiB.
    pub memory_bytes_max: u64,
    /// Processor time of one invocation. Default: 500.
    pub cpu_ms: u64,
    /// Time of one invocation. Default: 10000.
    pub wall_ms: u64,
    /// Invocations at once. Default: 64.
    pub concurrency_max: u32,
    /// Invocations that wait for a place; this one a manifest cannot set. Default: 256.
    pub queue_max: u32,
    /// Bytes that one invocation may write to the log. Default: 64 KiB.
    pub log_bytes_max: u64,
    /// The body of one request. Default: 10 MiB.
    pub body_bytes_max: u64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            cpu_ms: 500,
            wall_ms: 10_000,
            concurrency_max: 64,
            queue_max: 256,
            log_bytes_max: 64 << 10,
            body_bytes_max: 10 << 20,
        }
    }
}
