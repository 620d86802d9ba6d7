//! Other hosts on the same rows: what they change becomes so here, and all keep the time of the server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::auth::{Auth, Behind};
use crate::cache::Cache;
use crate::clock::Clock;
use crate::db::Db;
use crate::ledger::{Ledger, Place};
use crate::plugins::registry::Registry;

/// Events that are read at once.
const PAGE: i64 = 500;
/// With which words events begin that tell of another live table.
const OF_PLUGINS: [&str; 6] = [
    "plugin.",
    "canary.",
    "upgrade.",
    "grant.",
    "grants.",
    "trusted_key.",
];
/// How often the server is asked what time it is.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before the live table is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Clocks that are less apart are left alone: asking takes time, too.
const APART_MIN_MS: i64 = 500;
/// How far apart an operator should know of.
const APART_TOLD_MS: i64 = 2000;

/// What others have done, as far as this host has taken it over.
pub(super) struct Follower {
    pub(super) db: Db,
    pub(super) ledger: Ledger,
    /// Up to where the trail was read.
    pub(super) after: Place,
    pub(super) clock: Clock,
    pub(super) auth: Auth,
    pub(super) registry: Arc<Registry>,
    pub(super) kept: Cache,
    /// When the server was last asked what time it is.
    pub(super) asked_at: Option<Instant>,
}

/// Lets the clock show the time of the server of the rows: hosts that share them decide by it what is over.
pub(super) async fn set_clock(db: &Db, clock: &Clock) -> Result<(), sqlx::Error> {
    let Some(ahead_ms) = db.clock_ahead_ms().await? else {
        return Ok(());
    };
    let before_ms = clock.ahead_ms();
    if ahead_ms.abs_diff(before_ms) >= APART_MIN_MS.unsigned_abs() {
        clock.follow(ahead_ms);
        if ahead_ms.abs().max(before_ms.abs()) >= APART_TOLD_MS {
            tracing::warn!(
                ahead_ms,
                "The clock of the server of the rows is another one than this machine's; the host keeps the server's time"
            );
        }
    }
    Ok(())
}

impl Follower {
    /// Takes over what the trail tells, until `stop` is cancelled.
    pub(super) async fn follow(mut self, stop: CancellationToken) {
        let table_is_behind = Arc::new(Notify::new());
        // Apart: a plugin takes its time to be compiled, and who was locked out must be out meanwhile.
        let plugins = renew_table(
            Arc::clone(&self.registry),
            Arc::clone(&table_is_behind),
            stop.clone(),
        );
        tokio::join!(plugins, self.follow_accounts(&table_is_behind, stop));
    }

    async fn follow_accounts(&mut self, table_is_behind: &Notify, stop: CancellationToken) {
        let mut news = self.db.news();
        let mut behind = Behind::default();
        let mut has_failed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = news.next() => {}
            }
            let caught_up = self.catch_up(&mut behind, table_is_behind).await;
            if let Err(error) = &caught_up
                && !has_failed
            {
                tracing::error!(
                    error.cause = %error,
                    "What other hosts have changed cannot be taken over; trying again each second"
                );
            }
            has_failed = caught_up.is_err();
        }
    }

    async fn catch_up(
        &mut self,
        behind: &mut Behind,
        table_is_behind: &Notify,
    ) -> anyhow::Result<()> {
        let is_due = self.asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY);
        if self.db.is_shared() && is_due {
            self.asked_at = Some(Instant::now());
            set_clock(&self.db, &self.clock).await?;
        }
        loop {
            let reader = self.db.reader();
            let Some(told) = self.ledger.told_after(reader, &self.after, PAGE).await? else {
                tracing::error!(
                    "The rows are not those that this host has followed, as after a restored backup; it reads all of them again"
                );
                let end = self.ledger.end(reader).await?;
                *behind = Behind::everything();
                table_is_behind.notify_one();
                self.after = end;
                continue;
            };
            behind.add(&told.events);
            for (_, action, plugin) in &told.events {
                if action == "cache.purged" && self.db.is_shared() {
                    self.kept.purged_elsewhere(plugin);
                }
            }
            let is_of_plugins =
                |action: &str| OF_PLUGINS.iter().any(|word| action.starts_with(word));
            if told
                .events
                .iter()
                .any(|(_, action, _)| is_of_plugins(action))
            {
                table_is_behind.notify_one();
            }
            self.after = told.end;
            // Also with nothing new: something may be left of what could not be read. It holds up nothing behind it.
            let caught_up = self.auth.catch_up(behind).await;
            if told.events.is_empty() {
                return Ok(caught_up?);
            }
        }
    }
}

/// Makes the live table agree with the rows whenever it is said to be behind, until `stop` is cancelled.
async fn renew_table(registry: Arc<Registry>, is_behind: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = is_behind.notified() => {}
        }
        let mut has_failed = false;
        while let Err(error) = registry.refresh().await {
            if !has_failed {
                tracing::error!(
                    error.cause = %error,
                    "Plugins that other hosts have changed cannot be taken over; trying again each second"
                );
            }
            has_failed = true;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}
