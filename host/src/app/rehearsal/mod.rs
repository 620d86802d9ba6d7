//! The stage on which the tests of a manifest are run: a whole host in this process, with rows and files in a temporary
//! folder, that listens on an address of its own and is gone afterwards. Nothing in it is imitated but the time, the random
//! numbers and the servers outside.

mod answer;
mod cast;
mod live;
mod run;

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use tracing::subscriber::NoSubscriber;

use crate::app::{App, NativeRoutes};
use crate::auth;
use crate::clock::Clock;
use crate::config::{Config, ServicesConfig};
use crate::gateway;
use crate::gateway::access_log::Target;
use crate::limits;
use crate::plugins::manifest::TestCase;
use crate::plugins::rehearsal::{Play, Report, Stage, TestReport};
use crate::plugins::{self, DeployError, GrantMode, Tests, Upload, trust};
use crate::runtime;
use crate::services::blobs;
use crate::services::rehearsal::{Rehearsal, failures_of};

use run::Runner;

pub use live::serve;

/// Most mistakes that are told of one test.
const MISTAKES_MAX: usize = 20;
/// Calls into the plugin at the same time. Tests make one after the other.
const CONCURRENCY_MAX: u32 = 4;

/// What makes a host a stage.
pub(super) struct Setting {
    pub(super) rehearsal: Arc<Rehearsal>,
    /// Machine code that is there already; nothing for a cache of its own.
    pub(super) cache: Option<Cache>,
}

/// The folder in a host's data directory in which its stages are set up. Whatever is in it at a start is left over.
pub(super) const FOLDER: &str = "rehearsals";

/// What a host that serves shares with its stages: where machine code is kept, and what proves that the host wrote it.
#[derive(Clone)]
pub(super) struct Cache {
    /// Where stages are set up.
    pub(super) stages: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) key: [u8; 32],
}

/// The stage of a host that serves: it uses the same settings for what plugins may do, and the same machine code.
pub(super) fn stage(config: Config, cache: Cache) -> Stage {
    let config = Arc::new(config);
    // One at a time: each is a host.
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    Arc::new(move |play| {
        let (config, cache, turn) = (Arc::clone(&config), cache.clone(), Arc::clone(&turn));
        Box::pin(async move {
            let _turn = turn.lock().await;
            perform(config, Some(cache), play).await
        })
    })
}

/// Runs the tests of a plugin where no host is running, as `gantry plugin test` does.
pub async fn rehearse(config: Config, play: Play) -> anyhow::Result<Report> {
    perform(Arc::new(config), None, play).await
}

