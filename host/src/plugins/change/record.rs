//! How a change of a plugin stands in the audit trail: what was done, and what is another than before.

use serde_json::{Map, Value, json};

use crate::ids::PluginName;
use crate::ledger::Event;
use crate::plugins::change::Change;
use crate::plugins::store::WantedRow;

/// Stands in the place of what may be a secret.
const HIDDEN: &str = "***";

impl Change {
    /// What stands in the audit trail, given what the plugin was before and is after.
    pub(in crate::plugins) fn event(
        &self,
        plugin: &PluginName,
        before: Option<&WantedRow>,
        after: Option<&WantedRow>,
    ) -> Event {
        let mut event = Event::new(self.action(), plugin);
        let (mut old, mut new) = (snapshot(before), snapshot(after));
        let is_other = |name: &String| old.get(name) != new.get(name);
        let others: Vec<String> = old
            .keys()
            .chain(new.keys())
            .filter(|name| is_other(name))
            .cloned()
            .collect();
        old.retain(|name, _| others.contains(name));
        new.retain(|name, _| others.contains(name));
        if !others.is_empty() {
            event = event.changed(old, new);
        }
        match self {
            Self::Record(record) => {
                if let Some(approved) = &record.approved {
                    event = event.with("approved", approved.deployment.to_string());
                }
                breaking(event, &record.breaks).with("note", record.note.as_deref())
            }
            Self::Promote { reason, breaks, .. } => {
                breaking(event, breaks).with("reason", reason.as_deref())
            }
            Self::Ask(approval) => event
                .with("deployment", approval.id.to_string())
                .with("version", approval.version.to_string())
                .with("reason", approval.reason.as_deref()),
            Self::RollBack { reason, .. }
            | Self::CanaryWeight { reason, .. }
            | Self::EndCanary { reason, .. }
            | Self::Reject { reason } => event.with("reason", reason.as_deref()),
            Self::Delete { with_data } => event.with("with_data", *with_data),
            Self::Mount { .. }
            | Self::SetGrants(_)
            | Self::AddGrants(_)
            | Self::RemoveGrant(_)
            | Self::Config(_) => event,
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::Record(record) if record.approved.is_some() => "upgrade.approved",
            Self::Record(_) => "plugin.deployed",
            Self::RollBack { .. } => "plugin.rolled_back",
            Self::CanaryWeight { .. } => "canary.weight_set",
            Self::Promote { .. } => "canary.promoted",
            Self::EndCanary { .. } => "canary.ended",
            Self::Ask(_) => "upgrade.asked",
            Self::Reject { .. } => "upgrade.rejected",
            Self::Mount { .. } => "plugin.mounted",
            Self::SetGrants(_) => "grants.set",
            Self::AddGrants(_) => "grants.added",
            Self::RemoveGrant(_) => "grant.removed",
            Self::Config(_) => "plugin.configured",
            Self::Delete { .. } => "plugin.deleted",
        }
    }
}

/// Most broken promises of which the trail says what they were; of further ones it says how many.
const BREAKS_MAX: usize = 10;

fn breaking(event: Event, breaks: &[String]) -> Event {
    if breaks.is_empty() {
        return event;
    }
    let named: Vec<&str> = breaks.iter().take(BREAKS_MAX).map(String::as_str).collect();
    event
        .with("breaks_count", breaks.len())
        .with("breaks", named)
}

/// All that a change can change.
fn snapshot(wanted: Option<&WantedRow>) -> Map<String, Value> {
    let Some(WantedRow { stable, canary }) = wanted else {
        return Map::new();
    };
    let grants: Vec<String> = stable.grants.iter().map(ToString::to_string).collect();
    let canary = canary.as_ref().map(|(row, weight)| {
        json!({
            "deployment": row.deployment.to_string(),
            "version": row.version.to_string(),
            "component": row.component.to_string(),
            "weight": weight.percent(),
        })
    });
    let mut config = Value::Object(stable.config.clone());
    hide(&mut config, false);
    let snapshot = json!({
        "deployment": stable.deployment.to_string(),
        "version": stable.version.to_string(),
        "component": stable.component.to_string(),
        "mount": stable.mount.to_string(),
        "grants": grants,
        "config": config,
        "canary": canary,
    });
    match snapshot {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// Settings are no place for secrets; where somebody has put one there anyway, it does not get into the trail.
fn hide(value: &mut Value, is_secret: bool) {
    const NAMES: [&str; 9] = [
        "password",
        "passwd",
        "secret",
        "token",
        "credential",
        "private",
        "apikey",
        "api_key",
        "api-key",
    ];
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.to_ascii_lowercase();
                hide(
                    member,
                    is_secret || NAMES.iter().any(|secret| name.contains(secret)),
                );
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| hide(value, is_secret)),
        Value::String(text) => {
            // An address with a password in it: `postgres://ann:secret@db/`.
            let authority = text.split_once("://").map(|(_, rest)| rest);
            let user =
                authority.and_then(|rest| rest.split(['/', '?', '#']).next()?.rsplit_once('@'));
            if is_secret || user.is_some_and(|(user, _)| user.contains(':')) {
                HIDDEN.clone_into(text);
            }
        }
        Value::Number(_) if is_secret => *value = HIDDEN.into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_hidden() {
        let mut config = json!({
            "currency": "EUR",
            "smtp": { "host": "mail.example", "Password": "hunter2" },
            "apiKey": "abc",
            "tokens": ["a", { "b": "c" }],
            "database": "postgres://ann:hunter2@db/shop",
            "page": "https://example.com/@ann:x",
            "pin": 3,
            "secret_pin": 1234,
        });
        hide(&mut config, false);
        let text = config.to_string();
        for secret in ["hunter2", "abc", "1234", "\"c\"", "\"a\""] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for plain in ["EUR", "mail.example", "https://example.com/@ann:x", "3"] {
            assert!(text.contains(plain), "{plain}: {text}");
        }
    }
}
