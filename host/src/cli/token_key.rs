//! `gantry token-key …`: the keys that sign access tokens.

use clap::{Subcommand, ValueEnum};
use http::Method;

use crate::admin::token_keys::{AddTokenKeyRequest, TokenKeyBody};
use crate::auth::TokenAlgorithm;
use crate::cli::client::{Client, Options};
use crate::cli::output;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the keys that sign access tokens, and those revoked lately.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new key, which takes the place of the one that signs. No request fails.
    Rotate {
        /// How it signs. Default: as the server's settings say.
        #[arg(long)]
        algorithm: Option<Algorithm>,
        /// Let it sign at once, and not only when other services had time to see it.
        #[arg(long)]
        at_once: bool,
    },
    /// Revoke a key: nothing that it has signed is good any more. Sessions stay.
    Revoke {
        /// Its id, as in the list.
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Algorithm {
    #[value(name = "EdDSA", alias = "eddsa")]
    EdDsa,
    #[value(name = "ES256", alias = "es256")]
    Es256,
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::List { json } => {
            let keys: Vec<TokenKeyBody> = client.list(&["token-keys"]).await?;
            if json {
                return output::print_json(&keys);
            }
            let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
            let heads = ["id", "algorithm", "state", "since", "created"];
            output::print(&output::table(&heads, &rows));
        }
        Command::Rotate { algorithm, at_once } => {
            let request = AddTokenKeyRequest {
                algorithm: algorithm.map(|algorithm| match algorithm {
                    Algorithm::EdDsa => TokenAlgorithm::EdDsa,
                    Algorithm::Es256 => TokenAlgorithm::Es256,
                }),
                at_once,
            };
            let path = ["token-keys"];
            let key: TokenKeyBody = client.send_json(Method::POST, &path, &request).await?;
            let when = match at_once {
                true => "it signs from now on",
                false => "it signs in about ten minutes",
            };
            output::progress("Created", &format!("{}; {when}", key.id));
        }
        Command::Revoke { id } => {
            client.delete(&["token-keys", &id]).await?;
            output::progress("Revoked", &id);
        }
    }
    Ok(())
}

fn row(key: TokenKeyBody) -> Vec<String> {
    vec![
        key.id,
        key.algorithm.as_str().to_owned(),
        key.state.as_str().to_owned(),
        key.since,
        key.created_at,
    ]
}
