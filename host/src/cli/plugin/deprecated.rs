//! `gantry plugin deprecated`: who still calls routes that are deprecated.

use crate::admin::deprecated::DeprecatedCallsBody;
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let path = ["plugins", &args.name, "deprecated"];
    let calls: Vec<DeprecatedCallsBody> = client.list(&path).await?;
    if args.json {
        return output::print_json(&calls);
    }
    if calls.is_empty() {
        output::progress(
            "Nobody",
            "has called a deprecated route since the server was started",
        );
        return Ok(());
    }
    let row = |call: &DeprecatedCallsBody| {
        vec![
            call.route.clone(),
            call.version.clone().unwrap_or_default(),
            call.kind.clone(),
            call.caller.clone().unwrap_or_default(),
            call.calls.to_string(),
            call.last_at.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = calls.iter().map(row).collect();
    let head = ["route", "version", "kind", "caller", "calls", "last"];
    output::print(&output::table(&head, &rows));
    Ok(())
}
