//! Refusals and failures that repeat are counted instead of written again, so that whoever is refused often cannot fill the
//! disk.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use crate::audit::{Config, network};
use crate::ledger::{Event, Outcome};

const MINUTE_MS: i64 = 60_000;

/// What makes two events the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    action: &'static str,
    outcome: Outcome,
    actor: String,
    network: Option<IpAddr>,
    target: String,
    code: String,
}

struct Repeat {
    since_ms: i64,
    /// The last one, and how many there were after the one that was written.
    last: Option<Event>,
    count: u64,
}

/// Counts what repeats.
pub(super) struct Repeats {
    table: HashMap<Key, Repeat>,
    repeat_ms: i64,
    repeats_max: usize,
    per_minute_max: u64,
    minute_began_ms: i64,
    in_minute: u64,
    /// What was neither written nor counted by itself, by action.
    left_out: BTreeMap<&'static str, u64>,
}

impl Repeats {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            table: HashMap::new(),
            repeat_ms: i64::try_from(config.repeat_s.saturating_mul(1000)).unwrap_or(i64::MAX),
            repeats_max: config.repeats_max,
            per_minute_max: config.refusals_per_minute_max,
            minute_began_ms: 0,
            in_minute: 0,
            left_out: BTreeMap::new(),
        }
    }

    /// The event, if it is to be written now.
    pub(super) fn take(&mut self, event: Event, now_ms: i64) -> Option<Event> {
        if !matches!(event.outcome, Outcome::Refused | Outcome::Failed) {
            return Some(event);
        }
        let key = Key {
            action: event.action,
            outcome: event.outcome,
            actor: event.actor.id.clone(),
            network: event.address.map(network),
            target: event.target.clone(),
            code: event
                .detail
                .get("code")
                .and_then(|code| code.as_str())
                .unwrap_or_default()
                .to_owned(),
        };
        if let Some(repeat) = self.table.get_mut(&key) {
            repeat.count += 1;
            repeat.last = Some(event);
            return None;
        }
        if self.table.len() >= self.repeats_max || self.in_minute >= self.per_minute_max {
            *self.left_out.entry(event.action).or_default() += 1;
            return None;
        }
        self.in_minute += 1;
        let repeat = Repeat {
            since_ms: now_ms,
            last: None,
            count: 0,
        };
        self.table.insert(key, repeat);
        Some(event)
    }

    /// What was counted and is to be written now. At the end, all of it.
    pub(super) fn flush(&mut self, now_ms: i64, is_end: bool) -> Vec<Event> {
        let mut due = Vec::new();
        if is_end || now_ms - self.minute_began_ms >= MINUTE_MS || now_ms < self.minute_began_ms {
            self.minute_began_ms = now_ms;
            self.in_minute = 0;
            let left_out = std::mem::take(&mut self.left_out);
            if !left_out.is_empty() {
                let counts = left_out
                    .into_iter()
                    .map(|(action, count)| (action.to_owned(), count.into()));
                let counts = serde_json::Value::Object(counts.collect());
                due.push(
                    Event::new("audit.left_out", "refusals")
                        .ended(Outcome::Noticed)
                        .with("counts", counts),
                );
            }
        }
        let (repeat_ms, in_minute) = (self.repeat_ms, &mut self.in_minute);
        self.table.retain(|_, repeat| {
            if !is_end && now_ms - repeat.since_ms < repeat_ms {
                return true;
            }
            let Some(last) = repeat.last.take() else {
                return false;
            };
            *in_minute += 1;
            due.push(last.with("repeated", repeat.count));
            repeat.since_ms = now_ms;
            repeat.count = 0;
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(target: &str) -> Event {
        Event::refused("permission.refused", target, "auth.permission_missing")
    }

    #[test]
    fn the_same_refusal_is_written_once_and_then_counted() {
        let mut repeats = Repeats::new(&Config::default());
        assert!(repeats.take(refusal("a"), 1000).is_some());
        for at_ms in 1001..1500 {
            assert!(repeats.take(refusal("a"), at_ms).is_none());
        }
        assert!(
            repeats.take(refusal("b"), 2000).is_some(),
            "another one is another one"
        );
        assert!(repeats.flush(30_000, false).is_empty());
        let due = repeats.flush(61_000, false);
        assert_eq!(due.len(), 1, "{due:?}");
        assert_eq!(due[0].detail["repeated"], 499);
        // Who goes on is written once in each window.
        assert!(repeats.take(refusal("a"), 61_001).is_none());
        assert_eq!(repeats.flush(122_000, false)[0].detail["repeated"], 1);
        assert!(repeats.flush(190_000, false).is_empty());
        assert!(repeats.take(refusal("a"), 190_001).is_some());
    }

    #[test]
    fn a_flood_of_different_refusals_writes_no_more_than_the_bound() {
        let config = Config {
            refusals_per_minute_max: 100,
            ..Config::default()
        };
        let mut repeats = Repeats::new(&config);
        repeats.flush(1000, false);
        let written = (0..10_000).filter_map(|at| repeats.take(refusal(&at.to_string()), 2000));
        assert_eq!(written.count(), 100);
        let due = repeats.flush(62_000, false);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].detail["counts"]["permission.refused"], 9_900);
        assert!(repeats.table.is_empty());
        // What was done is never left out.
        for _ in 0..200 {
            assert!(
                repeats
                    .take(Event::new("role.created", "x"), 62_001)
                    .is_some()
            );
        }
    }
}
