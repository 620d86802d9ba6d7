//! `gantry plugin logs`: what a plugin logged, and what it logs now.

use std::io::IsTerminal as _;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;

use crate::admin::logs::LogEntryBody;
use crate::admin::page::PageBody;
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Go on with what is logged from now on.
    #[arg(long, short)]
    follow: bool,
    /// Only this level and graver ones.
    #[arg(long, value_parser = ["trace", "debug", "info", "warn", "error", "critical"])]
    level: Option<String>,
    /// Only what was logged during this request.
    #[arg(long, value_name = "ID", conflicts_with = "follow")]
    request: Option<String>,
    /// Most entries from before.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Print each entry as JSON on a line of its own.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let limit = args.limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(args.level.as_deref().map(|level| ("level", level)));
    query.extend(args.request.as_deref().map(|id| ("request_id", id)));
    let page: PageBody<LogEntryBody> = client
        .get_with(&["plugins", &args.name, "logs"], &query)
        .await?;
    for entry in page.items.iter().rev() {
        print(entry, args.json)?;
    }
    if !args.follow {
        if page.items.is_empty() {
            output::progress("Nothing", &nothing(&args));
        }
        return Ok(());
    }
    follow(&client, &args.name, args.level.as_deref(), args.json).await
}

/// Why there is nothing to see: there may well be entries that were not asked for.
fn nothing(args: &Args) -> String {
    let name = &args.name;
    match (&args.level, &args.request) {
        (None, None) => format!("was logged by {name} yet"),
        (Some(level), None) => {
            format!("that {name} logged has the level `{level}` or a graver one")
        }
        (None, Some(id)) => {
            format!("was logged by {name} during the request {id}; has it reached the plugin?")
        }
        (Some(level), Some(id)) => {
            format!("of the level `{level}` or graver was logged by {name} during the request {id}")
        }
    }
}

/// Prints what the plugin logs from now on, until the server ends the stream.
pub(super) async fn follow(
    client: &Client,
    plugin: &str,
    level: Option<&str>,
    is_json: bool,
) -> anyhow::Result<()> {
    let query: Vec<(&str, &str)> = level.map(|level| ("level", level)).into_iter().collect();
    let mut events = client
        .follow(&["plugins", plugin, "logs", "follow"], &query)
        .await?;
    while let Some(data) = events.next().await {
        match serde_json::from_str::<Event>(&data?)? {
            Event::Entry(entry) => print(&entry, is_json)?,
            Event::Missed(count) => {
                let entries = if count == 1 { "entry" } else { "entries" };
                output::warn(&format!("{count} {entries} came too fast to be shown"));
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Missed(u64),
    Entry(LogEntryBody),
}

fn print(entry: &LogEntryBody, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        output::print(&(serde_json::to_string(entry)? + "\n"));
    } else {
        output::print(&(line(entry, std::io::stdout().is_terminal()) + "\n"));
    }
    Ok(())
}

/// An entry for people. The message comes from a plugin, so it cannot be trusted with the terminal.
fn line(entry: &LogEntryBody, has_colours: bool) -> String {
    let colour = match entry.level.as_str() {
        "error" | "critical" => "31",
        "warn" => "33",
        "info" => "32",
        _ => "2",
    };
    let level = entry.level.to_uppercase();
    let level = if has_colours {
        format!("\x1b[{colour}m{level:>5}\x1b[0m")
    } else {
        format!("{level:>5}")
    };
    let at = entry.at.parse::<Timestamp>();
    let at = at.map_or_else(|_| output::plain(&entry.at), |at| format!("{at:.3}"));
    let context = if entry.context.is_empty() {
        String::new()
    } else {
        format!("{}: ", entry.context)
    };
    // Last, so that messages stand below one another. `--request` takes it.
    let request = match &entry.request_id {
        Some(id) if has_colours => format!("  \x1b[2m{}\x1b[0m", output::plain(id)),
        Some(id) => format!("  {}", output::plain(id)),
        None => String::new(),
    };
    // A backtrace has many lines, an entry has one.
    let message = format!("{context}{}", entry.message.trim_end()).replace('\n', " ↵ ");
    format!("{at} {level} {}{request}", output::plain(&message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_with_its_request_whatever_the_plugin_writes() {
        let mut entry = LogEntryBody {
            at: "2026-11-21T10:00:00.12Z".to_owned(),
            level: "warn".to_owned(),
            context: "orders".to_owned(),
            message: "late\n\x1b[2J".to_owned(),
            deployment: None,
            request_id: None,
        };
        assert_eq!(
            line(&entry, false),
            "2026-11-21T10:00:00.120Z  WARN orders: late ↵ \u{fffd}[2J"
        );
        entry.request_id = Some("01a1fe0c".to_owned());
        assert!(line(&entry, false).ends_with("[2J  01a1fe0c"));
    }

    #[test]
    fn nothing_found_is_not_told_as_nothing_logged() {
        let mut args = Args {
            name: "shop".to_owned(),
            follow: false,
            level: None,
            request: None,
            limit: 50,
            json: false,
        };
        assert_eq!(nothing(&args), "was logged by shop yet");
        args.level = Some("warn".to_owned());
        assert!(nothing(&args).contains("`warn` or a graver one"));
        args.request = Some("r1".to_owned());
        assert!(nothing(&args).contains("during the request r1"));
    }
}
