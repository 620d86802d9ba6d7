//! `gantry role …`: bundles of permissions.

use clap::Subcommand;
use http::Method;

use crate::admin::roles::{CreateRoleRequest, PermissionBody, RoleBody, SetPermissionsRequest};
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::ids::RoleName;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List roles and what they carry.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create a role.
    Create {
        name: RoleName,
        permissions: Vec<String>,
    },
    /// Set the permissions of a role, in place of those before. It counts at once.
    Set {
        name: RoleName,
        permissions: Vec<String>,
    },
    /// Delete a role that nobody holds.
    Remove { name: RoleName },
    /// List what roles can carry: rights on the host, and those that plugins define.
    Permissions,
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::List { json } => {
            let roles: Vec<RoleBody> = client.list(&["roles"]).await?;
            if json {
                return output::print_json(&roles);
            }
            let rows: Vec<Vec<String>> = roles
                .into_iter()
                .map(|role| vec![role.name, role.permissions.join(", ")])
                .collect();
            output::print(&output::table(&["role", "permissions"], &rows));
        }
        Command::Create { name, permissions } => {
            tell_unknown(&client, &permissions).await;
            let request = CreateRoleRequest { name, permissions };
            let role: RoleBody = client.send_json(Method::POST, &["roles"], &request).await?;
            output::progress(
                "Created",
                &format!("{}: {}", role.name, role.permissions.join(", ")),
            );
            output::next(&format!("gantry user roles EMAIL {}", role.name));
        }
        Command::Set { name, permissions } => {
            tell_unknown(&client, &permissions).await;
            let path = ["roles", name.as_str(), "permissions"];
            let request = SetPermissionsRequest { permissions };
            let role: RoleBody = client.send_json(Method::PUT, &path, &request).await?;
            output::progress(
                "Changed",
                &format!("{}: {}", role.name, role.permissions.join(", ")),
            );
        }
        Command::Remove { name } => {
            client.delete(&["roles", name.as_str()]).await?;
            output::progress("Deleted", name.as_str());
        }
        Command::Permissions => {
            let permissions: Vec<PermissionBody> = client.list(&["permissions"]).await?;
            let row = |permission: PermissionBody| {
                vec![
                    permission.name,
                    output::plain(&permission.description.unwrap_or_default()),
                ]
            };
            let rows: Vec<Vec<String>> = permissions.into_iter().map(row).collect();
            output::print(&output::table(&["permission", "description"], &rows));
        }
    }
    Ok(())
}

/// Says which of these nobody defines now. A plugin that does may be deployed later, so it is no error.
pub(super) async fn tell_unknown(client: &Client, permissions: &[String]) {
    let known: anyhow::Result<Vec<PermissionBody>> = client.list(&["permissions"]).await;
    let Ok(known) = known else { return };
    for name in permissions {
        // `*`, and `plugin:*`, stand for all that begin so.
        let begin = name.strip_suffix('*');
        let is_meant = |permission: &PermissionBody| match begin {
            Some(begin) => permission.name.starts_with(begin),
            None => permission.name == *name,
        };
        if !known.iter().any(is_meant) {
            output::warn(&format!(
                "no plugin that is deployed defines `{name}`; `gantry role permissions` lists what there is"
            ));
        }
    }
}
