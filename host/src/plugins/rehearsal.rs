//! The tests that an author wrote into the manifest, run before a deployment becomes live. Where and how they are run is
//! decided above: the stage is a host of its own, with everything real.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Label, PluginName};
use crate::plugins::manifest::{Manifest, TestCase};
use crate::plugins::{DeployError, Plugins, Tests, bundle};

/// Runs tests. Handed over by `app`, which alone can put a host together.
pub type Stage = Arc<dyn Fn(Play) -> Performance + Send + Sync>;
/// A run in progress.
pub type Performance = Pin<Box<dyn Future<Output = anyhow::Result<Report>> + Send>>;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Play {
    /// The bundle, as it was uploaded.
    pub bundle: Bytes,
    pub plugin: PluginName,
    pub tests: Vec<TestCase>,
    /// The plugin's databases with the steps of their schemas: each run begins with empty ones.
    pub databases: Vec<(Label, Vec<bundle::Migration>)>,
    /// Whether every call of a service is made to fail once, too, in runs of their own.
    pub with_failures: bool,
    /// Longest time for all tests together, once the host for them is there.
    pub time_max: Duration,
}

/// How the tests of a plugin went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// In the order of the manifest.
    pub tests: Vec<TestReport>,
    pub took_ms: u64,
}

/// How one test went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TestReport {
    pub name: String,
    /// What was not as expected; nothing if it passed.
    pub mistakes: Vec<String>,
    /// What the plugin logged during the request that was not answered as expected.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub log: Vec<String>,
    /// Calls of services that the plugin made.
    pub calls: usize,
    /// How often one of them was made to fail.
    pub failures: usize,
    pub took_ms: u64,
}

impl Play {
    /// The tests of this manifest, without failures made on purpose.
    pub fn of(bundle: &Bytes, manifest: &Manifest, migrations: &[bundle::Migration]) -> Self {
        let steps_of = |label: &Label| {
            let own = migrations.iter().filter(|step| step.label == *label);
            own.cloned().collect()
        };
        let databases = manifest.capabilities.sql.iter();
        Self {
            bundle: bundle.clone(),
            plugin: manifest.plugin.name.clone(),
            tests: manifest.tests.clone(),
            databases: databases
                .map(|database| (database.label.clone(), steps_of(&database.label)))
                .collect(),
            with_failures: false,
            time_max: Duration::ZERO,
        }
    }
}

impl Report {
    /// Whether every test passed.
    pub fn is_passed(&self) -> bool {
        self.tests.iter().all(|test| test.mistakes.is_empty())
    }

    /// `2 of 7 tests failed`
    pub fn summary(&self) -> String {
        let count = self.tests.len();
        let failed = self.tests.iter().filter(|test| !test.mistakes.is_empty());
        let tests = if count == 1 { "test" } else { "tests" };
        match failed.count() {
            0 => format!("{count} {tests} passed"),
            failed => format!("{failed} of {count} {tests} failed"),
        }
    }
}

impl Plugins {
    /// With a place where tests can be run.
    #[must_use]
    pub fn rehearsed_by(mut self, stage: Stage) -> Self {
        self.stage = Some(stage);
        self
    }

    /// The step of a deployment: runs the tests, and refuses what fails them if the operator wants it so.
    pub(super) async fn rehearse(&self, mut play: Play) -> Result<Option<Report>, DeployError> {
        let (Some(stage), false) = (&self.stage, play.tests.is_empty()) else {
            return Ok(None);
        };
        if self.config.tests == Tests::Off {
            return Ok(None);
        }
        play.time_max = Duration::from_millis(self.config.tests_ms_max);
        let report = stage(play).await.map_err(DeployError::Host)?;
        if self.config.tests == Tests::Required && !report.is_passed() {
            return Err(DeployError::Tests(report));
        }
        Ok(Some(report))
    }
}
