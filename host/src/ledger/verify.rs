//! Finds what somebody has changed, removed, added or swapped.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use serde_json::Value;
use sqlx::AnyPool;

use super::event::Entry;
use super::mark::{Checkpoint, Kind, NOTHING};
use super::store;

/// Most findings that are told one by one.
const FINDINGS_MAX: usize = 100;

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub events: u64,
    /// The numbers of the first and the last event.
    pub first: i64,
    pub last: i64,
    /// Empty if all is as the host wrote it.
    pub findings: Vec<Finding>,
    /// Findings beyond these.
    pub left_out: u64,
}

/// Something that is not as the host wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The entry, if it is one.
    pub seq: Option<i64>,
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "event {seq}: {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl Report {
    fn find(&mut self, seq: Option<i64>, problem: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            let problem = problem.into();
            self.findings.push(Finding { seq, problem });
        } else {
            self.left_out += 1;
        }
    }
}

/// Follows a chain link by link.
struct Walk<'a> {
    report: Report,
    seq: i64,
    hash: String,
    checkpoints: &'a [Checkpoint],
}

impl<'a> Walk<'a> {
    fn new(seq: i64, hash: String, checkpoints: &'a [Checkpoint]) -> Self {
        let report = Report {
            first: seq + 1,
            last: seq,
            ..Report::default()
        };
        let mut walk = Self {
            report,
            seq,
            hash,
            checkpoints,
        };
        walk.compare();
        walk
    }

    fn see(&mut self, entry: &Entry) {
        let seq = Some(entry.seq);
        match entry.seq.saturating_sub(self.seq) {
            1 => {}
            2 => {
                let missing = self.seq + 1;
                self.report
                    .find(None, format!("event {missing} is missing"));
            }
            _ => {
                let (from, to) = (self.seq + 1, entry.seq - 1);
                let problem = format!("events {from} to {to} are missing");
                self.report.find(None, problem);
            }
        }
        if entry.prev != self.hash {
            let problem = "it does not follow the event before it";
            self.report.find(seq, problem);
        }
        if entry.computed() != entry.hash {
            self.report.find(seq, "it was changed");
        }
        self.step(entry.seq, entry.hash.clone());
    }

    fn step(&mut self, seq: i64, hash: String) {
        self.seq = seq;
        self.hash = hash;
        self.report.events += 1;
        self.report.last = seq;
        self.compare();
    }

    /// Holds the checkpoints of this place against the chain.
    fn compare(&mut self) {
        for checkpoint in self.checkpoints {
            if checkpoint.seq == self.seq && checkpoint.hash != self.hash {
                let problem = format!("it is not the one of the checkpoint of {}", checkpoint.at);
                self.report.find(Some(self.seq), problem);
            }
        }
    }

    fn end(mut self, key: &VerifyingKey) -> Report {
        for checkpoint in self.checkpoints {
            if !checkpoint.is_signed(key) {
                let problem = format!(
                    "the checkpoint of {} was not signed by this host",
                    checkpoint.at
                );
                self.report.find(None, problem);
            } else if checkpoint.seq > self.seq {
                let (at, there) = (&checkpoint.at, checkpoint.seq);
                let problem = format!(
                    "the end is missing: at {at} there were events up to {there}, and now only up to {}",
                    self.seq
                );
                self.report.find(None, problem);
            }
        }
        self.report
    }
}

