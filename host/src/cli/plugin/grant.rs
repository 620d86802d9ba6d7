//! `gantry plugin grant`: the operator's side of what a plugin may use.

use http::Method;

use crate::admin::grants::{GrantsBody, GrantsRequest};
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Grant these: `kv:LABEL`, `sql:LABEL`, `blobs:LABEL`, `cache:LABEL`, `http:HOST`, `secret:LABEL` or
    /// `secret:LABEL@HOST`.
    #[arg(value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// Grant everything that the live version asks for.
    #[arg(long, conflicts_with = "capabilities")]
    all: bool,
    /// Take this one away again. May be repeated.
    #[arg(long, value_name = "CAPABILITY")]
    revoke: Vec<String>,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let path = ["plugins", &args.name, "grants"];
    let mut body: GrantsBody = client.get(&path).await?;
    let mut wanted = args.capabilities;
    if args.all {
        wanted.append(&mut body.missing);
    }
    if !wanted.is_empty() {
        body = client
            .send_json(Method::POST, &path, &GrantsRequest { grants: wanted })
            .await?;
    }
    for capability in &args.revoke {
        client
            .delete(&["plugins", &args.name, "grants", capability])
            .await?;
    }
    if !args.revoke.is_empty() {
        body = client.get(&path).await?;
    }
    let row = |capability: &String, state: &str| vec![capability.clone(), state.to_owned()];
    let mut rows: Vec<Vec<String>> = body
        .grants
        .iter()
        .map(|grant| row(grant, "granted"))
        .collect();
    rows.extend(body.missing.iter().map(|grant| row(grant, "asked for")));
    output::print(&output::table(&["capability", "state"], &rows));
    if !body.missing.is_empty() {
        output::next(&format!("gantry plugin grant {} --all", args.name));
    }
    Ok(())
}
