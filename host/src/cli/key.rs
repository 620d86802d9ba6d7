//! `gantry key …`: API keys of programs.

use anyhow::bail;
use clap::Subcommand;
use http::Method;
use jiff::{SignedDuration, Timestamp};

use crate::admin::api_keys::{ApiKeyBody, CreateApiKeyRequest};
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::ids::RoleName;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an API key. The key is printed once, on standard output, and cannot be had again.
    Create {
        /// Who uses it and what for.
        name: String,
        /// A role of the key. May be repeated.
        #[arg(long = "role", value_name = "ROLE", required = true)]
        roles: Vec<RoleName>,
        /// How long it is good for: `90d`, `12h`. Default: until it is revoked.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires_in: Option<SignedDuration>,
    },
    /// List API keys, without their secrets.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke an API key, at once and for good.
    Revoke {
        /// Its id, `gk_` and 16 digits.
        id: String,
    },
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    match command {
        Command::Create {
            name,
            roles,
            expires_in,
        } => {
            let expires_at = expires_in
                .map(|time| Timestamp::now().checked_add(time))
                .transpose()?;
            let request = CreateApiKeyRequest {
                name,
                roles,
                expires_at,
            };
            let key: ApiKeyBody = client
                .send_json(Method::POST, &["api-keys"], &request)
                .await?;
            let Some(token) = &key.token else {
                bail!("the server did not tell the key")
            };
            output::progress(
                "Created",
                &format!(
                    "{} for {}; this is the only time that it is shown",
                    key.id, key.name
                ),
            );
            output::print(&format!("{token}\n"));
        }
        Command::List { json } => {
            let keys: Vec<ApiKeyBody> = client.list(&["api-keys"]).await?;
            if json {
                return output::print_json(&keys);
            }
            let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
            output::print(&output::table(
                &["id", "name", "roles", "last used", "state"],
                &rows,
            ));
        }
        Command::Revoke { id } => {
            client.delete(&["api-keys", &id]).await?;
            output::progress("Revoked", &id);
        }
    }
    Ok(())
}

fn row(key: ApiKeyBody) -> Vec<String> {
    let now = Timestamp::now();
    let state = match (&key.revoked_at, &key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) if at.parse::<Timestamp>().is_ok_and(|at| at <= now) => {
            format!("expired {at}")
        }
        (None, Some(at)) => format!("until {at}"),
        (None, None) => "active".to_owned(),
    };
    let last_used = key.last_used_at.unwrap_or_else(|| "never".to_owned());
    vec![
        key.id,
        output::plain(&key.name),
        key.roles.join(", "),
        last_used,
        state,
    ]
}

/// `90d`, `12h`, `30m`.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let unit_seconds = match text.chars().last() {
        Some('d') => 86_400,
        Some('h') => 3600,
        Some('m') => 60,
        _ => 0,
    };
    let digits = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    let count: Option<i64> = digits
        .parse()
        .ok()
        .filter(|count| (1..=1_000_000).contains(count));
    match count {
        Some(count) if unit_seconds > 0 => Ok(SignedDuration::from_secs(count * unit_seconds)),
        _ => Err("write it as 90d, 12h or 30m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(
            duration("90d").unwrap(),
            SignedDuration::from_hours(90 * 24)
        );
        assert_eq!(duration("30m").unwrap(), SignedDuration::from_mins(30));
        for text in ["", "d", "90", "-1d", "0h", "9999999999d", "1 d", "1ß"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
