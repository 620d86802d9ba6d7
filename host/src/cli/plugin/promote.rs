//! `gantry plugin promote`: gives a canary more requests, or all of them.

use http::Method;

use crate::admin::deployments::DeployedBody;
use crate::admin::rollouts::{CanaryRequest, PromoteRequest};
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::cli::plugin::deploy;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// So many of a hundred requests, 0 to 99. Default: all, and the canary becomes the live version.
    #[arg(long, value_name = "PERCENT")]
    weight: Option<u32>,
    /// Give it all requests even if it does not keep what the live version promises to its callers.
    #[arg(long, conflicts_with = "weight")]
    allow_breaking: bool,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let reason = args.reason;
    let deployed: DeployedBody = match args.weight {
        Some(weight_percent) => {
            let request = CanaryRequest {
                weight_percent,
                reason,
            };
            let path = ["plugins", &args.name, "canary"];
            client.send_json(Method::PUT, &path, &request).await?
        }
        None => {
            let path = ["plugins", &args.name, "promote"];
            let request = PromoteRequest {
                reason,
                allow_breaking: args.allow_breaking,
            };
            client.send_json(Method::POST, &path, &request).await?
        }
    };
    if args.json {
        return output::print_json(&deployed);
    }
    deploy::tell(&client, &deployed);
    output::next(&format!("gantry plugin status {}", args.name));
    Ok(())
}
