//! `gantry key …`: API keys of programs.

use anyhow::bail;
use clap::Subcommand;
use http::Method;
use jiff::{SignedDuration, Timestamp};

use crate::admin::api_keys::{ApiKeyBody, CreateApiKeyRequest, RateBody, RotateApiKeyRequest};
use crate::auth::RolePermission;
use crate::cli::client::{Client, Options};
use crate::cli::output;
use crate::cli::renew::{self, Renewal};
use crate::cli::role;
use crate::ids::{Network, RoleName, ServiceAccountId};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an API key. The key is printed once, on standard output, and cannot be had again.
    Create {
        /// Who uses it and what for.
        name: String,
        /// A role of the key. May be repeated.
        #[arg(
            long = "role",
            value_name = "ROLE",
            required_unless_present = "service_account"
        )]
        roles: Vec<RoleName>,
        /// The service account that it belongs to; its roles count.
        #[arg(long, value_name = "ID", conflicts_with = "roles")]
        service_account: Option<ServiceAccountId>,
        /// A permission to which those of the roles are narrowed, or a word that routes ask for as a scope. May be repeated.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// From where it may be used: `10.0.0.0/8` or an address. May be repeated.
        #[arg(long = "network", value_name = "NETWORK")]
        networks: Vec<Network>,
        /// How often it may be used: `100/60` is a hundred times in 60 seconds.
        #[arg(long, value_name = "LIMIT/SECONDS", value_parser = rate)]
        rate: Option<RateBody>,
        /// Days after which its secret has to be changed.
        #[arg(long, value_name = "DAYS")]
        rotate_days: Option<u32>,
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
    /// Change the secret of an API key. The one before counts for a while; the new one is printed once.
    Rotate {
        /// Its id, `gk_` and 16 digits.
        id: String,
        /// How long the one before counts: `24h`, `30m`. Default: as the key says, usually a day.
        #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "at_once")]
        overlap: Option<SignedDuration>,
        /// The one before counts no more: for a key that was stolen.
        #[arg(long)]
        at_once: bool,
    },
    /// Change the secret of the key in a file when that is due. For a timer, where the program is that uses the key.
    Renew(Renewal),
    /// Revoke an API key, at once and for good.
    Revoke {
        /// Its id, `gk_` and 16 digits.
        id: String,
    },
}

pub(super) async fn run(command: Command, server: &Options) -> anyhow::Result<()> {
    // With the key itself, not with that of whoever runs it.
    if let Command::Renew(renewal) = command {
        return renew::run(renewal, server).await;
    }
    let client = Client::new(server)?;
    match command {
        Command::Create {
            name,
            roles,
            service_account,
            scopes,
            networks,
            rate,
            rotate_days,
            expires_in,
        } => {
            let named = scopes.iter().filter(|scope| is_permission(scope));
            role::tell_unknown(&client, &named.cloned().collect::<Vec<_>>()).await;
            let expires_at = expires_in
                .map(|time| Timestamp::now().checked_add(time))
                .transpose()?;
            let request = CreateApiKeyRequest {
                name,
                roles,
                service_account,
                scopes,
                networks,
                rate,
                rotate_days,
                overlap_s: None,
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
            for scope in &key.free_scopes {
                output::warn(&format!(
                    "`{scope}` is no permission; it counts only where a route asks for it as a scope"
                ));
            }
            output::print(&format!("{token}\n"));
        }
        Command::List { json } => {
            let keys: Vec<ApiKeyBody> = client.list(&["api-keys"]).await?;
            if json {
                return output::print_json(&keys);
            }
            let rows: Vec<Vec<String>> = keys.into_iter().map(row).collect();
            output::print(&output::table(
                &[
                    "id",
                    "name",
                    "roles",
                    "scopes",
                    "networks",
                    "rate",
                    "rotation",
                    "last used",
                    "state",
                ],
                &rows,
            ));
        }
        Command::Rotate {
            id,
            overlap,
            at_once,
        } => {
            let overlap_s = overlap.map(|time| time.as_secs());
            let overlap_s = if at_once { Some(0) } else { overlap_s };
            let request = RotateApiKeyRequest {
                overlap_s: overlap_s.map(u32::try_from).transpose()?,
            };
            let path = ["api-keys", &id, "rotate"];
            let key: ApiKeyBody = client.send_json(Method::POST, &path, &request).await?;
            let Some(token) = &key.token else {
                bail!("the server did not tell the key")
            };
            let until = key.previous_until.as_deref().unwrap_or("now");
            let text = format!("{}; the secret before counts until {until}", key.id);
            output::progress("Changed", &text);
            output::print(&format!("{token}\n"));
        }
        Command::Renew(_) => {}
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
    let or = |values: Vec<String>, otherwise: &str| match values.is_empty() {
        true => otherwise.to_owned(),
        false => values.join(", "),
    };
    let rate = key
        .rate
        .map(|rate| format!("{}/{}", rate.limit, rate.window_s));
    let is_over = |at: &String| at.parse::<Timestamp>().is_ok_and(|at| at <= now);
    let rotation = match (key.rotate_at, key.secret_ends_at) {
        (Some(due), Some(ends)) if is_over(&due) => format!("DUE; the secret ends {ends}"),
        (Some(due), _) => format!("due {due}"),
        (None, _) => "-".to_owned(),
    };
    let roles = match key.service_account {
        Some(account) => format!("of {account}"),
        None => key.roles.join(", "),
    };
    vec![
        key.id,
        output::plain(&key.name),
        roles,
        or(key.scopes, "all"),
        or(key.networks, "all"),
        rate.unwrap_or_else(|| "-".to_owned()),
        rotation,
        last_used,
        state,
    ]
}

fn is_permission(scope: &str) -> bool {
    scope.parse::<RolePermission>().is_ok()
}

/// `100/60`
fn rate(text: &str) -> Result<RateBody, String> {
    let parts = text.split_once('/');
    let numbers =
        parts.and_then(|(limit, window_s)| Some((limit.parse().ok()?, window_s.parse().ok()?)));
    let (limit, window_s) = numbers.ok_or("write it as 100/60: a hundred times in 60 seconds")?;
    Ok(RateBody { limit, window_s })
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
