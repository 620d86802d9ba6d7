//! `gantry plugin list`: what is on the server.

use crate::admin::plugins::PluginBody;
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let plugins: Vec<PluginBody> = client.list(&["plugins"]).await?;
    if args.json {
        return output::print_json(&plugins);
    }
    let rows: Vec<Vec<String>> = plugins.iter().map(row).collect();
    output::print(&output::table(
        &["name", "version", "mount", "routes", "state"],
        &rows,
    ));
    match plugins.first() {
        Some(plugin) => output::next(&format!("gantry plugin inspect {}", plugin.name)),
        None => output::next("gantry plugin new hello"),
    }
    Ok(())
}

fn row(plugin: &PluginBody) -> Vec<String> {
    let state = match (&plugin.last_error, &plugin.deployment) {
        (Some(error), Some(_)) => format!("live, but the newer deployment failed: {error}"),
        (Some(error), None) => format!("not live: {error}"),
        (None, _) if plugin.held_routes.iter().any(|held| held.is_for_everybody) => {
            "live, but a part of it keeps crashing".to_owned()
        }
        (None, _) => "live".to_owned(),
    };
    let host = plugin.mount.host.as_deref().unwrap_or_default();
    vec![
        plugin.name.clone(),
        plugin.version.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{host}{}", plugin.mount.path),
        plugin.routes.len().to_string(),
        output::plain(&state),
    ]
}
