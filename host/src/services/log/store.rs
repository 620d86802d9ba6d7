//! The rows of log entries.

use std::{collections::HashSet, sync::Arc};

use sqlx::{Row as _, any::AnyRow};

use super::{Entry, Filter, Level};
use crate::db::Db;
use crate::ids::PluginName;

pub(super) async fn last_sequence(db: &Db) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(sequence), 0) FROM log_entries")
        .fetch_one(db.reader())
        .await
}

/// Writes entries with ascending numbers, from the next one in the rows if none is given, and removes what their plugins may
/// not keep any longer.
pub(super) async fn write(
    db: &Db,
    first: Option<i64>,
    entries: &[Arc<Entry>],
    plugins: &HashSet<&PluginName>,
    count_max: i64,
    oldest_ms: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = db.begin().await?;
    let first: i64 = match first {
        Some(first) => first,
        None => {
            sqlx::query_scalar("SELECT coalesce(max(sequence), 0) + 1 FROM log_entries")
                .fetch_one(&mut *transaction)
                .await?
        }
    };
    for (sequence, entry) in (first..).zip(entries) {
        sqlx::query(
            "INSERT INTO log_entries
                 (plugin, sequence, at, level, context, message, deployment, request_id)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(entry.plugin.as_str())
        .bind(sequence)
        .bind(entry.at_ms)
        .bind(entry.level as i64)
        .bind(entry.context.as_str())
        .bind(entry.message.as_str())
        .bind(entry.deployment.map(|id| id.to_string()))
        .bind(entry.request_id.map(|id| id.to_string()))
        .execute(&mut *transaction)
        .await?;
    }
    for plugin in plugins {
        // The entry after the last one that may stay, and all before it.
        sqlx::query(
            "DELETE FROM log_entries WHERE plugin = $1 AND (at < $2 OR sequence <= (
                 SELECT sequence FROM log_entries WHERE plugin = $1
                 ORDER BY sequence DESC LIMIT 1 OFFSET $3
             ))",
        )
        .bind(plugin.as_str())
        .bind(oldest_ms)
        .bind(count_max)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

/// Entries with their numbers, newest first.
pub(super) async fn query(
    db: &Db,
    plugin: &PluginName,
    filter: &Filter,
    before: i64,
    limit: i64,
) -> Result<Vec<(i64, Entry)>, sqlx::Error> {
    let sql = match filter.request_id {
        Some(_) => {
            "SELECT * FROM log_entries
             WHERE plugin = $1 AND sequence < $2 AND level >= $3 AND at >= $4 AND request_id = $6
             ORDER BY sequence DESC LIMIT $5"
        }
        None => {
            "SELECT * FROM log_entries
             WHERE plugin = $1 AND sequence < $2 AND level >= $3 AND at >= $4
             ORDER BY sequence DESC LIMIT $5"
        }
    };
    let mut query = sqlx::query(sql)
        .bind(plugin.as_str())
        .bind(before)
        .bind(filter.level_min.unwrap_or(Level::Trace) as i64)
        .bind(filter.since_ms.unwrap_or(i64::MIN))
        .bind(limit);
    if let Some(id) = filter.request_id {
        query = query.bind(id.to_string());
    }
    let rows = query.fetch_all(db.reader()).await?;
    rows.iter()
        .map(|row| Ok((row.try_get("sequence")?, read(plugin, row)?)))
        .collect()
}

pub(super) async fn delete_plugin(db: &Db, plugin: &PluginName) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM log_entries WHERE plugin = $1")
        .bind(plugin.as_str())
        .execute(db.writer())
        .await
        .map(drop)
}

fn read(plugin: &PluginName, row: &AnyRow) -> Result<Entry, sqlx::Error> {
    let level = usize::try_from(row.try_get::<i64, _>("level")?).unwrap_or(0);
    let (deployment, request_id): (Option<String>, Option<String>) =
        (row.try_get("deployment")?, row.try_get("request_id")?);
    Ok(Entry {
        plugin: plugin.clone(),
        deployment: deployment.and_then(|id| id.parse().ok()),
        request_id: request_id.and_then(|id| id.parse().ok()),
        level: Level::ALL.get(level).copied().unwrap_or(Level::Critical),
        context: row.try_get("context")?,
        message: row.try_get("message")?,
        at_ms: row.try_get("at")?,
    })
}
