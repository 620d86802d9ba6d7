//! `gantry cache …`: what is kept of plugins' answers.

use clap::Subcommand;
use http::Method;

use crate::admin::cache::{CacheBody, PurgeRequest, PurgedBody};
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show how much is kept of each plugin.
    Show {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Throw away what is kept of a plugin: everything, or what has a tag, or answers of a route or path.
    Purge {
        plugin: String,
        #[arg(long, conflicts_with_all = ["route", "path"])]
        tag: Option<String>,
        /// The pattern of a route, as the manifest has it.
        #[arg(long, conflicts_with = "path")]
        route: Option<String>,
        /// A path as clients ask for it, without a query.
        #[arg(long)]
        path: Option<String>,
    },
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::Show { json } => {
            let cache: CacheBody = client.get(&["cache"]).await?;
            if json {
                return output::print_json(&cache);
            }
            let rows: Vec<Vec<String>> = cache
                .plugins
                .into_iter()
                .map(|of| {
                    let numbers = [of.entries, of.bytes, of.evictions];
                    let numbers = numbers.iter().map(u64::to_string);
                    std::iter::once(of.plugin).chain(numbers).collect()
                })
                .collect();
            let heads = ["plugin", "entries", "bytes", "evictions"];
            output::print(&output::table(&heads, &rows));
        }
        Command::Purge {
            plugin,
            tag,
            route,
            path,
        } => {
            let request = PurgeRequest {
                plugin,
                tag,
                route,
                path,
            };
            let to = ["cache", "purge"];
            let purged: PurgedBody = client.send_json(Method::POST, &to, &request).await?;
            let what = format!("{} entries of {}", purged.entries, request.plugin);
            output::progress("Threw away", &what);
        }
    }
    Ok(())
}
