//! What each change does to the rows of its plugin, step by step, inside a transaction that the caller commits. The
//! statements are in `store`.

use std::borrow::Cow;

use crate::db::{Transaction, now_ms};
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::GrantMode;
use crate::plugins::change::store::{
    approval_of, canary_of, delete, deployment_of, forget_oldest, insert_deployment, insert_plugin,
    live_before, live_of, set_config, set_live, set_mount, touch, upgrade, want_data, write_grants,
};
use crate::plugins::change::{Approved, Change, Changed, Record};
use crate::plugins::rollout::store::{
    NewEvent, delete_approval, delete_rollout, note, put_approval, put_rollout, rollout_of,
};
use crate::plugins::rollout::{EventKind, Weight};
use crate::plugins::store::{Deployment, Store, StoreError, grants_of, refuse_mount};

impl Store {
    /// Makes one change inside a transaction.
    pub(in crate::plugins) async fn apply(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
        change: &Change,
        by: &str,
    ) -> Result<Changed, StoreError> {
        let now = now_ms();
        match change {
            Change::Record(record) => return self.record(tx, record, by, now).await,
            Change::RollBack { to, reason } => {
                let reason = reason.as_deref();
                if to.is_none() && rollout_of(&mut *tx, plugin).await?.is_some() {
                    return self.end_canary(tx, plugin, None, by, reason).await;
                }
                return self.roll_back(tx, plugin, *to, by, reason).await;
            }
            Change::CanaryWeight { weight, reason } => {
                touch(tx, plugin).await?;
                let deployment = canary_of(tx, plugin).await?;
                put_rollout(tx, plugin, deployment.id, *weight, by, now).await?;
                let kind = EventKind::CanaryWeight;
                let event = event(kind, &deployment, Some(*weight), by, reason.as_deref());
                self.note(tx, plugin, &event).await?;
                return Ok(Changed::Canary {
                    deployment: Box::new(deployment),
                    weight: *weight,
                });
            }
            Change::Promote {
                canary,
                reason,
                breaks,
            } => {
                let reason = with_breaks(reason.as_deref(), breaks);
                touch(tx, plugin).await?;
                let replaced = live_of(tx, plugin).await?.flatten();
                let mut deployment = canary_of(tx, plugin).await?;
                // Nobody has looked at this one.
                if deployment.id != *canary {
                    let plugin = plugin.clone();
                    return Err(StoreError::Changed { plugin });
                }
                delete_rollout(tx, plugin).await?;
                set_live(tx, plugin, deployment.id, by, now).await?;
                let event = event(
                    EventKind::Promoted,
                    &deployment,
                    None,
                    by,
                    reason.as_deref(),
                );
                self.note(tx, plugin, &event).await?;
                deployment.is_live = true;
                return Ok(Changed::Live {
                    deployment: Box::new(deployment),
                    replaced,
                });
            }
            Change::EndCanary { only, reason } => {
                return self
                    .end_canary(tx, plugin, *only, by, reason.as_deref())
                    .await;
            }
            Change::Ask(approval) => {
                let found = live_of(tx, plugin).await?;
                found.ok_or_else(|| StoreError::PluginNotFound(plugin.clone()))?;
                put_approval(tx, approval).await?;
                let event = NewEvent {
                    kind: EventKind::Asked,
                    deployment: approval.id,
                    version: &approval.version,
                    weight: None,
                    by,
                    reason: approval.reason.as_deref(),
                };
                self.note(tx, plugin, &event).await?;
            }
            Change::Reject { reason } => {
                let found = live_of(tx, plugin).await?;
                found.ok_or_else(|| StoreError::PluginNotFound(plugin.clone()))?;
                let plugin = plugin.clone();
                let asked = approval_of(tx, &plugin).await?;
                let Some((id, version)) = asked else {
                    return Err(StoreError::ApprovalNotFound { plugin });
                };
                delete_approval(tx, &plugin, None).await?;
                let event = NewEvent {
                    kind: EventKind::Rejected,
                    deployment: id,
                    version: &version,
                    weight: None,
                    by,
                    reason: reason.as_deref(),
                };
                self.note(tx, &plugin, &event).await?;
            }
            Change::Mount {
                mount,
                is_nested_accepted,
            } => {
                refuse_mount(&mut *tx, plugin, mount, *is_nested_accepted).await?;
                touch(tx, plugin).await?;
                set_mount(tx, plugin, mount).await?;
            }
            Change::SetGrants(grants) => {
                touch(tx, plugin).await?;
                write_grants(tx, plugin, grants, by, now).await?;
            }
            Change::AddGrants(more) => {
                touch(tx, plugin).await?;
                let grants = grants_of(&mut *tx, plugin).await?;
                let grants = grants.iter().chain(more).cloned().collect();
                write_grants(tx, plugin, &grants, by, now).await?;
            }
            Change::RemoveGrant(unwanted) => {
                touch(tx, plugin).await?;
                let grants = grants_of(&mut *tx, plugin).await?;
                if !grants.iter().any(|grant| grant == unwanted) {
                    let (plugin, grant) = (plugin.clone(), unwanted.clone());
                    return Err(StoreError::GrantNotFound { plugin, grant });
                }
                let left = grants.iter().filter(|grant| *grant != unwanted);
                write_grants(tx, plugin, &left.cloned().collect(), by, now).await?;
            }
            Change::Config(config) => {
                touch(tx, plugin).await?;
                set_config(tx, plugin, config).await?;
            }
            Change::Delete { with_data } => delete(tx, plugin, *with_data).await?,
        }
        Ok(Changed::Settings)
    }

