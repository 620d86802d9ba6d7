//! `gantry user …`: accounts. Passwords come from a prompt or standard input, never from the arguments, where everybody
//! on the machine could read them.

use clap::Subcommand;
use http::Method;

use crate::admin::page::PageBody;
use crate::admin::sessions::SessionBody;
use crate::admin::users::{
    CreateUserRequest, SetDisabledRequest, SetPasswordRequest, SetRolesRequest, UserBody,
};
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::ids::{RoleName, SessionId};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an account. Asks for the password, or reads it from standard input.
    Add {
        email: String,
        /// A role of the account. May be repeated.
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleName>,
    },
    /// List accounts.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set the roles of an account, in place of those before. It counts at once.
    Roles { email: String, roles: Vec<RoleName> },
    /// Set the password of an account, and end its sessions.
    Password { email: String },
    /// Disable an account, and end its sessions.
    Disable { email: String },
    /// Enable an account again.
    Enable { email: String },
    /// List where somebody is logged in.
    Sessions {
        email: String,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// End the sessions of an account, at once. The account stays as it is.
    Logout {
        email: String,
        /// Only this session.
        #[arg(long, value_name = "ID")]
        session: Option<SessionId>,
    },
    /// Remove the second factor of an account, for somebody who has lost it.
    RemoveTotp { email: String },
    /// Delete an account.
    Remove { email: String },
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::Add { email, roles } => {
            let password = output::read_password(&format!("Password for {email}"))?;
            let request = CreateUserRequest {
                email,
                password: password.to_string(),
                roles,
            };
            let user: UserBody = client.send_json(Method::POST, &["users"], &request).await?;
            output::progress("Created", &format!("{} ({})", user.email, user.id));
            if user.roles.is_empty() {
                output::next(&format!("gantry user roles {} ROLE", user.email));
            }
        }
        Command::List { json } => {
            let users: Vec<UserBody> = client.list(&["users"]).await?;
            if json {
                return output::print_json(&users);
            }
            let rows: Vec<Vec<String>> = users.into_iter().map(row).collect();
            output::print(&output::table(
                &["email", "roles", "state", "created"],
                &rows,
            ));
        }
        Command::Roles { email, roles } => {
            let id = find(&client, &email).await?.id;
            let path = ["users", &id, "roles"];
            let user: UserBody = client
                .send_json(Method::PUT, &path, &SetRolesRequest { roles })
                .await?;
            output::progress(
                "Changed",
                &format!("{}: {}", user.email, user.roles.join(", ")),
            );
        }
        Command::Password { email } => {
            let id = find(&client, &email).await?.id;
            let password = output::read_password(&format!("New password for {email}"))?;
            let request = SetPasswordRequest {
                password: password.to_string(),
            };
            let () = client
                .send_json(Method::PUT, &["users", &id, "password"], &request)
                .await?;
            output::progress("Changed", &format!("the password of {email}"));
        }
        Command::Disable { email } => set_disabled(&client, &email, true).await?,
        Command::Enable { email } => set_disabled(&client, &email, false).await?,
        Command::Sessions { email, json } => {
            let id = find(&client, &email).await?.id;
            let sessions: Vec<SessionBody> = client.list(&["users", &id, "sessions"]).await?;
            if json {
                return output::print_json(&sessions);
            }
            let rows: Vec<Vec<String>> = sessions.into_iter().map(session_row).collect();
            let heads = ["id", "client", "agent", "began", "last used", "until"];
            output::print(&output::table(&heads, &rows));
        }
        Command::Logout { email, session } => {
            let id = find(&client, &email).await?.id;
            match session {
                Some(session) => {
                    let session = session.to_string();
                    client.delete(&["users", &id, "sessions", &session]).await?;
                    output::progress("Ended", &session);
                }
                None => {
                    client.delete(&["users", &id, "sessions"]).await?;
                    output::progress("Ended", &format!("all sessions of {email}"));
                }
            }
        }
        Command::RemoveTotp { email } => {
            let id = find(&client, &email).await?.id;
            client.delete(&["users", &id, "totp"]).await?;
            output::progress("Removed", &format!("the second factor of {email}"));
        }
        Command::Remove { email } => {
            let id = find(&client, &email).await?.id;
            client.delete(&["users", &id]).await?;
            output::progress("Deleted", &email);
        }
    }
    Ok(())
}

async fn set_disabled(client: &Client, email: &str, is_disabled: bool) -> anyhow::Result<()> {
    let id = find(client, email).await?.id;
    let request = SetDisabledRequest { is_disabled };
    let user: UserBody = client
        .send_json(Method::PUT, &["users", &id, "disabled"], &request)
        .await?;
    output::progress(
        if user.is_disabled {
            "Disabled"
        } else {
            "Enabled"
        },
        &user.email,
    );
    Ok(())
}

async fn find(client: &Client, email: &str) -> anyhow::Result<UserBody> {
    let page: PageBody<UserBody> = client.get_with(&["users"], &[("email", email)]).await?;
    let user = page.items.into_iter().next();
    user.ok_or_else(|| anyhow::anyhow!("there is no account {email}; `gantry user list` shows all"))
}

fn session_row(session: SessionBody) -> Vec<String> {
    vec![
        session.id,
        output::plain(&session.client),
        output::plain(&session.agent),
        session.created_at,
        session.used_at,
        session.expires_at,
    ]
}

fn row(user: UserBody) -> Vec<String> {
    let state = if user.is_disabled {
        "disabled"
    } else {
        "active"
    };
    vec![
        user.email,
        user.roles.join(", "),
        state.to_owned(),
        user.created_at,
    ]
}
