//! Looks after the audit trail: writes what is noted, bounded and together; signs where the chain ends into a file beside
//! the rows; removes what is too old; and raises what is suspicious. The chain itself is in `ledger`.

mod config;
mod detect;
mod head;
mod repeats;
#[cfg(test)]
mod tests;

pub use config::{Config, Detection};

use std::{
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use prometheus::{IntCounter, IntCounterVec, Opts};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::db::{Db, Rows};
use crate::ledger::{Checkpoint, Copy, Entry, Event, Filter, Ledger, Note, Outcome, find};
use crate::mail::{self, Letter, Mail};

use detect::Detector;
use repeats::Repeats;

pub use head::{FILE as HEAD_FILE, read as read_heads};

/// Notes that are written together.
const TOGETHER_MAX: usize = 256;
/// How long a note waits for others, and how often it is looked what is due.
const TICK: Duration = Duration::from_millis(100);
/// The event that tells of others which were lost.
const LOST: &str = "audit.lost";
/// How long what was lost waits to be told again, if that could not be written either and nothing else is to be.
const TELL_AGAIN_NS: u64 = 1_000_000_000;
/// Events that are removed in one transaction.
const TRIM_MAX: u32 = 2000;
const DAY_MS: i64 = 24 * 3_600_000;

/// The audit trail of a host. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    db: Db,
    ledger: Ledger,
    mail: Mail,
    clock: Clock,
    config: Config,
    folder: PathBuf,
    metrics: Metrics,
}

/// What was lost and is not in the trail yet.
#[derive(Debug, Default)]
struct Untold {
    count: u64,
    /// When it is told again if nothing else is to be written.
    at_ns: u64,
}

#[derive(Clone)]
struct Metrics {
    events: IntCounter,
    lost: IntCounter,
    security: IntCounterVec,
}

impl Metrics {
    fn register(registry: &prometheus::Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            events: IntCounter::new("gantry_audit_events_total", "Events of the audit trail.")?,
            lost: IntCounter::new(
                "gantry_audit_lost_total",
                "Refusals and failures that could not be written to the audit trail.",
            )?,
            security: IntCounterVec::new(
                Opts::new("gantry_security_events_total", "What looked suspicious."),
                &["event"],
            )?,
        };
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.lost.clone()))?;
        registry.register(Box::new(metrics.security.clone()))?;
        Ok(metrics)
    }
}

