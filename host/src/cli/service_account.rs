//! `gantry service-account …`: accounts of programs, which own API keys.

use clap::Subcommand;
use http::Method;

use crate::admin::service_accounts::{
    CreateServiceAccountRequest, ServiceAccountBody, SetServiceAccountRequest,
};
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::ids::RoleName;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an account for a program. `gantry key create --service-account` gives it keys.
    Create {
        /// Which program it is.
        name: String,
        /// A role of the account. May be repeated.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleName>,
    },
    /// List accounts of programs.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give an account these roles instead of those before.
    Roles {
        id: String,
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleName>,
    },
    /// Disable an account: its keys open nothing until it is enabled again.
    Disable { id: String },
    /// Enable an account again.
    Enable { id: String },
    /// Delete an account and revoke its keys.
    Delete { id: String },
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::Create { name, roles } => {
            let request = CreateServiceAccountRequest { name, roles };
            let path = ["service-accounts"];
            let account: ServiceAccountBody =
                client.send_json(Method::POST, &path, &request).await?;
            output::progress("Created", &account.name);
            output::print(&format!("{}\n", account.id));
        }
        Command::List { json } => {
            let accounts: Vec<ServiceAccountBody> = client.list(&["service-accounts"]).await?;
            if json {
                return output::print_json(&accounts);
            }
            let rows: Vec<Vec<String>> = accounts.into_iter().map(row).collect();
            output::print(&output::table(&["id", "name", "roles", "state"], &rows));
        }
        Command::Roles { id, roles } => {
            let request = SetServiceAccountRequest {
                roles: Some(roles),
                is_disabled: None,
            };
            set(&client, &id, &request).await?;
        }
        Command::Disable { id } => set(&client, &id, &disabled(true)).await?,
        Command::Enable { id } => set(&client, &id, &disabled(false)).await?,
        Command::Delete { id } => {
            client.delete(&["service-accounts", &id]).await?;
            output::progress("Deleted", &id);
        }
    }
    Ok(())
}

fn disabled(is_disabled: bool) -> SetServiceAccountRequest {
    SetServiceAccountRequest {
        roles: None,
        is_disabled: Some(is_disabled),
    }
}

async fn set(client: &Client, id: &str, request: &SetServiceAccountRequest) -> anyhow::Result<()> {
    let path = ["service-accounts", id];
    let account: ServiceAccountBody = client.send_json(Method::PUT, &path, request).await?;
    output::progress("Changed", &account.name);
    Ok(())
}

fn row(account: ServiceAccountBody) -> Vec<String> {
    let state = match account.is_disabled {
        true => "disabled",
        false => "active",
    };
    vec![
        account.id,
        output::plain(&account.name),
        account.roles.join(", "),
        state.to_owned(),
    ]
}
