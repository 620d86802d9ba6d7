//! `gantry plugin test`: runs the tests of plugin.toml on a real host of their own, in this process. No server is needed.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;

use crate::app;
use crate::cli::output;
use crate::cli::plugin::build::build;
use crate::cli::plugin::project::{Packed, check};
use crate::config::Config;
use crate::plugins::rehearsal::{Play, Report, TestReport};
use crate::runtime::EntryKind;

/// Longest time for all tests, failures included.
const TIME_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A folder with a plugin.toml, which is built first, or a bundle (.gantry).
    #[arg(default_value = ".")]
    what: PathBuf,
    /// Only tests with this in their name.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only the tests as they stand. Otherwise each call of a service is made to fail once, too, in every way it can: the
    /// plugin must answer with a problem or go on without, and not break down.
    #[arg(long)]
    no_failures: bool,
    /// A file with the server's settings, for its limits and ceilings. Without one, the defaults count.
    #[arg(long, env = "GANTRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Follow orders on standard input, one line of JSON each, instead of the tests in plugin.toml. The SDK's `#[gantry_sdk::test]`
    /// uses it.
    #[arg(long, conflicts_with_all = ["only", "no_failures", "json"])]
    serve: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::load(args.config.as_deref())?;
    let packed = load(&args.what)?;
    let mut play = Play::of(
        &packed.bytes,
        &packed.plugin.manifest,
        &packed.plugin.migrations,
    );
    if args.serve {
        let orders = tokio::io::BufReader::new(tokio::io::stdin());
        let serve = app::serve_tests(config, play, orders, tokio::io::stdout());
        return Box::pin(serve).await;
    }
    let all = play.tests.len();
    if let Some(only) = &args.only {
        play.tests.retain(|test| test.name.contains(only));
    }
    if play.tests.is_empty() {
        if all > 0 {
            bail!("none of the {all} tests has this in its name");
        }
        output::warn(match packed.plugin.entry {
            EntryKind::Filter => "filters have no `[[test]]`; `cargo test` runs the plugin's own",
            _ => "plugin.toml has no `[[test]]`; docs/guide/testing.md shows how to write one",
        });
        return Ok(());
    }
    let about = &packed.plugin.manifest.plugin;
    output::progress(
        "Testing",
        &format!("{} {} on a host of its own", about.name, about.version),
    );
    play.with_failures = !args.no_failures;
    play.time_max = TIME_MAX;
    let report = app::rehearse(config, play).await?;
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&shown(&report));
    }
    if report.is_passed() {
        let took = format!("{} in {} ms", report.summary(), report.took_ms);
        output::progress("Tested", &took);
        Ok(())
    } else {
        bail!(report.summary())
    }
}

fn load(what: &Path) -> anyhow::Result<Packed> {
    if what.is_dir() {
        return Ok(build(what)?.1);
    }
    let bytes = std::fs::read(what).with_context(|| format!("cannot read {}", what.display()))?;
    check(Bytes::from(bytes), Path::new("plugin.toml"))
}

/// A line for each test, with what was wrong below it.
pub(super) fn shown(report: &Report) -> String {
    report.tests.iter().map(shown_test).collect()
}

fn shown_test(test: &TestReport) -> String {
    let mark = if test.mistakes.is_empty() {
        "ok    "
    } else {
        "FAILED"
    };
    let survived = match test.failures {
        0 => String::new(),
        failures => format!(", {failures} failures tried"),
    };
    let mut text = format!(
        "{mark}  {}  ({} calls{survived}, {} ms)\n",
        output::plain(&test.name),
        test.calls,
        test.took_ms
    );
    for mistake in &test.mistakes {
        text.push_str(&format!("          {}\n", output::plain(mistake)));
    }
    for line in &test.log {
        text.push_str(&format!("          log: {}\n", output::plain(line)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_failed_shows_why_and_what_the_plugin_logged() {
        let report = Report {
            tests: vec![
                TestReport {
                    name: "a visit is counted".to_owned(),
                    calls: 2,
                    failures: 4,
                    took_ms: 12,
                    ..TestReport::default()
                },
                TestReport {
                    name: "a page is forgotten".to_owned(),
                    mistakes: vec![
                        "request 1, GET /: the status is 500 and not 200: oops\u{7}".to_owned(),
                    ],
                    log: vec!["warn  late".to_owned()],
                    ..TestReport::default()
                },
            ],
            took_ms: 40,
        };
        assert_eq!(
            shown(&report),
            "ok      a visit is counted  (2 calls, 4 failures tried, 12 ms)\n\
             FAILED  a page is forgotten  (0 calls, 0 ms)\n\
             \x20         request 1, GET /: the status is 500 and not 200: oops\u{fffd}\n\
             \x20         log: warn  late\n"
        );
        assert_eq!(report.summary(), "1 of 2 tests failed");
    }
}