    /// Writes a deployment and makes it live, if the plugin is still what it was when the deployment began.
    async fn record(
        &self,
        tx: &mut Transaction,
        record: &Record,
        by: &str,
        now: i64,
    ) -> Result<Changed, StoreError> {
        let Record {
            wanted,
            began_from,
            grant,
            is_nested_accepted,
            note,
            canary,
            breaks,
            approved,
        } = record;
        let reason = with_breaks(note.as_deref(), breaks);
        let plugin = &wanted.plugin;
        let replaced = live_of(tx, plugin).await?.flatten();
        refuse_mount(&mut *tx, plugin, &wanted.mount, *is_nested_accepted).await?;
        let is_written = match began_from {
            Some(revision) => upgrade(tx, wanted, *revision).await?,
            None => insert_plugin(tx, wanted, by, now).await?,
        };
        if !is_written {
            let plugin = plugin.clone();
            return Err(StoreError::Changed { plugin });
        }
        want_data(tx, plugin).await?;
        set_mount(tx, plugin, &wanted.mount).await?;
        if let Some(approved) = approved {
            let Approved { by, reason, .. } = approved;
            if !delete_approval(tx, plugin, Some(approved.deployment)).await? {
                let plugin = plugin.clone();
                return Err(StoreError::ApprovalNotFound { plugin });
            }
            write_grants(tx, plugin, &wanted.grants, by, now).await?;
            let event = NewEvent {
                kind: EventKind::Approved,
                deployment: wanted.deployment,
                version: &wanted.version,
                weight: None,
                by,
                reason: reason.as_deref(),
            };
            self.note(tx, plugin, &event).await?;
        } else {
            // What waited is overtaken.
            delete_approval(tx, plugin, None).await?;
            if *grant == GrantMode::AllAsked {
                write_grants(tx, plugin, &wanted.grants, by, now).await?;
            }
        }
        insert_deployment(tx, wanted, by, note.as_deref(), now).await?;
        let canary = canary.filter(|_| replaced.is_some());
        let mut deployment = Deployment {
            id: wanted.deployment,
            plugin: plugin.clone(),
            version: wanted.version.clone(),
            component: wanted.component,
            entry: wanted.entry,
            manifest: wanted.manifest.clone(),
            created_at_ms: now,
            created_by: by.to_owned(),
            note: note.clone(),
            is_live: false,
        };
        let changed = if let Some(weight) = canary {
            put_rollout(tx, plugin, wanted.deployment, weight, by, now).await?;
            let kind = EventKind::CanaryStarted;
            let event = event(kind, &deployment, Some(weight), by, reason.as_deref());
            self.note(tx, plugin, &event).await?;
            Changed::Canary {
                deployment: Box::new(deployment),
                weight,
            }
        } else {
            delete_rollout(tx, plugin).await?;
            set_live(tx, plugin, wanted.deployment, by, now).await?;
            let event = event(
                EventKind::Deployed,
                &deployment,
                None,
                by,
                reason.as_deref(),
            );
            self.note(tx, plugin, &event).await?;
            deployment.is_live = true;
            Changed::Live {
                deployment: Box::new(deployment),
                replaced,
            }
        };
        let kept_max = self.config.deployments_kept_max;
        forget_oldest(tx, plugin, wanted.deployment, kept_max).await?;
        Ok(changed)
    }

