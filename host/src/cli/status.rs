//! `gantry status`: what the server is doing.

use crate::admin::status::StatusBody;
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let status: StatusBody = client.get(&["status"]).await?;
    if args.json {
        return output::print_json(&status);
    }
    let rows = [
        (
            "server",
            format!("{} (Gantry {})", client.address(""), status.version),
        ),
        ("up", format!("{} s", status.uptime_s)),
        (
            "plugins",
            format!(
                "{} live, {} failed",
                status.plugins_live, status.plugins_failed
            ),
        ),
        (
            "invocations",
            format!("{} in progress", status.invocations_in_progress),
        ),
    ]
    .map(|(what, value)| vec![what.to_owned(), value]);
    output::print(&output::table(&["what", "value"], &rows));
    for setting in &status.idle_settings {
        output::warn(setting);
    }
    if status.plugins_failed > 0 {
        output::next("gantry plugin list");
    }
    Ok(())
}
