//! How fast the host is. Every figure over HTTP is measured side by side, in alternating rounds, against a bare native
//! server with the same handler; the load comes from `wrk`. `--only GROUP` measures a part. Prints machine, settings, medians and errors; `--json FILE`
//! writes the figures as one object. `languages` measures what a plugin costs by the language it is written in.

mod accounts;
mod cached;
mod inside;
mod languages;
mod limits;
mod load;
mod neighbour;
mod peer;
mod scale;
mod servers;
mod soak;

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(server) = arguments.strip_prefix(&["serve".to_owned()]) {
        return servers::serve(server.first().map(String::as_str).unwrap_or_default());
    }
    if let Some(plugins) = arguments.strip_prefix(&["languages".to_owned()]) {
        print_machine();
        return languages::measure(plugins);
    }
    let options = Options::read(&arguments)?;
    let mut figures = BTreeMap::new();
    print_machine();
    println!(
        "over HTTP: {} rounds of {:?}, wrk with 1 thread and 32 connections\n",
        options.rounds, options.round
    );
    if options
        .groups
        .iter()
        .any(|group| ![LONG, "inside", "neighbour"].contains(group))
    {
        let wrk = Command::new("wrk").arg("--version").output();
        wrk.context("`wrk` is not installed; on Debian: apt-get install wrk")?;
    }
    for group in options.groups {
        println!("\n{group}");
        match group {
            "accounts" => accounts::measure(options.rounds, options.round, &mut figures)?,
            "cached" => cached::measure(options.rounds, options.round, &mut figures)?,
            "inside" => inside::measure(&mut figures)?,
            "limits" => limits::measure(options.rounds, options.round, &mut figures)?,
            "neighbour" => neighbour::measure(options.rounds, options.round, &mut figures)?,
            "peer" => peer::measure(options.rounds, options.round, &mut figures)?,
            "scale" => scale::measure(options.rounds, options.round, &mut figures)?,
            "soak" => soak::measure(options.minutes, &mut figures)?,
            _ => load::measure(options.rounds, options.round, &mut figures)?,
        }
    }
    println!("\nfigures");
    for (name, value) in &figures {
        println!("{name:<36} {value:.3}");
    }
    if let Some(path) = options.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&figures)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What can be measured by itself, with `--only`.
const GROUPS: &[&str] = &[
    "load",
    "cached",
    "inside",
    "scale",
    "neighbour",
    "peer",
    "accounts",
    "limits",
    "soak",
];

/// Takes `--minutes`, and so is measured only if it is named.
const LONG: &str = "soak";

/// The figures by name.
type Figures = BTreeMap<String, f64>;

struct Options {
    rounds: usize,
    round: Duration,
    json: Option<PathBuf>,
    /// Of the group that goes on for long.
    minutes: usize,
    groups: Vec<&'static str>,
}

impl Options {
    fn read(arguments: &[String]) -> anyhow::Result<Self> {
        let mut options = Self {
            rounds: 5,
            round: Duration::from_secs(3),
            json: None,
            minutes: 10,
            groups: GROUPS
                .iter()
                .copied()
                .filter(|group| *group != LONG)
                .collect(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--seconds" => options.round = Duration::from_secs(value()?.parse::<u64>()?.max(1)),
                "--minutes" => options.minutes = value()?.parse::<usize>()?.max(2),
                "--json" => options.json = Some(value()?.into()),
                "--only" => options.groups = groups(value()?)?,
                other => anyhow::bail!(
                    "there is no option `{other}`: --rounds N, --seconds N, --minutes N, --json FILE, --only GROUP,…"
                ),
            }
        }
        Ok(options)
    }
}

/// The groups with these names.
fn groups(names: &str) -> anyhow::Result<Vec<&'static str>> {
    let find = |name: &str| {
        let group = GROUPS.iter().copied().find(|group| *group == name);
        group.with_context(|| format!("there is no group `{name}`: {}", GROUPS.join(", ")))
    };
    names.split(',').map(find).collect()
}

fn print_machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{model}, {cores} processors, Linux {}", kernel.trim());
    if cfg!(debug_assertions) {
        println!("WARNING: this is not a release build; the figures mean nothing");
    }
}

/// The value in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
