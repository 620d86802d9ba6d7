//! What was seen: one line a round, and a verdict with its bounds.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

use crate::Process;

/// What the host holds while nobody asks it.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    rss_mb: f64,
    /// The part of it that stays in the pools for instances to come. It grows until so many different components were called
    /// as wasmtime keeps places for, and no further.
    pool_mb: f64,
    /// Files, sockets and pipes.
    handles: usize,
    threads: usize,
    /// Of WebAssembly, in the pools: those of calls, and those that are kept for the next ones.
    instances: u64,
    /// Calls in progress, and with them places of the host that are taken.
    pub(super) calls: u64,
    /// Plugins with calls in progress, as `name: calls`.
    busy: Vec<String>,
    /// Bytes of everything that the host keeps in files, in 10⁶.
    data_mb: f64,
}

impl Held {
    pub(super) async fn of(host: &Process) -> anyhow::Result<Self> {
        let metrics = host.get("/metrics").await.text();
        let number = |name: &str| -> anyhow::Result<u64> {
            let mut lines = metrics.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value: f64 = value.with_context(|| format!("no {name}"))?.parse()?;
            Ok(value as u64)
        };
        let plugins = host.get("/_gantry/api/v1/plugins?limit=100").await;
        let plugins: Value = plugins.json();
        let busy = plugins["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|plugin| {
                let calls = plugin["invocations_in_progress"].as_u64()?;
                (calls > 0).then(|| format!("{}: {calls}", plugin["name"]))
            });
        Ok(Self {
            rss_mb: host.memory_bytes() as f64 / 1e6,
            pool_mb: host.reserved_bytes() as f64 / 1e6,
            handles: host.handles(),
            threads: host.all_threads(),
            instances: number("gantry_core_instances")?,
            calls: number("gantry_invocations_in_progress")?,
            busy: busy.collect(),
            data_mb: size_of(&host.data_dir()) as f64 / 1e6,
        })
    }
}

