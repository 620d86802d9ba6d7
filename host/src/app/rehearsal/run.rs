//! One test from its beginning to its end, as often as it is wanted: each run begins with empty stores and databases.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http::header;
use serde_json::{Map, Value};

use crate::app::App;
use crate::ids::RequestId;
use crate::plugins::manifest::{Step, TestBody, TestCase};
use crate::plugins::rehearsal::Play;
use crate::runtime::{EntryKind, Hook, InvokeError};
use crate::services::rehearsal::{Plan, Rehearsal};
use crate::services::{Error, log, sql};

use super::answer::{Answer, Saved, contain, fill, fill_value};
use super::cast::Cast;

/// Longest time until an answer is there; the host itself ends calls earlier.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most entries of the plugin's log that are shown with a mistake.
const LOG_MAX: u32 = 20;

/// Runs the tests of one plugin on one host.
pub(super) struct Runner<'a> {
    app: &'a App,
    rehearsal: &'a Arc<Rehearsal>,
    play: &'a Play,
    client: reqwest::Client,
    /// Before the path of a request.
    base: String,
    entry: EntryKind,
    /// When all tests must be over.
    deadline: Instant,
    cast: Cast,
    /// The settings that the plugin has now.
    config: Map<String, Value>,
}

/// How a run went.
#[derive(Default)]
pub(super) struct Run {
    pub(super) mistakes: Vec<String>,
    pub(super) log: Vec<String>,
    pub(super) calls: Vec<&'static str>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        app: &'a App,
        rehearsal: &'a Arc<Rehearsal>,
        play: &'a Play,
    ) -> anyhow::Result<Self> {
        let live = app.registry.live();
        let plugin = live
            .get(&play.plugin)
            .context("the plugin is not live on the host of its tests")?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()?;
        Ok(Self {
            app,
            rehearsal,
            play,
            client,
            base: format!("http://{}{}", app.address, plugin.mount.path),
            entry: plugin.loaded.spec().entry,
            deadline: Instant::now() + play.time_max,
            cast: Cast::default(),
            config: play
                .tests
                .first()
                .map(|test| test.config.clone())
                .unwrap_or_default(),
        })
    }

    /// Whether the time for all tests is over.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }

    /// Runs a test. With a failure, only the answer to the request that met it counts, and the run ends there.
    pub(super) async fn run(
        &mut self,
        test: &TestCase,
        failing: Option<(usize, Error)>,
    ) -> anyhow::Result<Run> {
        let mut run = Run::default();
        let is_failing = failing.is_some();
        if let Some(mistake) = self.begin(test, failing).await? {
            run.mistakes.push(mistake);
            return Ok(run);
        }
        let mut saved = Saved::new();
        for (number, step) in test.steps.iter().enumerate() {
            let place = format!("request {}, {} {}", number + 1, step.method, step.path);
            if self.is_late() {
                let mistake = "the time for all tests was over (`plugins.tests_ms_max`)";
                run.mistakes.push(format!("{place}: {mistake}"));
                return Ok(run);
            }
            let clock = &self.rehearsal.clock;
            let later = i64::try_from(step.advance.as_millis()).unwrap_or(i64::MAX);
            clock.set_ms(clock.now_ms().saturating_add(later));
            let (answer, id) = match self.ask(step, &saved).await? {
                Ok(answered) => answered,
                Err(mistake) => {
                    run.mistakes.push(format!("{place}: {mistake}"));
                    return Ok(run);
                }
            };
            let mistakes = if !is_failing {
                answer.compare(&step.expected, &mut saved)
            } else if self.rehearsal.has_failed() {
                run.mistakes.extend(answer.breakdown(self.entry));
                return Ok(run);
            } else {
                // It was compared in the run without a failure.
                answer.compare(&step.expected, &mut saved);
                Vec::new()
            };
            if !mistakes.is_empty() {
                let mistakes = mistakes.iter();
                run.mistakes
                    .extend(mistakes.map(|mistake| format!("{place}: {mistake}")));
                run.log = self.log_of(id).await?;
                run.calls = self.rehearsal.calls();
                return Ok(run);
            }
        }
        run.calls = self.rehearsal.calls();
        self.check_outside(test, &saved, &mut run.mistakes);
        Ok(run)
    }

    /// Everything as it is at the beginning of a test. What is wrong with the test itself is told.
    pub(super) async fn begin(
        &mut self,
        test: &TestCase,
        failing: Option<(usize, Error)>,
    ) -> anyhow::Result<Option<String>> {
        let (plugin, services) = (&self.play.plugin, &self.app.services);
        self.app.limiter.forget();
        services.kv.delete_plugin(plugin).await?;
        services.blobs.delete_plugin(plugin).await?;
        if !self.play.databases.is_empty() {
            services.sql.delete(plugin).await?;
        }
        for (label, steps) in &self.play.databases {
            let steps: Vec<sql::Migration> = steps
                .iter()
                .map(|step| sql::Migration {
                    version: step.version,
                    name: step.name.clone(),
                    sql: step.sql.clone(),
                })
                .collect();
            services.sql.migrate(plugin, label, &steps).await?;
        }
        services.secrets.delete_plugin(plugin).await?;
        for (label, value) in &test.secrets {
            let value = value.as_bytes();
            services.secrets.set(plugin, label, value).await?;
        }
        if test.config != self.config {
            if let Err(error) = self
                .app
                .plugins
                .set_config(plugin, &test.config, "test")
                .await
            {
                return Ok(Some(format!("`config`: {error}")));
            }
            self.config = test.config.clone();
        }
        self.rehearsal.clock.set_ms(test.at_ms);
        if let Err(error) = self.migrate(test).await? {
            return Ok(Some(format!("migrating the data: {error}")));
        }
        self.rehearsal.begin(Plan {
            seed: test.seed,
            answers: test.outside.iter().map(|it| it.answer.clone()).collect(),
            failing,
        });
        Ok(None)
    }

    /// Lets the plugin work on its data, which is empty again. What it calls for that is not part of the test.
    async fn migrate(&self, test: &TestCase) -> anyhow::Result<Result<(), InvokeError>> {
        self.rehearsal.begin(Plan {
            seed: test.seed,
            answers: Vec::new(),
            failing: None,
        });
        let live = self.app.registry.live();
        let live = live
            .get(&self.play.plugin)
            .context("the plugin is not live any more")?;
        let config = &self.app.plugins.config().rollout;
        let (cpu, wall) = (config.migrate_cpu_ms, config.migrate_wall_ms);
        let (cpu, wall) = (Duration::from_millis(cpu), Duration::from_millis(wall));
        let runtime = &self.app.runtime;
        Ok(runtime
            .call_hook(&live.loaded, Hook::Migrate, cpu, wall)
            .await)
    }

    /// Makes a request over the network, as every client does.
    pub(super) async fn ask(
        &mut self,
        step: &Step,
        saved: &Saved,
    ) -> anyhow::Result<Result<(Answer, Option<RequestId>), String>> {
        let path = match fill(&step.path, saved) {
            Ok(path) => path,
            Err(unknown) => return Ok(Err(unknown)),
        };
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(step.method.clone(), url);
        for (name, value) in &step.headers {
            match fill(value, saved) {
                Ok(value) => request = request.header(name, value),
                Err(unknown) => return Ok(Err(unknown)),
            }
        }
        if let Some(caller) = &step.caller {
            let (name, value) = self
                .cast
                .credentials(&self.app.auth, &self.play.plugin, caller)
                .await?;
            request = request.header(name, value);
        }
        let is_type = |name: &String| name.eq_ignore_ascii_case("content-type");
        if matches!(step.body, Some(TestBody::Json(_)))
            && !step.headers.iter().any(|(name, _)| is_type(name))
        {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = match &step.body {
            None => None,
            Some(TestBody::Json(json)) => {
                Some(fill_value(json, saved).map(|json| json.to_string()))
            }
            Some(TestBody::Text(text)) => Some(fill(text, saved)),
            Some(TestBody::Bytes(bytes)) => {
                request = request.body(bytes.clone());
                None
            }
        };
        match body {
            Some(Ok(body)) => request = request.body(body),
            Some(Err(unknown)) => return Ok(Err(unknown)),
            None => {}
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => {
                return Ok(Err(format!("this request cannot be sent: {error}")));
            }
            Err(error) => return Err(error).context("the host of the tests does not answer"),
        };
        let id = response.headers().get("x-request-id");
        let id = id.and_then(|id| id.to_str().ok()?.parse().ok());
        let answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?,
        };
        Ok(Ok((answer, id)))
    }

    /// What the plugin logged during a request.
    async fn log_of(&self, id: Option<RequestId>) -> anyhow::Result<Vec<String>> {
        let Some(id) = id else {
            return Ok(Vec::new());
        };
        self.app.logs.flush().await;
        let filter = log::Filter {
            request_id: Some(id),
            limit: Some(LOG_MAX),
            ..log::Filter::default()
        };
        let page = self.app.logs.query(&self.play.plugin, &filter).await?;
        let lines = page.entries.iter().rev().map(|entry| {
            format!(
                "{} {} {}",
                entry.level.as_str(),
                entry.context,
                entry.message
            )
        });
        Ok(lines.collect())
    }

    /// Whether other servers were asked as the author expects.
    fn check_outside(&self, test: &TestCase, saved: &Saved, mistakes: &mut Vec<String>) {
        for request in self.rehearsal.unanswered() {
            mistakes.push(format!(
                "the plugin asked `{request}`, and no `[[test.answer]]` is for it"
            ));
        }
        let sent = self.rehearsal.sent();
        for (number, outside) in test.outside.iter().enumerate() {
            let place = format!("{} {}", outside.answer.method, outside.answer.url);
            let own: Vec<_> = sent.iter().filter(|sent| sent.answer == number).collect();
            if let Some(times) = outside.times
                && own.len() != times
            {
                mistakes.push(format!(
                    "the plugin asked `{place}` {} times and not {times}",
                    own.len()
                ));
            }
            let Some(wanted) = &outside.sent else {
                continue;
            };
            let wanted = match fill_value(wanted, saved) {
                Ok(wanted) => wanted,
                Err(unknown) => {
                    mistakes.push(unknown);
                    continue;
                }
            };
            for sent in own {
                let mut found = Vec::new();
                match serde_json::from_slice(&sent.body) {
                    Ok(body) => contain("", &wanted, &body, &mut found),
                    Err(_) => found.push("the body is not JSON".to_owned()),
                }
                let found = found.iter();
                mistakes.extend(found.map(|mistake| format!("sent to `{place}`: {mistake}")));
            }
        }
    }
}