/// Looks at every row of the chain, in one state of the rows. Checkpoints from elsewhere show whether its end was cut off or
/// all of it was written anew.
pub async fn verify(
    pool: &AnyPool,
    key: &VerifyingKey,
    checkpoints: &[Checkpoint],
) -> Result<Report, sqlx::Error> {
    const PAGE: i64 = 1000;
    let mut tx = pool.begin().await?;
    let mut problems = Vec::new();
    // What cannot be read was not written by the host.
    let head = store::mark(&mut tx, Kind::Head).await.unwrap_or(None);
    let base = store::mark(&mut tx, Kind::Base).await;
    let base = base.unwrap_or_else(|_| {
        problems.push("the mark of what was removed cannot be read".to_owned());
        None
    });
    let marks = store::count_marks(&mut tx).await?;
    if marks != 1 + i64::from(base.is_some()) {
        problems.push("there are marks that the host did not write".to_owned());
    }
    if store::count_strays(&mut tx).await? > 0 {
        problems.push("there are events with numbers that the host does not give".to_owned());
    }
    if let Some(base) = &base
        && !base.is_signed(key, Kind::Base)
    {
        problems.push("the mark of what was removed was not signed by this host".to_owned());
    }
    let (seq, hash) = base.map_or_else(|| (0, NOTHING.to_owned()), |base| (base.seq, base.hash));
    let mut walk = Walk::new(seq, hash, checkpoints);
    let mut after = seq;
    'all: loop {
        let rows = store::rows_after(&mut tx, after, PAGE).await?;
        let is_last = rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        for row in &rows {
            match store::entry(row) {
                Ok(entry) => walk.see(&entry),
                Err(_) => {
                    let number: Result<i64, _> = sqlx::Row::try_get(row, "seq");
                    let Ok(number) = number else {
                        let problem = "there is an event whose number cannot be read";
                        walk.report.find(None, problem);
                        break 'all;
                    };
                    walk.report
                        .find(Some(number), "it cannot be read as an event");
                    let hash = sqlx::Row::try_get(row, "hash").unwrap_or_default();
                    walk.step(number, hash);
                }
            }
            after = walk.seq;
        }
        if is_last {
            break;
        }
    }
    match head {
        None => problems.push("the mark of the end is missing or cannot be read".to_owned()),
        // As the tables were made.
        Some(head) if head.seq == 0 && walk.seq == 0 && head.signature.is_empty() => {
            if head.hash != NOTHING || head.at_ms != 0 {
                problems.push("the mark of the end was changed".to_owned());
            }
        }
        Some(head) => {
            if !head.is_signed(key, Kind::Head) {
                problems.push("the mark of the end was not signed by this host".to_owned());
            }
            if (head.seq, &head.hash) != (walk.seq, &walk.hash) {
                let (signed, there) = (head.seq, walk.seq);
                let problem = format!(
                    "the host has signed that event {signed} is the last one, and the last one is {there}"
                );
                problems.push(problem);
            }
        }
    }
    // Older than what is left: nothing can be held against it.
    let mut report = walk.end(key);
    for problem in problems {
        report.find(None, problem);
    }
    Ok(report)
}

/// Looks at an export, line by line. Without a key, at whether it is whole in itself: by the key that it names itself.
pub fn verify_export<E>(
    lines: impl Iterator<Item = Result<String, E>>,
    key: Option<&VerifyingKey>,
    checkpoints: &[Checkpoint],
) -> Result<Report, E> {
    let mut lines = lines;
    let mut wrong = Report::default();
    let first = lines.next().transpose()?.unwrap_or_default();
    let begin: Value = serde_json::from_str(&first).unwrap_or_default();
    let begin = &begin["export"];
    let (Some(after), Some(prev)) = (begin["after"].as_i64(), begin["prev"].as_str()) else {
        wrong.find(None, "the first line is not that of an export");
        return Ok(wrong);
    };
    let mut walk = Walk::new(after, prev.to_owned(), checkpoints);
    let mut end: Option<Checkpoint> = None;
    for line in lines {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        if end.is_some() {
            walk.report
                .find(None, "something stands behind the checkpoint");
            break;
        }
        let value: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(checkpoint) = value.get("checkpoint") {
            end = serde_json::from_value(checkpoint.clone()).ok();
            if end.is_none() {
                walk.report.find(None, "the checkpoint cannot be read");
            }
        } else if let Some(entry) = Entry::of_json(&value) {
            walk.see(&entry);
        } else {
            let seq = value.get("seq").and_then(Value::as_i64);
            walk.report.find(seq, "a line cannot be read as an event");
            let next = walk.seq + 1;
            walk.step(seq.unwrap_or(next), String::new());
        }
    }
    let named = end.as_ref().and_then(Checkpoint::named_key);
    let (seq, hash) = (walk.seq, walk.hash.clone());
    let Some(key) = key.copied().or(named) else {
        walk.report
            .find(None, "the checkpoint at the end is missing");
        return Ok(walk.report);
    };
    let mut report = walk.end(&key);
    match end {
        None => report.find(None, "the checkpoint at the end is missing"),
        Some(end) if !end.is_signed(&key) => {
            report.find(
                None,
                "the checkpoint at the end was not signed by this host",
            );
        }
        Some(end) if (end.seq, &end.hash) != (seq, &hash) => {
            report.find(None, "the checkpoint at the end is of another event");
        }
        Some(_) => {}
    }
    Ok(report)
}