fn size_of(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => size_of(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What came of requests, by plugin, and how long those of the probe took.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    outcomes: BTreeMap<(String, String), Count>,
    times: Vec<Duration>,
}

#[derive(Debug, Clone, Default)]
struct Count {
    count: u64,
    unexpected: u64,
}

impl Tally {
    pub(super) fn count(&mut self, who: &str, outcome: &str, is_expected: bool) {
        let key = (who.to_owned(), outcome.to_owned());
        let count = self.outcomes.entry(key).or_default();
        count.count += 1;
        count.unexpected += u64::from(!is_expected);
    }

    pub(super) fn time(&mut self, took: Duration) {
        self.times.push(took);
    }

    pub(super) fn add(&mut self, other: Self) {
        for (key, more) in other.outcomes {
            let count = self.outcomes.entry(key).or_default();
            count.count += more.count;
            count.unexpected += more.unexpected;
        }
        self.times.extend(other.times);
    }

    fn all(&self) -> u64 {
        self.outcomes.values().map(|count| count.count).sum()
    }

    fn unexpected(&self) -> u64 {
        self.outcomes.values().map(|count| count.unexpected).sum()
    }

    /// The time in milliseconds within which this part of the probe's requests was answered.
    fn percentile_ms(&self, part: f64) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        let index = (times.len() as f64 * part) as usize;
        let time = times.get(index.min(times.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// One round.
#[derive(Debug, Clone)]
pub(super) struct Row {
    number: usize,
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    tally: Tally,
    held: Held,
}

/// Over the lines of rounds.
pub(super) const HEAD: &str = "round  requests/s  unexpected   p50 ms   p99 ms   RSS MB  of pools  handles  threads  instances  calls  data MB";

impl Row {
    pub(super) fn new(number: usize, round: Duration, tally: Tally, held: Held) -> Self {
        Self {
            number,
            per_s: tally.all() as f64 / round.as_secs_f64(),
            p50_ms: tally.percentile_ms(0.5),
            p99_ms: tally.percentile_ms(0.99),
            tally,
            held,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = &self.held;
        write!(
            f,
            "{:>5}  {:>10.0}  {:>10}  {:>7.2}  {:>7.2}  {:>7.1}  {:>8.1}  {:>7}  {:>7}  {:>9}  {:>5}  {:>7.1}",
            self.number,
            self.per_s,
            self.tally.unexpected(),
            self.p50_ms,
            self.p99_ms,
            held.rss_mb,
            held.pool_mb,
            held.handles,
            held.threads,
            held.instances,
            held.calls,
            held.data_mb,
        )
    }
}

/// How much more than after the first round may be held after the last one, for what a host keeps ready: threads that
/// wait for the next work, connections of databases.
const HANDLES_MORE_MAX: usize = 12;
const THREADS_MORE_MAX: usize = 12;
/// The part of the rounds in which the allocator and stacks get what they will keep: one of so many.
const WARM_UP: usize = 4;
/// How much memory may be more after that: a factor, and in any case so many 10⁶ bytes.
const RSS_FACTOR: f64 = 1.15;
const RSS_MORE_MB: f64 = 24.0;
/// How much longer the plain route may take in the last round: a factor, and in any case so many milliseconds.
const P50_FACTOR: f64 = 1.5;
const P50_MORE_MS: f64 = 0.3;
const P99_FACTOR: f64 = 2.0;
const P99_MORE_MS: f64 = 5.0;

/// What was seen in all rounds, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct Report {
    pub plugins: usize,
    /// Before the first request.
    before: Held,
    pub(super) rows: Vec<Row>,
    /// When the last plugin is gone.
    pub(super) end: Option<Held>,
}

impl Report {
    pub(super) fn new(plugins: usize, before: Held) -> Self {
        Self {
            plugins,
            before,
            rows: Vec::new(),
            end: None,
        }
    }

    /// What came of all requests.
    fn tally(&self) -> Tally {
        let mut all = Tally::default();
        self.rows.iter().for_each(|row| all.add(row.tally.clone()));
        all
    }

    /// What is out of bounds; nothing if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.leaks();
        faults.extend(self.drift());
        faults
    }

    /// What nobody expected, and what was not given back. Holds for rounds of any length.
    pub fn leaks(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for ((who, outcome), count) in &self.tally().outcomes {
            if count.unexpected > 0 {
                faults.push(format!("{who}: {outcome} ({} times)", count.unexpected));
            }
        }
        for Row { number, held, .. } in &self.rows {
            if held.calls > 0 || !held.busy.is_empty() {
                let busy = held.busy.join(", ");
                faults.push(format!(
                    "after round {number} {} calls go on ({busy})",
                    held.calls
                ));
            }
        }
        let [first, .., last] = &*self.rows else {
            faults.push("at least two rounds are needed".to_owned());
            return faults;
        };
        let (first, last) = (&first.held, &last.held);
        let counts = [
            ("handles", first.handles, last.handles, HANDLES_MORE_MAX),
            ("threads", first.threads, last.threads, THREADS_MORE_MAX),
        ];
        for (what, first, last, more_max) in counts {
            if last > first + more_max {
                faults.push(format!(
                    "{what}: {last} after the last round, {first} after the first"
                ));
            }
        }
        match &self.end {
            Some(end) => {
                let before = self.before.handles;
                if end.handles > before + HANDLES_MORE_MAX {
                    let handles = end.handles;
                    faults.push(format!("{handles} handles at the end, {before} before"));
                }
                if end.instances > 0 {
                    faults.push(format!("{} instances without a plugin", end.instances));
                }
            }
            None => faults.push("it did not come to its end".to_owned()),
        }
        faults
    }

    /// What has become more or slower from the first round to the last. Means something if rounds are long.
    fn drift(&self) -> Vec<String> {
        let [first, .., last] = &*self.rows else {
            return Vec::new();
        };
        let own_mb = |row: &Row| row.held.rss_mb - row.held.pool_mb;
        let warm = self.rows.get(self.rows.len() / WARM_UP).unwrap_or(first);
        let checks = [
            (
                "MB of memory beside the pools",
                own_mb(warm),
                own_mb(last),
                (RSS_FACTOR, RSS_MORE_MB),
            ),
            (
                "p50 in ms",
                first.p50_ms,
                last.p50_ms,
                (P50_FACTOR, P50_MORE_MS),
            ),
            (
                "p99 in ms",
                first.p99_ms,
                last.p99_ms,
                (P99_FACTOR, P99_MORE_MS),
            ),
        ];
        let judge = |(what, first, last, (factor, more)): (&str, f64, f64, (f64, f64))| {
            let max = (first * factor).max(first + more);
            let fault = format!(
                "{what}: {last:.2} in the last round, {first:.2} at first, at most {max:.2}"
            );
            // What was not measured is no good either.
            (last.is_nan() || max.is_nan() || last > max).then_some(fault)
        };
        checks.into_iter().filter_map(judge).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "what came of requests, by plugin; `!` was not expected")?;
        for ((who, outcome), count) in &self.tally().outcomes {
            let mark = if count.unexpected > 0 { "!" } else { " " };
            writeln!(f, "{mark} {:>9}  {who:<10}  {outcome}", count.count)?;
        }
        for (when, held) in [
            ("before", Some(&self.before)),
            ("at the end", self.end.as_ref()),
        ] {
            if let Some(held) = held {
                writeln!(
                    f,
                    "{when}: {:.1} MB of memory ({:.1} of pools), {} handles, {} threads, {} instances",
                    held.rss_mb, held.pool_mb, held.handles, held.threads, held.instances
                )?;
            }
        }
        let faults = self.faults();
        if faults.is_empty() {
            return write!(f, "verdict: flat");
        }
        write!(f, "verdict: NOT flat\n  {}", faults.join("\n  "))
    }
}
