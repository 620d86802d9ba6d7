//! A mixed load that goes on for long: plugins of every kind, good and bad ones, versions that are swapped while they
//! answer, clients that are slow or leave in the middle. It runs in rounds; after each all is quiet, and then the host must
//! not hold more than it did after the first.

mod ask;
mod load;
mod operator;
mod plugins;
mod report;
mod slow;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use crate::Process;

use report::{Held, Row};

pub use report::{Report, Tally};

/// How much, and for how long.
#[derive(Debug, Clone)]
pub struct Soak {
    pub rounds: usize,
    pub round: Duration,
    /// Clients of each kind that are at work at once.
    pub clients: usize,
    /// What a client waits between two requests.
    pub pause: Duration,
    /// What the operator waits between two changes.
    pub change_pause: Duration,
}

/// Calls are not kept away from what crashes: it is to go on crashing. Versions that were replaced have little time, so that
/// what is left of them is gone when it is quiet.
const SETTINGS: &str = "[plugins]\ntests = \"off\"\n[plugins.breaker]\nenabled = false\n\
                        [plugins.rollout]\ndrain_s = 5\n";

/// Longest time until the host is quiet after a round.
const QUIET_MAX: Duration = Duration::from_secs(20);
/// How often it is looked whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the host closes of its own accord is closed by then.
const SETTLE: Duration = Duration::from_millis(1500);

/// What all clients of a round share.
struct Round {
    host: Arc<Process>,
    until: Instant,
    pause: Duration,
}

impl Round {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl Soak {
    /// Runs it, and tells after each round how it went.
    pub async fn run(&self, mut tell: impl FnMut(&str)) -> anyhow::Result<Report> {
        let host = Arc::new(Process::start(SETTINGS).await);
        let plugins = plugins::all();
        for plugin in &plugins {
            let bundle = plugin.bundle(0);
            let answer = host.upload("grant=all", bundle).await;
            ensure!(answer.status == 201, "{}: {}", plugin.name, answer.text());
        }
        let mut report = Report::new(plugins.len(), quiet(&host).await?);
        tell(&format!("{} plugins\n{}", plugins.len(), report::HEAD));
        let mut operator = operator::Operator::new(plugins, self.change_pause);
        for number in 1..=self.rounds {
            let round = Arc::new(Round {
                host: Arc::clone(&host),
                until: Instant::now() + self.round,
                pause: self.pause,
            });
            let mut tasks = JoinSet::new();
            let probe = Arc::clone(&round);
            tasks.spawn(async move { load::probe(&probe).await });
            for client in 0..self.clients {
                for (index, asks) in load::kinds().into_iter().enumerate() {
                    let round = Arc::clone(&round);
                    tasks.spawn(async move { load::ask(&round, asks, client + index).await });
                }
                for slow in slow::KINDS {
                    let round = Arc::clone(&round);
                    tasks.spawn(async move { slow::go_on(&round, *slow).await });
                }
            }
            let mut tally = operator.work(&round).await;
            while let Some(done) = tasks.join_next().await {
                match done {
                    Ok(one) => tally.add(one),
                    Err(panic) => tally.count("client", &format!("panic: {panic}"), false),
                }
            }
            let held = quiet(&host)
                .await
                .with_context(|| format!("round {number}"))?;
            let row = Row::new(number, self.round, tally, held);
            tell(&row.to_string());
            report.rows.push(row);
        }
        for name in operator.names() {
            let path = format!("/_gantry/api/v1/plugins/{name}?data=delete");
            let answer = host.delete(&path).await;
            ensure!(answer.status == 204, "{name}: {}", answer.text());
        }
        report.end = Some(
            quiet(&host)
                .await
                .context("after the last plugin is gone")?,
        );
        Ok(report)
    }
}

/// Waits until no call is in progress, and says what the host holds then.
async fn quiet(host: &Process) -> anyhow::Result<Held> {
    let began = Instant::now();
    loop {
        let held = Held::of(host).await?;
        if held.calls == 0 || began.elapsed() > QUIET_MAX {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(SETTLE).await;
    Held::of(host).await
}