impl Audit {
    /// The trail in these rows. `folder` is where the file with the signed end is.
    pub fn new(
        db: Db,
        ledger: Ledger,
        mail: Mail,
        clock: Clock,
        config: Config,
        folder: PathBuf,
        metrics: &prometheus::Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            db: db.one_by_one(Rows::Trail),
            ledger,
            mail,
            clock,
            config,
            folder,
            metrics: Metrics::register(metrics)?,
        })
    }

    /// Events that fit, newest first.
    pub async fn find(&self, filter: &Filter) -> Result<Vec<Entry>, sqlx::Error> {
        find(self.db.reader(), filter).await
    }

    /// A copy of the chain behind the event with this number, or from its beginning.
    pub async fn copy(&self, after: i64) -> Result<Copy, sqlx::Error> {
        self.ledger.copy(self.db.reader(), after).await
    }

    /// Where the chain is now, signed.
    pub async fn checkpoint(&self) -> Result<Checkpoint, sqlx::Error> {
        self.ledger.checkpoint(self.db.reader()).await
    }

    /// Notes something that belongs to no transaction.
    pub fn note(&self, event: Event) {
        self.ledger.note(event);
    }

    /// Holds the file with the signed end against the rows, before anything is written. If the chain does not go through
    /// it, the file is put aside, and the trail says so.
    pub async fn begin(&self) -> anyhow::Result<()> {
        // One more host may have come to rows that are shared; the others have their files.
        self.check_head(self.db.is_shared()).await?;
        self.sign_head().await
    }

    async fn check_head(&self, may_be_missing: bool) -> anyhow::Result<()> {
        let head = head::read_one(&self.folder.join(HEAD_FILE));
        let there = self.checkpoint().await?;
        let problem = match head {
            Ok(None) if there.seq == 0 || may_be_missing => None,
            Ok(None) => Some(format!("`{HEAD_FILE}` is missing")),
            Ok(Some(head)) => match self.ledger.passes(self.db.reader(), &head).await? {
                true => None,
                false => Some(format!("the chain does not go through event {}", head.seq)),
            },
            Err(problem) => Some(problem),
        };
        if let Some(problem) = problem {
            let kept = head::put_aside(&self.folder, self.clock.now_ms())?;
            tracing::error!(
                file = %kept.display(), problem,
                "The audit trail is not the one of `audit.head`: look with `gantry audit verify`"
            );
            self.metrics
                .security
                .with_label_values(&["security.audit_broken"])
                .inc();
            let event = Event::new("security.audit_broken", "audit").ended(Outcome::Noticed);
            self.write(vec![event.with("problem", problem)]).await?;
        }
        Ok(())
    }

    /// Signs the end anew, if the chain still goes through the one before: whoever cuts it off and puts an end of earlier times
    /// there, which was signed, too, would otherwise have it signed away.
    async fn go_on(&self) -> anyhow::Result<()> {
        self.check_head(false).await?;
        self.sign_head().await
    }

    /// Tells that the host has begun, and what of its settings is not as it was when it began before. Only values that are
    /// not the defaults, by their paths; none of them is a secret.
    pub async fn tell_start(&self, settings: &Map<String, Value>) -> Result<(), sqlx::Error> {
        let event = Event::new("host.started", "host").by("host", "");
        let last = Filter {
            action: Some(event.action.to_owned()),
            limit: 1,
            ..Filter::default()
        };
        let last = self.find(&last).await?.pop();
        let last =
            last.and_then(|entry| entry.to_json()["detail"]["settings"].as_object().cloned());
        let mut event = event
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("settings", settings.clone());
        if let Some(last) = last
            && last != *settings
        {
            let only = |these: &Map<String, Value>, those: &Map<String, Value>| {
                let other = these
                    .iter()
                    .filter(|(path, value)| those.get(*path) != Some(*value));
                let other = other.map(|(path, value)| (path.clone(), value.clone()));
                other.collect::<Map<String, Value>>()
            };
            event = event.changed(only(&last, settings), only(settings, &last));
        }
        self.write(vec![event]).await
    }

    /// Writes what is noted until it is told to stop, and then what is left.
    pub async fn run(self, mut notes: mpsc::Receiver<Note>, stop: CancellationToken) {
        let mut repeats = Repeats::new(&self.config);
        let mut detector = Detector::new(self.config.detection.clone());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut signed = (self.ledger.appended(), self.clock.monotonic_ns());
        let mut counted = self.ledger.appended();
        let mut batch = Vec::with_capacity(TOGETHER_MAX);
        let mut untold = Untold::default();
        loop {
            let is_end = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                _ = tick.tick() => false,
            };
            loop {
                while batch.len() < TOGETHER_MAX
                    && let Ok(note) = notes.try_recv()
                {
                    batch.push(note);
                }
                let is_full = batch.len() == TOGETHER_MAX;
                let is_last = is_end && !is_full;
                let mut events = self.digest(&mut batch, &mut repeats, &mut detector, is_last);
                events.extend(self.lost(&mut untold, is_last || !events.is_empty()));
                self.write_or_keep_count(events, &mut untold).await;
                if !is_full {
                    break;
                }
            }
            let appended = self.ledger.appended();
            self.metrics.events.inc_by(appended - counted);
            counted = appended;
            let since_s = self.clock.monotonic_ns().saturating_sub(signed.1) / 1_000_000_000;
            let is_due = appended - signed.0 >= self.config.checkpoint_events
                || since_s >= self.config.checkpoint_s
                || is_end;
            if appended != signed.0 && is_due {
                match self.go_on().await {
                    Ok(()) => signed = (appended, self.clock.monotonic_ns()),
                    Err(error) => {
                        tracing::error!(error.cause = %error, "The end of the audit trail was not signed");
                    }
                }
            }
            if is_end {
                return;
            }
        }
    }

    /// What of these notes is to be written now.
    fn digest(
        &self,
        batch: &mut Vec<Note>,
        repeats: &mut Repeats,
        detector: &mut Detector,
        is_end: bool,
    ) -> Vec<Event> {
        let now_ms = self.clock.now_ms();
        let mut events = Vec::new();
        for note in batch.drain(..) {
            match note {
                Note::TurnedAway { address, .. } => {
                    events.extend(detector.see_turned_away(address, now_ms));
                }
                Note::Written(event) => events.extend(detector.see(&event, now_ms)),
                Note::Event(event) => {
                    let alerts = detector.see(&event, now_ms);
                    events.extend(repeats.take(*event, now_ms));
                    events.extend(alerts);
                }
            }
        }
        events.extend(repeats.flush(now_ms, is_end));
        events
    }

    /// Tells how much was lost: what did not fit into the queue, and what could not be written before. That alone is tried
    /// again once in a while.
    fn lost(&self, untold: &mut Untold, is_now: bool) -> Option<Event> {
        let lost = self.ledger.take_lost();
        self.metrics.lost.inc_by(lost);
        untold.count += lost;
        let is_due = is_now || lost > 0 || self.clock.monotonic_ns() >= untold.at_ns;
        if untold.count == 0 || !is_due {
            return None;
        }
        let event = Event::new(LOST, "notes").ended(Outcome::Noticed);
        Some(event.with("count", untold.count))
    }

    /// Writes events. If that fails, what they were is gone, and how many they were is told when rows can be written again.
    async fn write_or_keep_count(&self, events: Vec<Event>, untold: &mut Untold) {
        if events.is_empty() {
            return;
        }
        let count = events.iter().filter(|event| event.action != LOST).count() as u64;
        match self.write(events).await {
            Ok(()) => *untold = Untold::default(),
            Err(error) => {
                untold.at_ns = self.clock.monotonic_ns().saturating_add(TELL_AGAIN_NS);
                if count > 0 {
                    tracing::error!(error.cause = %error, count, "Events of the audit trail were not written");
                    self.metrics.lost.inc_by(count);
                    untold.count += count;
                }
            }
        }
    }

    /// Writes events together, and tells the operator of those that are suspicious.
    async fn write(&self, events: Vec<Event>) -> Result<(), sqlx::Error> {
        let mut tx = self.db.begin().await?;
        self.ledger.append(&mut tx, &events).await?;
        let mut is_told = false;
        for event in events
            .iter()
            .filter(|event| event.action.starts_with("security."))
        {
            let details = serde_json::Value::Object(event.detail.clone());
            let address = event
                .address
                .map(|address| address.to_string())
                .unwrap_or_default();
            tracing::warn!(
                security.event = event.action, target = %event.target, client = address, %details,
                "Something suspicious happened"
            );
            if event.action != "security.audit_broken" {
                self.metrics
                    .security
                    .with_label_values(&[event.action])
                    .inc();
            }
            is_told |= self.tell(&mut tx, event).await?;
        }
        tx.commit().await?;
        if is_told {
            self.mail.wake();
        }
        Ok(())
    }

    /// Puts a letter about something suspicious into the outbox, if somebody wants it.
    async fn tell(
        &self,
        tx: &mut crate::db::Transaction,
        event: &Event,
    ) -> Result<bool, sqlx::Error> {
        if self.config.notify_email.is_empty() || !self.mail.is_on() {
            return Ok(false);
        }
        let Event { action, target, .. } = event;
        let details = serde_json::Value::Object(event.detail.clone());
        let letter = Letter {
            to: self.config.notify_email.clone(),
            subject: format!("Gantry noticed {action}"),
            text: format!(
                "{action}: {target}\n{details}\n\n\
                 Look at it with `gantry audit list --action {action}`. The same is not said again for {} s.\n",
                self.config.detection.hold_off_s
            ),
        };
        match self.mail.post(tx, &letter, None).await {
            Ok(()) => Ok(true),
            Err(mail::Error::Rows(error)) => Err(error),
            Err(error) => {
                tracing::error!(error.cause = %error, "A message to the operator was not kept");
                Ok(false)
            }
        }
    }

    /// Signs where the chain ends into the file.
    async fn sign_head(&self) -> anyhow::Result<()> {
        let checkpoint = self.checkpoint().await?;
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || head::write(&folder, &checkpoint)).await??;
        Ok(())
    }

    /// Removes events that are too old. To be called now and then.
    pub async fn trim(&self) -> Result<(), sqlx::Error> {
        if self.config.keep_days == 0 {
            return Ok(());
        }
        let before_ms = self.clock.now_ms() - i64::from(self.config.keep_days) * DAY_MS;
        loop {
            let mut tx = self.db.begin().await?;
            let gone = self.ledger.trim(&mut tx, before_ms, TRIM_MAX).await?;
            if gone > 0 {
                let event = Event::new("audit.trimmed", "events");
                let event = event
                    .with("count", gone)
                    .with("before", crate::clock::rfc3339(before_ms));
                self.ledger.append(&mut tx, &[event]).await?;
            }
            tx.commit().await?;
            if gone < u64::from(TRIM_MAX) {
                return Ok(());
            }
        }
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Audit")
    }
}

/// The part of an address that its holder cannot change at will.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
