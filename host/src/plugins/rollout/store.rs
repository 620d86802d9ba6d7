//! The rows of what is on its way: canaries, approvals, the history of a plugin, and which versions have migrated.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::db::{Transaction, now_ms};
use crate::ids::{DeploymentId, Digest, PluginName};
use crate::plugins::Mount;
use crate::plugins::rollout::Weight;
use crate::plugins::row::{optional, parsed};
use crate::plugins::store::{Store, StoreError};
use crate::plugins::validate::Grant;

/// An upgrade that asks for more than it was granted, and waits until somebody who may grant agrees.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    pub plugin: PluginName,
    pub id: DeploymentId,
    pub version: semver::Version,
    /// The upload's address in the artifact store.
    pub upload: Digest,
    /// What it asks for and was not granted.
    pub missing: Vec<Grant>,
    pub asked_by: String,
    pub asked_at_ms: i64,
    pub reason: Option<String>,
    pub(in crate::plugins) wish: Wish,
}

impl Approval {
    /// The part of the requests that it begins with, if it begins as a canary.
    pub fn canary(&self) -> Option<Weight> {
        self.wish
            .canary
            .and_then(|percent| Weight::new(percent).ok())
    }
}

/// How somebody wants an upload to be deployed, as it is kept until that is approved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::plugins) struct Wish {
    pub(in crate::plugins) mount_host: Option<String>,
    pub(in crate::plugins) mount_path: Option<String>,
    pub(in crate::plugins) is_nested_accepted: bool,
    pub(in crate::plugins) canary: Option<u32>,
    pub(in crate::plugins) config: Option<Map<String, Value>>,
    pub(in crate::plugins) source: Option<String>,
    pub(in crate::plugins) allows_downgrade: bool,
}

impl Wish {
    /// Where it is to hang, if that was said.
    pub(in crate::plugins) fn mount(&self) -> Option<Mount> {
        self.mount_path.as_ref().map(|path| Mount {
            host: self.mount_host.clone(),
            path: path.clone(),
        })
    }
}

/// What happened to the versions of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A new version became live.
    Deployed,
    /// A new version began to answer a part of the requests.
    CanaryStarted,
    /// The canary answers another part of them.
    CanaryWeight,
    /// The canary became the live version.
    Promoted,
    /// An earlier version became live, or the canary was taken back.
    RolledBack,
    /// An upgrade asks for more than it was granted.
    Asked,
    /// Somebody granted it.
    Approved,
    /// Somebody refused it.
    Rejected,
}

const KINDS: [(EventKind, &str); 8] = [
    (EventKind::Deployed, "deployed"),
    (EventKind::CanaryStarted, "canary-started"),
    (EventKind::CanaryWeight, "canary-weight"),
    (EventKind::Promoted, "promoted"),
    (EventKind::RolledBack, "rolled-back"),
    (EventKind::Asked, "approval-asked"),
    (EventKind::Approved, "approved"),
    (EventKind::Rejected, "rejected"),
];

impl EventKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        let found = KINDS.iter().find(|(kind, _)| *kind == self);
        found.map(|(_, word)| *word).unwrap_or_default()
    }
}

/// One line of a plugin's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: DeploymentId,
    pub at_ms: i64,
    pub kind: EventKind,
    pub deployment: Option<DeploymentId>,
    pub version: Option<semver::Version>,
    /// Of a hundred requests, for canaries.
    pub weight: Option<u32>,
    /// The user or API key, or `gantry` for the host itself.
    pub by: String,
    pub reason: Option<String>,
}

/// What is to be remembered.
pub(in crate::plugins) struct NewEvent<'a> {
    pub(in crate::plugins) kind: EventKind,
    pub(in crate::plugins) deployment: DeploymentId,
    pub(in crate::plugins) version: &'a semver::Version,
    pub(in crate::plugins) weight: Option<Weight>,
    pub(in crate::plugins) by: &'a str,
    pub(in crate::plugins) reason: Option<&'a str>,
}

/// Whether a version may migrate now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugins) enum Claim {
    Ours,
    /// It has migrated.
    Done,
    /// Somebody else is at it.
    Busy,
}

