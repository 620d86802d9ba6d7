//! `gantry trust …`: whose plugins the server takes.

use anyhow::bail;
use clap::Subcommand;
use http::Method;
use jiff::{SignedDuration, Timestamp};

use crate::admin::trust::{
    AddKeyRequest, SetKeyRequest, TrustBody, TrustChangedBody, TrustedKeyBody,
};
use crate::cli::client::{Client, Options};
use crate::cli::failure::Usage;
use crate::cli::key::duration;
use crate::cli::output;
use crate::cli::plugin::read_public;
use crate::plugins::trust::Policy;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what the server does about signatures, and which live plugins no trusted key stands for.
    Status {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the keys that may sign plugins.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Trust a key.
    Add {
        /// The public key, itself or the file that it is in.
        key: String,
        /// Whose it is.
        #[arg(long)]
        owner: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Say anew which plugins a key may sign and until when. It counts at once.
    Set {
        /// The id of the key.
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Let nothing count any more that a key signed, whenever that was. Where signatures are required, what is live by its
    /// word stops.
    Revoke {
        /// The id of the key.
        id: String,
        /// Do it without a question.
        #[arg(long)]
        yes: bool,
    },
    /// Forget a key. To plugins it is the same as revoking it.
    Remove {
        /// The id of the key.
        id: String,
        /// Do it without a question.
        #[arg(long)]
        yes: bool,
    },
}

/// What a key may sign.
#[derive(Debug, clap::Args)]
pub(super) struct Scope {
    /// A plugin that it may sign: a name, the beginning of names and `*`, or `*` for all. May be repeated.
    #[arg(long = "plugin", value_name = "NAME", required = true)]
    plugins: Vec<String>,
    /// How long it is good for new deployments: `90d`, `12h`. Default: until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires_in: Option<SignedDuration>,
}

impl Scope {
    fn expires_at(&self) -> anyhow::Result<Option<Timestamp>> {
        let at = self
            .expires_in
            .map(|time| Timestamp::now().checked_add(time));
        Ok(at.transpose()?)
    }
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::Status { json } => show(client.get(&["trust"]).await?, json),
        Command::List { json } => {
            let keys: Vec<TrustedKeyBody> = client.list(&["trust", "keys"]).await?;
            if json {
                return output::print_json(&keys);
            }
            let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
            let head = ["id", "owner", "may sign", "state", "from"];
            output::print(&output::table(&head, &rows));
            Ok(())
        }
        Command::Add { key, owner, scope } => {
            let request = AddKeyRequest {
                public_key: read_public(&key)?.to_string(),
                owner,
                expires_at: scope.expires_at()?,
                plugins: scope.plugins,
            };
            let key: TrustedKeyBody = client
                .send_json(Method::POST, &["trust", "keys"], &request)
                .await?;
            let what = format!("{} to sign {}", key.id, key.plugins.join(", "));
            output::progress("Trusted", &what);
            Ok(())
        }
        Command::Set { id, scope } => {
            let request = SetKeyRequest {
                expires_at: scope.expires_at()?,
                plugins: scope.plugins,
            };
            let path = ["trust", "keys", id.as_str()];
            let changed = client.send_json(Method::PUT, &path, &request).await?;
            tell("Changed", &id, &changed);
            Ok(())
        }
        Command::Revoke { id, yes } => {
            confirm(yes, "Revoke", &id)?;
            let path = ["trust", "keys", id.as_str(), "revoke"];
            let nothing = serde_json::json!({});
            let changed = client.send_json(Method::POST, &path, &nothing).await?;
            tell("Revoked", &id, &changed);
            Ok(())
        }
        Command::Remove { id, yes } => {
            confirm(yes, "Forget", &id)?;
            let path = ["trust", "keys", id.as_str()];
            let nothing = serde_json::json!({});
            let changed = client.send_json(Method::DELETE, &path, &nothing).await?;
            tell("Removed", &id, &changed);
            Ok(())
        }
    }
}

fn show(trust: TrustBody, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        return output::print_json(&trust);
    }
    let policy = match trust.signatures {
        Policy::Off => "off: nobody asks who signed a plugin",
        Policy::Warn => "warn: plugins without a good signature are taken, with a warning",
        Policy::Required => "required: only what a trusted key signed is taken and loaded",
    };
    output::print(&format!("signatures {policy}\n"));
    if trust.unfit.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = trust
        .unfit
        .into_iter()
        .map(|unfit| vec![unfit.plugin, unfit.code, output::plain(&unfit.detail)])
        .collect();
    let head = ["live plugin", "would be refused", "because"];
    output::print(&output::table(&head, &rows));
    Ok(())
}

fn tell(verb: &str, id: &str, changed: &TrustChangedBody) {
    output::progress(verb, id);
    for plugin in &changed.stopped {
        output::warn(&format!(
            "{plugin} answers no more; deploy it again, signed with a key that is trusted"
        ));
    }
}

fn confirm(is_agreed: bool, verb: &str, id: &str) -> anyhow::Result<()> {
    if is_agreed {
        return Ok(());
    }
    if !output::can_ask() {
        let help = "nobody is here to ask, and plugins may stop by this; say --yes";
        return Err(Usage(help.to_owned()).into());
    }
    eprintln!("Where signatures are required, live plugins that it signed stop at once.");
    if output::confirm(&format!("{verb} the key {id}?"))? {
        Ok(())
    } else {
        bail!("nothing was changed")
    }
}

fn row(key: TrustedKeyBody) -> Vec<String> {
    let now = Timestamp::now();
    let state = match (&key.revoked_at, &key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) if at.parse::<Timestamp>().is_ok_and(|at| at <= now) => {
            format!("expired {at}")
        }
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "trusted".to_owned(),
    };
    vec![
        key.id,
        output::plain(&key.owner),
        key.plugins.join(", "),
        state,
        key.added_by,
    ]
}
