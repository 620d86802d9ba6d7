//! `gantry plugin remove`: takes a plugin off the server.

use crate::cli::client::{Client, Options};
use crate::cli::failure::Usage;
use crate::cli::output;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin.
    name: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: Args, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    if !args.yes {
        if !output::can_ask() {
            return Err(Usage("nobody is here to ask; say --yes".to_owned()).into());
        }
        if !output::confirm(&format!(
            "Take `{}` off the server? Its data stays.",
            args.name
        ))? {
            return Ok(());
        }
    }
    client.delete(&["plugins", &args.name]).await?;
    output::progress("Removed", &args.name);
    Ok(())
}