impl Store {
    /// The history of a plugin, newest first, older than `before`, at most `limit` lines.
    pub async fn events(
        &self,
        plugin: &PluginName,
        before: Option<DeploymentId>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let found = self.find_plugin(plugin).await?;
        found.ok_or_else(|| StoreError::PluginNotFound(plugin.clone()))?;
        let query = sqlx::query(
            "SELECT * FROM plugin_events WHERE plugin = $1 AND ($2 = '' OR id < $2) \
             ORDER BY id DESC LIMIT $3",
        )
        .bind(plugin.as_str())
        .bind(before.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit));
        let rows = query.fetch_all(self.reader()).await?;
        rows.iter().map(event).collect()
    }

    /// The upgrade of a plugin that waits for approval.
    pub async fn approval(&self, plugin: &PluginName) -> Result<Option<Approval>, StoreError> {
        let query = sqlx::query("SELECT * FROM approvals WHERE plugin = $1").bind(plugin.as_str());
        let row = query.fetch_optional(self.reader()).await?;
        row.as_ref().map(approval).transpose()
    }

    /// Takes the right to migrate the data of a version, for so long.
    pub(in crate::plugins) async fn claim_migration(
        &self,
        plugin: &PluginName,
        version: &semver::Version,
        for_ms: i64,
    ) -> Result<Claim, StoreError> {
        let now_ms = self.now_ms();
        let claimed = sqlx::query(
            "INSERT INTO plugin_migrations (plugin, version, is_done, until_ms) VALUES ($1, $2, 0, $3) \
             ON CONFLICT (plugin, version) DO UPDATE SET until_ms = excluded.until_ms \
             WHERE plugin_migrations.is_done = 0 AND plugin_migrations.until_ms < $4",
        )
        .bind(plugin.as_str())
        .bind(version.to_string())
        .bind(now_ms.saturating_add(for_ms))
        .bind(now_ms)
        .execute(self.writer())
        .await?;
        if claimed.rows_affected() > 0 {
            return Ok(Claim::Ours);
        }
        let row =
            sqlx::query("SELECT is_done FROM plugin_migrations WHERE plugin = $1 AND version = $2")
                .bind(plugin.as_str())
                .bind(version.to_string())
                .fetch_optional(self.writer())
                .await?;
        let is_done = match row {
            Some(row) => row.try_get::<i64, _>("is_done")? == 1,
            None => false,
        };
        Ok(if is_done { Claim::Done } else { Claim::Busy })
    }

    /// Notes that a version has migrated; or that it failed, so that the next one may try at once.
    pub(in crate::plugins) async fn end_migration(
        &self,
        plugin: &PluginName,
        version: &semver::Version,
        is_done: bool,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE plugin_migrations SET is_done = $1, until_ms = 0 \
             WHERE plugin = $2 AND version = $3 AND is_done = 0",
        )
        .bind(i64::from(is_done))
        .bind(plugin.as_str())
        .bind(version.to_string())
        .execute(self.writer())
        .await?;
        Ok(())
    }

    /// Lets everybody migrate again who was at it when the host died. Only at the start: nobody is at it then.
    pub(in crate::plugins) async fn release_migrations(&self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM plugin_migrations WHERE is_done = 0")
            .execute(self.writer())
            .await?;
        Ok(())
    }

    /// Whether this or an earlier version has begun to migrate data.
    pub(in crate::plugins) async fn has_migrated(
        &self,
        plugin: &PluginName,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT plugin FROM plugin_migrations WHERE plugin = $1 LIMIT 1");
        let row = query.bind(plugin.as_str()).fetch_optional(self.reader());
        Ok(row.await?.is_some())
    }

    /// Forgets which versions have migrated: their data is gone.
    pub(in crate::plugins) async fn forget_migrations(
        &self,
        plugin: &PluginName,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM plugin_migrations WHERE plugin = $1")
            .bind(plugin.as_str())
            .execute(self.writer())
            .await?;
        Ok(())
    }
}

/// The canary of a plugin, as a deployment and its weight.
pub(in crate::plugins) async fn rollout_of(
    rows: &mut AnyConnection,
    plugin: &PluginName,
) -> Result<Option<(DeploymentId, Weight)>, StoreError> {
    let row = sqlx::query("SELECT deployment, weight FROM rollouts WHERE plugin = $1")
        .bind(plugin.as_str())
        .fetch_optional(rows)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((
        parsed(&row, "rollouts", "deployment")?,
        weight(&row, "rollouts")?,
    )))
}

/// Lets a deployment answer a part of the requests, in place of any other canary.
pub(in crate::plugins) async fn put_rollout(
    tx: &mut Transaction,
    plugin: &PluginName,
    deployment: DeploymentId,
    weight: Weight,
    by: &str,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rollouts (plugin, deployment, weight, started_by, started_at_ms) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (plugin) DO UPDATE SET \
         deployment = excluded.deployment, weight = excluded.weight, \
         started_by = excluded.started_by, started_at_ms = excluded.started_at_ms",
    )
    .bind(plugin.as_str())
    .bind(deployment.to_string())
    .bind(i64::from(weight.percent()))
    .bind(by)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends a canary, however it ends.
