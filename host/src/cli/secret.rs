//! `gantry secret …`: the secrets of plugins. Values come from a prompt or standard input, never from the arguments, and
//! are never printed.

use bytes::Bytes;
use clap::Subcommand;
use http::Method;

use crate::admin::secrets::{SecretBody, SecretSetBody};
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Set a secret. Asks for the value, or reads it from standard input.
    Set { plugin: String, label: String },
    /// List the secrets of a plugin, without their values.
    List { plugin: String },
    /// Delete a secret.
    Remove { plugin: String, label: String },
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::Set { plugin, label } => {
            let value = output::read_secret(&format!("Value of {label} for {plugin}"))?;
            let path = ["plugins", &plugin, "secrets", &label];
            let value = Bytes::copy_from_slice(&value);
            let set: SecretSetBody = client.send_bytes(Method::PUT, &path, &[], value).await?;
            output::progress(
                "Set",
                &format!("{} of {plugin} (revision {})", set.label, set.revision),
            );
        }
        Command::List { plugin } => {
            let secrets: Vec<SecretBody> = client.list(&["plugins", &plugin, "secrets"]).await?;
            let rows: Vec<Vec<String>> = secrets
                .into_iter()
                .map(|secret| vec![secret.label, secret.revision, secret.updated_at])
                .collect();
            output::print(&output::table(&["label", "revision", "set"], &rows));
        }
        Command::Remove { plugin, label } => {
            client
                .delete(&["plugins", &plugin, "secrets", &label])
                .await?;
            output::progress("Deleted", &format!("{label} of {plugin}"));
        }
    }
    Ok(())
}