    /// Makes an earlier deployment live again: the newest one that was live before the live one, if none is named.
    async fn roll_back(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
        to: Option<DeploymentId>,
        by: &str,
        reason: Option<&str>,
    ) -> Result<Changed, StoreError> {
        touch(tx, plugin).await?;
        let replaced = live_of(tx, plugin).await?.flatten();
        let mut deployment = match to {
            Some(to) => deployment_of(tx, plugin, to).await?,
            None => live_before(tx, plugin, replaced).await?,
        };
        delete_rollout(tx, plugin).await?;
        set_live(tx, plugin, deployment.id, by, now_ms()).await?;
        let event = event(EventKind::RolledBack, &deployment, None, by, reason);
        self.note(tx, plugin, &event).await?;
        deployment.is_live = true;
        Ok(Changed::Live {
            deployment: Box::new(deployment),
            replaced,
        })
    }

    /// Takes a canary back: the stable version answers everything.
    async fn end_canary(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
        only: Option<DeploymentId>,
        by: &str,
        reason: Option<&str>,
    ) -> Result<Changed, StoreError> {
        touch(tx, plugin).await?;
        let canary = canary_of(tx, plugin).await?;
        let stable = live_of(tx, plugin).await?.flatten();
        let (Some(stable), true) = (stable, only.is_none_or(|only| only == canary.id)) else {
            let plugin = plugin.clone();
            return Err(StoreError::RolloutNotFound { plugin });
        };
        let mut stable = deployment_of(tx, plugin, stable).await?;
        delete_rollout(tx, plugin).await?;
        let event = event(EventKind::RolledBack, &canary, None, by, reason);
        self.note(tx, plugin, &event).await?;
        stable.is_live = true;
        Ok(Changed::Live {
            deployment: Box::new(stable),
            replaced: Some(canary.id),
        })
    }

    async fn note(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
        event: &NewEvent<'_>,
    ) -> Result<(), StoreError> {
        note(tx, plugin, event, self.config.events_kept_max).await
    }
}

/// Why something was done, and that callers are broken by it.
fn with_breaks<'a>(reason: Option<&'a str>, breaks: &[String]) -> Option<Cow<'a, str>> {
    if breaks.is_empty() {
        return reason.map(Cow::Borrowed);
    }
    let count = breaks.len();
    let promises = if count == 1 { "promise" } else { "promises" };
    let told = format!("breaks {count} {promises} to callers");
    Some(Cow::Owned(match reason {
        Some(reason) => format!("{reason} ({told})"),
        None => told,
    }))
}

fn event<'a>(
    kind: EventKind,
    deployment: &'a Deployment,
    weight: Option<Weight>,
    by: &'a str,
    reason: Option<&'a str>,
) -> NewEvent<'a> {
    NewEvent {
        kind,
        deployment: deployment.id,
        version: &deployment.version,
        weight,
        by,
        reason,
    }
}