pub(in crate::plugins) async fn delete_rollout(
    tx: &mut Transaction,
    plugin: &PluginName,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM rollouts WHERE plugin = $1")
        .bind(plugin.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Keeps an upgrade until it is approved, in place of any other one.
pub(in crate::plugins) async fn put_approval(
    tx: &mut Transaction,
    approval: &Approval,
) -> Result<(), StoreError> {
    let text = |value: Result<String, serde_json::Error>| {
        value.map_err(|error| StoreError::Row {
            table: "approvals",
            reason: error.to_string(),
        })
    };
    let missing: Vec<String> = approval.missing.iter().map(ToString::to_string).collect();
    delete_approval(tx, &approval.plugin, None).await?;
    sqlx::query(
        "INSERT INTO approvals \
         (plugin, id, version, upload, wanted, missing, asked_by, asked_at_ms, reason) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(approval.plugin.as_str())
    .bind(approval.id.to_string())
    .bind(approval.version.to_string())
    .bind(approval.upload.to_string())
    .bind(text(serde_json::to_string(&approval.wish))?)
    .bind(text(serde_json::to_string(&missing))?)
    .bind(approval.asked_by.as_str())
    .bind(approval.asked_at_ms)
    .bind(approval.reason.as_deref())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets the upgrade that waits; only this one, if one is named. Whether there was one.
pub(in crate::plugins) async fn delete_approval(
    tx: &mut Transaction,
    plugin: &PluginName,
    only: Option<DeploymentId>,
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM approvals WHERE plugin = $1 AND ($2 = '' OR id = $2)")
        .bind(plugin.as_str())
        .bind(only.map(|id| id.to_string()).unwrap_or_default())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Adds a line to the history, and drops the oldest beyond `kept_max`.
pub(in crate::plugins) async fn note(
    tx: &mut Transaction,
    plugin: &PluginName,
    event: &NewEvent<'_>,
    kept_max: u32,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO plugin_events \
         (id, plugin, at_ms, kind, deployment, version, weight, done_by, reason) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(DeploymentId::new().to_string())
    .bind(plugin.as_str())
    .bind(now_ms())
    .bind(event.kind.as_str())
    .bind(event.deployment.to_string())
    .bind(event.version.to_string())
    .bind(event.weight.map(|weight| i64::from(weight.percent())))
    .bind(event.by)
    .bind(event.reason)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM plugin_events WHERE plugin = $1 AND id NOT IN \
         (SELECT id FROM plugin_events WHERE plugin = $1 ORDER BY id DESC LIMIT $2)",
    )
    .bind(plugin.as_str())
    .bind(i64::from(kept_max.max(1)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn event(row: &AnyRow) -> Result<Event, StoreError> {
    let word: String = row.try_get("kind")?;
    let found = KINDS.iter().find(|(_, known)| *known == word);
    let (kind, _) = found.ok_or_else(|| StoreError::Row {
        table: "plugin_events",
        reason: format!("`{word}` is nothing that this version knows"),
    })?;
    let weight: Option<i64> = row.try_get("weight")?;
    Ok(Event {
        id: parsed(row, "plugin_events", "id")?,
        at_ms: row.try_get("at_ms")?,
        kind: *kind,
        deployment: optional(row, "plugin_events", "deployment")?,
        version: optional(row, "plugin_events", "version")?,
        weight: weight.and_then(|weight| weight.try_into().ok()),
        by: row.try_get("done_by")?,
        reason: row.try_get("reason")?,
    })
}

fn approval(row: &AnyRow) -> Result<Approval, StoreError> {
    let broken = |reason: String| StoreError::Row {
        table: "approvals",
        reason,
    };
    let missing: String = row.try_get("missing")?;
    let missing: Vec<String> =
        serde_json::from_str(&missing).map_err(|error| broken(error.to_string()))?;
    let missing: Result<Vec<Grant>, _> = missing.iter().map(|text| text.parse()).collect();
    let wish: String = row.try_get("wanted")?;
    Ok(Approval {
        plugin: parsed(row, "approvals", "plugin")?,
        id: parsed(row, "approvals", "id")?,
        version: parsed(row, "approvals", "version")?,
        upload: parsed(row, "approvals", "upload")?,
        missing: missing.map_err(|error| broken(error.to_string()))?,
        asked_by: row.try_get("asked_by")?,
        asked_at_ms: row.try_get("asked_at_ms")?,
        reason: row.try_get("reason")?,
        wish: serde_json::from_str(&wish).map_err(|error| broken(error.to_string()))?,
    })
}

pub(in crate::plugins) fn weight(row: &AnyRow, table: &'static str) -> Result<Weight, StoreError> {
    let percent: i64 = row.try_get("weight")?;
    u32::try_from(percent)
        .ok()
        .and_then(|percent| Weight::new(percent).ok())
        .ok_or_else(|| StoreError::Row {
            table,
            reason: format!("{percent} is no weight"),
        })
}
