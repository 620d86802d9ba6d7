//! Changes of plugins as statements. Each runs inside a transaction that the caller commits.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::Row as _;

use crate::db::{Transaction, now_ms};
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::change::{Approved, Change, Changed, Record};
use crate::plugins::rollout::store::{
    NewEvent, delete_approval, delete_rollout, note, put_approval, put_rollout, rollout_of,
};
use crate::plugins::rollout::{EventKind, Weight};
use crate::plugins::row::{deployment, entry_word, optional, parsed};
use crate::plugins::store::{Deployment, Store, StoreError, grants_of, refuse_mount};
use crate::plugins::validate::Grants;
use crate::plugins::{GrantMode, Mount};

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
            Change::Promote { reason } => {
                touch(tx, plugin).await?;
                let replaced = live_of(tx, plugin).await?.flatten();
                let mut deployment = canary_of(tx, plugin).await?;
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
                delete_approval(tx, &plugin).await?;
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
                sqlx::query("UPDATE plugins SET config = $1 WHERE name = $2")
                    .bind(Value::Object(config.clone()).to_string())
                    .bind(plugin.as_str())
                    .execute(&mut **tx)
                    .await?;
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
            approved,
        } = record;
        let plugin = &wanted.plugin;
        let replaced = live_of(tx, plugin).await?.flatten();
        refuse_mount(&mut *tx, plugin, &wanted.mount, *is_nested_accepted).await?;
        let config = Value::Object(wanted.config.clone()).to_string();
        let written = match began_from {
            Some(revision) => {
                let query = sqlx::query(
                    "UPDATE plugins SET config = $1, revision = revision + 1 \
                     WHERE name = $2 AND revision = $3",
                );
                let query = query.bind(config).bind(plugin.as_str()).bind(*revision);
                query.execute(&mut **tx).await?
            }
            None => {
                // The first revision is the time, so that a plugin that was removed and came back is not taken for the
                // one before.
                let query = sqlx::query(
                    "INSERT INTO plugins (name, mount_host, mount_path, config, live_by, live_at_ms, \
                     created_at_ms, revision) VALUES ($1, $2, $3, $4, $5, $6, $6, $6) \
                     ON CONFLICT (name) DO NOTHING",
                );
                let query = query
                    .bind(plugin.as_str())
                    .bind(wanted.mount.host.as_deref().unwrap_or_default())
                    .bind(wanted.mount.path.as_str())
                    .bind(config)
                    .bind(by)
                    .bind(now);
                query.execute(&mut **tx).await?
            }
        };
        if written.rows_affected() == 0 {
            let plugin = plugin.clone();
            return Err(StoreError::Changed { plugin });
        }
        sqlx::query("DELETE FROM unwanted_data WHERE plugin = $1")
            .bind(plugin.as_str())
            .execute(&mut **tx)
            .await?;
        set_mount(tx, plugin, &wanted.mount).await?;
        if let Some(Approved { by, reason, .. }) = approved {
            if !delete_approval(tx, plugin).await? {
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
            delete_approval(tx, plugin).await?;
            if *grant == GrantMode::AllAsked {
                write_grants(tx, plugin, &wanted.grants, by, now).await?;
            }
        }
        sqlx::query(
            "INSERT INTO deployments \
             (id, plugin, version, component, entry, manifest, created_at_ms, created_by, note) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(wanted.deployment.to_string())
        .bind(plugin.as_str())
        .bind(wanted.version.to_string())
        .bind(wanted.component.to_string())
        .bind(entry_word(wanted.entry))
        .bind(wanted.manifest.as_str())
        .bind(now)
        .bind(by)
        .bind(note.as_deref())
        .execute(&mut **tx)
        .await?;
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
            let event = event(kind, &deployment, Some(weight), by, note.as_deref());
            self.note(tx, plugin, &event).await?;
            Changed::Canary {
                deployment: Box::new(deployment),
                weight,
            }
        } else {
            delete_rollout(tx, plugin).await?;
            set_live(tx, plugin, wanted.deployment, by, now).await?;
            let event = event(EventKind::Deployed, &deployment, None, by, note.as_deref());
            self.note(tx, plugin, &event).await?;
            deployment.is_live = true;
            Changed::Live {
                deployment: Box::new(deployment),
                replaced,
            }
        };
        self.forget_oldest(tx, plugin, wanted.deployment).await?;
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
            None => {
                // Ids are ordered by time. A canary that was taken back was never live.
                let row = sqlx::query(
                    "SELECT * FROM deployments WHERE plugin = $1 AND id < $2 \
                     AND live_at_ms IS NOT NULL ORDER BY id DESC LIMIT 1",
                )
                .bind(plugin.as_str())
                .bind(replaced.map(|id| id.to_string()).unwrap_or_default())
                .fetch_optional(&mut **tx)
                .await?;
                let row = row.ok_or_else(|| StoreError::DeploymentNotFound {
                    plugin: plugin.clone(),
                })?;
                deployment(&row, None)?
            }
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

    async fn forget_oldest(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
        live: DeploymentId,
    ) -> Result<(), StoreError> {
        // The live one is mostly the newest, but of two that were deployed at once it may be the other.
        sqlx::query(
            "DELETE FROM deployments WHERE plugin = $1 AND id <> $3 \
             AND id NOT IN (SELECT live_deployment FROM plugins WHERE name = $1) \
             AND id NOT IN (SELECT deployment FROM rollouts WHERE plugin = $1) AND id NOT IN \
             (SELECT id FROM deployments WHERE plugin = $1 ORDER BY id DESC LIMIT $2)",
        )
        .bind(plugin.as_str())
        .bind(i64::from(self.config.deployments_kept_max.max(1)))
        .bind(live.to_string())
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}

/// Nothing if there is no such plugin; inside, nothing if none of it is live.
async fn live_of(
    tx: &mut Transaction,
    plugin: &PluginName,
) -> Result<Option<Option<DeploymentId>>, StoreError> {
    let query =
        sqlx::query("SELECT live_deployment FROM plugins WHERE name = $1").bind(plugin.as_str());
    match query.fetch_optional(&mut **tx).await? {
        Some(row) => optional(&row, "plugins", "live_deployment").map(Some),
        None => Ok(None),
    }
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

async fn deployment_of(
    tx: &mut Transaction,
    plugin: &PluginName,
    id: DeploymentId,
) -> Result<Deployment, StoreError> {
    let row = sqlx::query("SELECT * FROM deployments WHERE plugin = $1 AND id = $2")
        .bind(plugin.as_str())
        .bind(id.to_string())
        .fetch_optional(&mut **tx)
        .await?;
    let row = row.ok_or_else(|| StoreError::DeploymentNotFound {
        plugin: plugin.clone(),
    })?;
    deployment(&row, None)
}

async fn canary_of(tx: &mut Transaction, plugin: &PluginName) -> Result<Deployment, StoreError> {
    let Some((id, _)) = rollout_of(&mut *tx, plugin).await? else {
        let plugin = plugin.clone();
        return Err(StoreError::RolloutNotFound { plugin });
    };
    deployment_of(tx, plugin, id).await
}

async fn approval_of(
    tx: &mut Transaction,
    plugin: &PluginName,
) -> Result<Option<(DeploymentId, semver::Version)>, StoreError> {
    let row = sqlx::query("SELECT id, version FROM approvals WHERE plugin = $1")
        .bind(plugin.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let id = parsed(&row, "approvals", "id")?;
    Ok(Some((id, parsed(&row, "approvals", "version")?)))
}

async fn delete(
    tx: &mut Transaction,
    plugin: &PluginName,
    with_data: bool,
) -> Result<(), StoreError> {
    if with_data {
        sqlx::query(
            "INSERT INTO unwanted_data (plugin, with_secrets) VALUES ($1, 1) \
             ON CONFLICT (plugin) DO UPDATE SET with_secrets = 1",
        )
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    }
    for statement in [
        "DELETE FROM plugin_events WHERE plugin = $1",
        "DELETE FROM approvals WHERE plugin = $1",
        "DELETE FROM rollouts WHERE plugin = $1",
        "DELETE FROM grants WHERE plugin = $1",
        "DELETE FROM deployments WHERE plugin = $1",
    ] {
        sqlx::query(statement)
            .bind(plugin.as_str())
            .execute(&mut **tx)
            .await?;
    }
    let done = sqlx::query("DELETE FROM plugins WHERE name = $1")
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    found(plugin, done.rows_affected())
}

/// Gives the plugin its next revision. First in a transaction, so that changes of one plugin wait for each other.
async fn touch(tx: &mut Transaction, plugin: &PluginName) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE plugins SET revision = revision + 1 WHERE name = $1")
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    found(plugin, done.rows_affected())
}

async fn set_mount(
    tx: &mut Transaction,
    plugin: &PluginName,
    mount: &Mount,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE plugins SET mount_host = $1, mount_path = $2 WHERE name = $3")
        .bind(mount.host.as_deref().unwrap_or_default())
        .bind(mount.path.as_str())
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn set_live(
    tx: &mut Transaction,
    plugin: &PluginName,
    deployment: DeploymentId,
    by: &str,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE plugins SET live_deployment = $1, live_by = $2, live_at_ms = $3 WHERE name = $4",
    )
    .bind(deployment.to_string())
    .bind(by)
    .bind(now)
    .bind(plugin.as_str())
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE deployments SET live_at_ms = $1 WHERE id = $2")
        .bind(now)
        .bind(deployment.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Leaves exactly these grants. Those that were there keep who gave them and when.
async fn write_grants(
    tx: &mut Transaction,
    plugin: &PluginName,
    grants: &Grants,
    by: &str,
    now: i64,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT capability FROM grants WHERE plugin = $1")
        .bind(plugin.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let wanted: BTreeSet<String> = grants.iter().map(ToString::to_string).collect();
    for row in rows {
        let capability: String = row.try_get("capability")?;
        if !wanted.contains(&capability) {
            sqlx::query("DELETE FROM grants WHERE plugin = $1 AND capability = $2")
                .bind(plugin.as_str())
                .bind(capability)
                .execute(&mut **tx)
                .await?;
        }
    }
    for capability in wanted {
        sqlx::query(
            "INSERT INTO grants (plugin, capability, granted_by, granted_at_ms) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (plugin, capability) DO NOTHING",
        )
        .bind(plugin.as_str())
        .bind(capability)
        .bind(by)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

fn found(plugin: &PluginName, rows: u64) -> Result<(), StoreError> {
    if rows == 0 {
        Err(StoreError::PluginNotFound(plugin.clone()))
    } else {
        Ok(())
    }
}
