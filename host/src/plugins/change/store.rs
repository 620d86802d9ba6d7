//! The statements that changes are made of. Each runs inside a transaction that the caller commits.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use sqlx::Row as _;

use crate::db::Transaction;
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::Mount;
use crate::plugins::rollout::store::rollout_of;
use crate::plugins::row::{deployment, entry_word, optional, parsed};
use crate::plugins::store::{Deployment, LiveRow, StoreError};
use crate::plugins::validate::Grants;

/// Writes the settings of an upgrade, if the plugin is still at the revision that it began from.
pub(super) async fn upgrade(
    tx: &mut Transaction,
    wanted: &LiveRow,
    revision: i64,
) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "UPDATE plugins SET config = $1, revision = revision + 1 WHERE name = $2 AND revision = $3",
    );
    let done = query
        .bind(Value::Object(wanted.config.clone()).to_string())
        .bind(wanted.plugin.as_str())
        .bind(revision)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Writes a plugin that is not there yet. Its first revision is the time, so that a plugin that was removed and came back
/// is not taken for the one before.
pub(super) async fn insert_plugin(
    tx: &mut Transaction,
    wanted: &LiveRow,
    by: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "INSERT INTO plugins (name, mount_host, mount_path, config, live_by, live_at_ms, \
         created_at_ms, revision) VALUES ($1, $2, $3, $4, $5, $6, $6, $6) \
         ON CONFLICT (name) DO NOTHING",
    );
    let done = query
        .bind(wanted.plugin.as_str())
        .bind(wanted.mount.host.as_deref().unwrap_or_default())
        .bind(wanted.mount.path.as_str())
        .bind(Value::Object(wanted.config.clone()).to_string())
        .bind(by)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Whatever there is of its data is wanted from now on.
pub(super) async fn want_data(tx: &mut Transaction, plugin: &PluginName) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM unwanted_data WHERE plugin = $1")
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn insert_deployment(
    tx: &mut Transaction,
    wanted: &LiveRow,
    by: &str,
    note: Option<&str>,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO deployments \
         (id, plugin, version, component, entry, manifest, created_at_ms, created_by, note) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(wanted.deployment.to_string())
    .bind(wanted.plugin.as_str())
    .bind(wanted.version.to_string())
    .bind(wanted.component.to_string())
    .bind(entry_word(wanted.entry))
    .bind(wanted.manifest.as_str())
    .bind(now)
    .bind(by)
    .bind(note)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The newest deployment that was live before this one. Ids are ordered by time; a canary that was taken back was never
/// live.
pub(super) async fn live_before(
    tx: &mut Transaction,
    plugin: &PluginName,
    live: Option<DeploymentId>,
) -> Result<Deployment, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM deployments WHERE plugin = $1 AND id < $2 \
         AND live_at_ms IS NOT NULL ORDER BY id DESC LIMIT 1",
    )
    .bind(plugin.as_str())
    .bind(live.map(|id| id.to_string()).unwrap_or_default())
    .fetch_optional(&mut **tx)
    .await?;
    let row = row.ok_or_else(|| StoreError::DeploymentNotFound {
        plugin: plugin.clone(),
    })?;
    deployment(&row, None)
}

/// Leaves so many deployments of a plugin.
pub(super) async fn forget_oldest(
    tx: &mut Transaction,
    plugin: &PluginName,
    live: DeploymentId,
    kept_max: u32,
) -> Result<(), StoreError> {
    // The live one is mostly the newest, but of two that were deployed at once it may be the other.
    sqlx::query(
        "DELETE FROM deployments WHERE plugin = $1 AND id <> $3 \
         AND id NOT IN (SELECT live_deployment FROM plugins WHERE name = $1) \
         AND id NOT IN (SELECT deployment FROM rollouts WHERE plugin = $1) AND id NOT IN \
         (SELECT id FROM deployments WHERE plugin = $1 ORDER BY id DESC LIMIT $2)",
    )
    .bind(plugin.as_str())
    .bind(i64::from(kept_max.max(1)))
    .bind(live.to_string())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set_config(
    tx: &mut Transaction,
    plugin: &PluginName,
    config: &Map<String, Value>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE plugins SET config = $1 WHERE name = $2")
        .bind(Value::Object(config.clone()).to_string())
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Nothing if there is no such plugin; inside, nothing if none of it is live.
pub(super) async fn live_of(
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

pub(super) async fn deployment_of(
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

pub(super) async fn canary_of(
    tx: &mut Transaction,
    plugin: &PluginName,
) -> Result<Deployment, StoreError> {
    let Some((id, _)) = rollout_of(&mut *tx, plugin).await? else {
        let plugin = plugin.clone();
        return Err(StoreError::RolloutNotFound { plugin });
    };
    deployment_of(tx, plugin, id).await
}

pub(super) async fn approval_of(
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

pub(super) async fn delete(
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
pub(super) async fn touch(tx: &mut Transaction, plugin: &PluginName) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE plugins SET revision = revision + 1 WHERE name = $1")
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    found(plugin, done.rows_affected())
}

pub(super) async fn set_mount(
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

pub(super) async fn set_live(
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
pub(super) async fn write_grants(
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
