//! The rows of secrets.

use sqlx::Row as _;

use super::Listed;
use crate::db::{Db, Transaction};
use crate::ids::{Label, PluginName};

/// The revision and the sealed value.
pub(super) async fn find(
    db: &Db,
    plugin: &PluginName,
    label: &Label,
) -> Result<Option<(String, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as("SELECT revision, sealed FROM secrets WHERE plugin = $1 AND label = $2")
        .bind(plugin.as_str())
        .bind(label.as_str())
        .fetch_optional(db.reader())
        .await
}

/// Sets a value unless the plugin would then have more than `count_max`.
pub(super) async fn set(
    transaction: &mut Transaction,
    plugin: &PluginName,
    label: &Label,
    revision: &str,
    sealed: &[u8],
    now_ms: i64,
    count_max: u32,
) -> Result<bool, sqlx::Error> {
    let result = sqlx::query(
        "INSERT INTO secrets (plugin, label, revision, sealed, updated_at)
         SELECT $1, $2, $3, $4, $5
         WHERE (SELECT count(*) FROM secrets WHERE plugin = $1 AND label <> $2) < $6
         ON CONFLICT (plugin, label) DO UPDATE SET
             revision = excluded.revision, sealed = excluded.sealed,
             updated_at = excluded.updated_at",
    )
    .bind(plugin.as_str())
    .bind(label.as_str())
    .bind(revision)
    .bind(sealed)
    .bind(now_ms)
    .bind(i64::from(count_max))
    .execute(&mut **transaction)
    .await?;
    Ok(result.rows_affected() > 0)
}

pub(super) async fn list(db: &Db, plugin: &PluginName) -> Result<Vec<Listed>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT label, revision, updated_at FROM secrets WHERE plugin = $1 ORDER BY label",
    )
    .bind(plugin.as_str())
    .fetch_all(db.reader())
    .await?;
    rows.iter()
        .map(|row| {
            let label: String = row.try_get("label")?;
            let label = label
                .parse()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            let (revision, updated_at) = (row.try_get("revision")?, row.try_get("updated_at")?);
            Ok(Listed {
                label,
                revision,
                updated_at,
            })
        })
        .collect()
}

pub(super) async fn delete(
    transaction: &mut Transaction,
    plugin: &PluginName,
    label: &Label,
) -> Result<bool, sqlx::Error> {
    let result = sqlx::query("DELETE FROM secrets WHERE plugin = $1 AND label = $2")
        .bind(plugin.as_str())
        .bind(label.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(result.rows_affected() > 0)
}