/// On a thread of its own: what happens there is no news for the log of this host, and takes no time from its threads.
async fn perform(config: Arc<Config>, cache: Option<Cache>, play: Play) -> anyhow::Result<Report> {
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let silence = NoSubscriber::new();
        tracing::subscriber::with_default(silence, || {
            runtime.block_on(Box::pin(open(&config, cache, &play)))
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .context("the tests ended with a panic")?
}

async fn open(config: &Config, cache: Option<Cache>, play: &Play) -> anyhow::Result<Report> {
    let began = Instant::now();
    let Some(first) = play.tests.first() else {
        return Ok(Report::default());
    };
    let stand = Stand::build(config, cache, first).await?;
    let report = match stand.deploy(play, first).await {
        Ok(()) => run_all(&stand.app, &stand.rehearsal, play).await,
        Err(error) => Ok(not_deployed(play, &error)),
    };
    stand.clear().await;
    let mut report = report?;
    report.took_ms = ms_since(began);
    Ok(report)
}

/// A host for tests, and the folder in which everything of it is.
struct Stand {
    app: App,
    rehearsal: Arc<Rehearsal>,
    _folder: tempfile::TempDir,
}

impl Stand {
    async fn build(
        config: &Config,
        cache: Option<Cache>,
        first: &TestCase,
    ) -> anyhow::Result<Self> {
        let mut folder = tempfile::Builder::new();
        folder.prefix("gantry-test-");
        let folder = match &cache {
            Some(cache) => std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&cache.stages)
                .and_then(|()| folder.tempdir_in(&cache.stages)),
            None => folder.tempdir(),
        };
        let folder = folder.context("cannot make a temporary folder for the tests")?;
        let rehearsal = Arc::new(Rehearsal::new(Clock::manual(first.at_ms)));
        let setting = Setting {
            rehearsal: Arc::clone(&rehearsal),
            cache,
        };
        let config = config_of(config, folder.path());
        let app = App::assemble(config, NativeRoutes::default(), Some(setting));
        let app = Box::pin(app).await;
        Ok(Self {
            app: app.context("cannot start a host for the tests")?,
            rehearsal,
            _folder: folder,
        })
    }

    /// Puts the plugin on the host, with everything it asks for.
    async fn deploy(&self, play: &Play, first: &TestCase) -> Result<(), DeployError> {
        let upload = Upload {
            bytes: play.bundle.clone(),
            name: None,
            mount: None,
            is_nested_accepted: false,
            grant: GrantMode::AllAsked,
            canary: None,
            source: None,
            allows_downgrade: true,
            allows_breaking: true,
            config: Some(first.config.clone()),
            by: "test".to_owned(),
            note: None,
        };
        self.app.plugins.deploy(upload).await.map(drop)
    }

    async fn clear(self) {
        self.app.stop().await;
    }
}

/// What decides about plugins is as the operator set it; everything else is small, private and gone afterwards.
fn config_of(config: &Config, folder: &Path) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: folder.to_owned(),
        access_log: Target::Off,
        services: ServicesConfig::clone(&config.services),
        auth: auth::Config {
            hash_apart: config.auth.hash_apart,
            hash_program: config.auth.hash_program.clone(),
            ..auth::Config::default()
        },
        blobs: blobs::Config {
            store: blobs::StoreKind::Folder,
            ..config.blobs.clone()
        },
        runtime: runtime::Config {
            concurrency_max: CONCURRENCY_MAX,
            ..config.runtime.clone()
        },
        plugins: plugins::Config {
            tests: Tests::Off,
            // Who signed it was asked before it came here.
            signatures: trust::Policy::Off,
            // An author's tests are about the plugin, wherever it will hang.
            filters: Vec::new(),
            ..config.plugins.clone()
        },
        limits: limits::Config {
            store: limits::Store::Process,
            ..config.limits.clone()
        },
        gateway: gateway::Config {
            request_timeout_ms: config.gateway.request_timeout_ms,
            answers_are_checked: true,
            ..gateway::Config::default()
        },
        ..Config::default()
    }
}

fn not_deployed(play: &Play, error: &DeployError) -> Report {
    let mut mistakes = vec![format!(
        "the plugin cannot be deployed for its tests: {error}"
    )];
    if let DeployError::Mistakes(found) = error {
        mistakes.extend(found.iter().map(ToString::to_string));
    }
    let tests = play.tests.iter().map(|test| TestReport {
        name: test.name.clone(),
        mistakes: mistakes.clone(),
        ..TestReport::default()
    });
    Report {
        tests: tests.collect(),
        took_ms: 0,
    }
}

async fn run_all(app: &App, rehearsal: &Arc<Rehearsal>, play: &Play) -> anyhow::Result<Report> {
    let mut runner = Runner::new(app, rehearsal, play)?;
    let mut report = Report::default();
    for test in &play.tests {
        let began = Instant::now();
        let run = runner.run(test, None).await?;
        let mut outcome = TestReport {
            name: test.name.clone(),
            mistakes: run.mistakes,
            log: run.log,
            calls: run.calls.len(),
            ..TestReport::default()
        };
        if play.with_failures && outcome.mistakes.is_empty() {
            'failures: for (number, call) in run.calls.iter().enumerate() {
                for error in failures_of(call) {
                    outcome.failures += 1;
                    let how = format!(
                        "if call {} (`{call}`) fails with `{}`",
                        number + 1,
                        error.code
                    );
                    let run = runner.run(test, Some((number, error))).await?;
                    let mistakes = run.mistakes.iter();
                    outcome
                        .mistakes
                        .extend(mistakes.map(|mistake| format!("{how}: {mistake}")));
                    if outcome.mistakes.len() >= MISTAKES_MAX || runner.is_late() {
                        break 'failures;
                    }
                }
            }
        }
        outcome.mistakes.truncate(MISTAKES_MAX);
        outcome.took_ms = ms_since(began);
        report.tests.push(outcome);
    }
    Ok(report)
}

fn ms_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
