//! `gantry plugin history`: what happened to the versions of a plugin, who did it and why.

use crate::admin::page::PageBody;
use crate::admin::rollouts::RolloutEventBody;
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Most lines, 1 to 200.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let limit = args.limit.to_string();
    let path = ["plugins", &args.name, "history"];
    let page: PageBody<RolloutEventBody> = client.get_with(&path, &[("limit", &limit)]).await?;
    if args.json {
        return output::print_json(&page.items);
    }
    let rows: Vec<Vec<String>> = page
        .items
        .into_iter()
        .map(|event| {
            let weight = event
                .weight_percent
                .map(|percent| format!(" ({percent} %)"));
            vec![
                event.at,
                format!("{}{}", event.kind, weight.unwrap_or_default()),
                event.version.unwrap_or_default(),
                event.by,
                event.reason.unwrap_or_default(),
            ]
        })
        .collect();
    output::print(&output::table(
        &["when", "what", "version", "by", "why"],
        &rows,
    ));
    Ok(())
}
