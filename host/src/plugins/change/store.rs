//! Changes of plugins as statements. Each runs inside a transaction that the caller commits.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::Row as _;

use crate::db::{Transaction, now_ms};
use crate::ids::{DeploymentId, PluginName};
use crate::plugins::change::{Change, Changed, Record};
use crate::plugins::row::{deployment, entry_word, optional};
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
            Change::RollBack { to } => return roll_back(tx, plugin, *to, by, now).await,
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
            Change::Delete => delete(tx, plugin).await?,
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
        set_mount(tx, plugin, &wanted.mount).await?;
        if *grant == GrantMode::AllAsked {
            write_grants(tx, plugin, &wanted.grants, by, now).await?;
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
        set_live(tx, plugin, wanted.deployment, by, now).await?;
        self.forget_oldest(tx, plugin, wanted.deployment).await?;
        let deployment = Deployment {
            id: wanted.deployment,
            plugin: plugin.clone(),
            version: wanted.version.clone(),
            component: wanted.component,
            entry: wanted.entry,
            manifest: wanted.manifest.clone(),
            created_at_ms: now,
            created_by: by.to_owned(),
            note: note.clone(),
            is_live: true,
        };
        Ok(Changed::Live {
            deployment: Box::new(deployment),
            replaced,
        })
    }

    async fn forget_oldest(
        &self,
        tx: &mut Transaction,
        plugin: &PluginName,
        live: DeploymentId,
    ) -> Result<(), StoreError> {
        // The live one is mostly the newest, but of two that were deployed at once it may be the other.
        sqlx::query(
            "DELETE FROM deployments WHERE plugin = $1 AND id <> $3 AND id NOT IN \
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

/// Makes an earlier deployment live again: the newest one before the live one, if none is named.
async fn roll_back(
    tx: &mut Transaction,
    plugin: &PluginName,
    to: Option<DeploymentId>,
    by: &str,
    now: i64,
) -> Result<Changed, StoreError> {
    touch(tx, plugin).await?;
    let replaced = live_of(tx, plugin).await?.flatten();
    let row = match to {
        Some(to) => {
            sqlx::query("SELECT * FROM deployments WHERE plugin = $1 AND id = $2")
                .bind(plugin.as_str())
                .bind(to.to_string())
                .fetch_optional(&mut **tx)
                .await?
        }
        None => {
            // Ids are ordered by time.
            sqlx::query(
                "SELECT * FROM deployments WHERE plugin = $1 AND id < $2 ORDER BY id DESC LIMIT 1",
            )
            .bind(plugin.as_str())
            .bind(replaced.map(|id| id.to_string()).unwrap_or_default())
            .fetch_optional(&mut **tx)
            .await?
        }
    };
    let row = row.ok_or_else(|| StoreError::DeploymentNotFound {
        plugin: plugin.clone(),
    })?;
    let mut deployment = deployment(&row, None)?;
    set_live(tx, plugin, deployment.id, by, now).await?;
    deployment.is_live = true;
    Ok(Changed::Live {
        deployment: Box::new(deployment),
        replaced,
    })
}

async fn delete(tx: &mut Transaction, plugin: &PluginName) -> Result<(), StoreError> {
    for statement in [
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
