//! `gantry plugin rollback`: makes an earlier deployment live again.

use http::Method;

use crate::admin::deployments::{DeployedBody, RollBackRequest};
use crate::cli::client::{Client, Options};
use crate::cli::failure::Usage;
use crate::cli::output;
use crate::cli::plugin::deploy;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// The deployment to go back to. Default: the one before the live one; if there is a canary, the live one.
    deployment: Option<String>,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let deployment = args.deployment.map(|id| id.parse()).transpose();
    let deployment = deployment.map_err(|_| {
        Usage("a deployment is named by its id; see `gantry plugin inspect`".to_owned())
    })?;
    let path = ["plugins", &args.name, "rollback"];
    let request = RollBackRequest {
        deployment,
        reason: args.reason,
    };
    let deployed: DeployedBody = client.send_json(Method::POST, &path, &request).await?;
    if args.json {
        return output::print_json(&deployed);
    }
    deploy::tell(&client, &deployed);
    if let Some(replaced) = &deployed.replaced {
        output::next(&format!(
            "gantry plugin rollback {} {replaced}   (to undo this)",
            args.name
        ));
    }
    Ok(())
}
