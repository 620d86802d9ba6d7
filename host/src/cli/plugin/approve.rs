//! `gantry plugin approve`: agrees to what an upgrade asks for, or refuses it.

use http::Method;

use crate::admin::deployments::DeployedBody;
use crate::admin::rollouts::{ApprovalBody, ApproveRequest};
use crate::cli::client::{Client, Options};
use crate::cli::failure::Usage;
use crate::cli::output;
use crate::cli::plugin::deploy;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Refuse it. What is live stays live.
    #[arg(long)]
    reject: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Why, for the history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let path = ["plugins", &args.name, "approval"];
    let approval: ApprovalBody = client.get(&path).await?;
    if args.reject {
        let reason = args.reason.as_deref().map(|reason| ("reason", reason));
        client.delete_with(&path, reason.as_slice()).await?;
        output::progress("Refused", &format!("{} {}", args.name, approval.version));
        return Ok(());
    }
    eprintln!(
        "`{}` {} asks for what it was not granted yet:",
        args.name,
        output::plain(&approval.version)
    );
    for grant in &approval.missing {
        eprintln!("  {}", output::plain(grant));
    }
    if !args.yes {
        let is_agreed = output::can_ask() && output::confirm("Grant all of it?")?;
        if !is_agreed {
            let help = "nothing was granted; say --yes to agree, or --reject to refuse";
            return Err(Usage(help.to_owned()).into());
        }
    }
    let request = ApproveRequest {
        deployment: approval.deployment.parse()?,
        reason: args.reason,
    };
    let deployed: DeployedBody = client.send_json(Method::POST, &path, &request).await?;
    deploy::tell(&client, &deployed);
    output::next(&format!("gantry plugin status {}", args.name));
    Ok(())
}
