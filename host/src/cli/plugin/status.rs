//! `gantry plugin status`: which versions answer, and how well.

use std::time::Duration;

use crate::admin::rollouts::RolloutBody;
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Print it again every so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    loop {
        let status: RolloutBody = client.get(&["plugins", &args.name, "status"]).await?;
        if args.json {
            output::print_json(&status)?;
        } else {
            show(&status);
        }
        let Some(seconds) = args.watch else {
            return Ok(());
        };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

fn show(status: &RolloutBody) {
    let head = [
        "role",
        "version",
        "weight",
        "requests",
        "errors",
        "p50",
        "p99",
        "deployment",
    ];
    let rows: Vec<Vec<String>> = status
        .versions
        .iter()
        .map(|version| {
            vec![
                version.role.clone(),
                version.version.clone(),
                format!("{} %", version.weight_percent),
                version.requests.to_string(),
                format!("{:.1} %", version.error_rate * 100.0),
                format!("{:.1} ms", version.p50_ms),
                format!("{:.1} ms", version.p99_ms),
                version.deployment.clone(),
            ]
        })
        .collect();
    output::print(&output::table(&head, &rows));
    output::progress("Figures", &format!("of the last {} s", status.window_s));
    if let Some(approval) = &status.approval {
        let missing = approval.missing.join(", ");
        let what = format!("{} asks for {missing}", approval.version);
        output::progress("Waiting", &what);
        output::next(&format!("gantry plugin approve {}", status.plugin));
    } else if status.versions.len() > 1 {
        output::next(&format!("gantry plugin promote {}", status.plugin));
    }
}
