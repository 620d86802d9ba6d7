//! `gantry plugin logs`: what a plugin logged, and what it logs now.

use std::io::IsTerminal as _;

use futures_util::StreamExt as _;
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
            output::progress("Nothing", &format!("was logged by {} yet", args.name));
        }
        return Ok(());
    }
    follow(&client, &args.name, args.level.as_deref(), args.json).await
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
                output::warn(&format!("{count} entries came too fast to be shown"))
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
    // Date and time without what stands after the milliseconds.
    let at = entry
        .at
        .get(..23)
        .unwrap_or(&entry.at)
        .trim_end_matches('Z');
    let context = if entry.context.is_empty() {
        String::new()
    } else {
        format!("{}: ", entry.context)
    };
    format!(
        "{at} {level} {}",
        output::plain(&format!("{context}{}", entry.message))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_whatever_the_plugin_writes() {
        let entry = LogEntryBody {
            at: "2026-11-21T10:00:00.123Z".to_owned(),
            level: "warn".to_owned(),
            context: "orders".to_owned(),
            message: "late\n\x1b[2J".to_owned(),
            deployment: None,
            request_id: None,
        };
        assert_eq!(
            line(&entry, false),
            "2026-11-21T10:00:00.123  WARN orders: late\u{fffd}\u{fffd}[2J"
        );
    }
}
