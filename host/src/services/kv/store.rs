//! The rows of the key-value stores.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, any::AnyRow};

use super::Usage;
use crate::db::{Db, Transaction};
use crate::ids::{Label, PluginName};

/// How many expired entries one write removes at a time when the plugin's quota is reached.
const SWEEP_PER_STEP: i64 = 1000;

/// An entry as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) value: Vec<u8>,
    pub(super) version: i64,
    pub(super) expires_at: Option<i64>,
}

impl Stored {
    fn read(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            value: row.try_get("value")?,
            version: row.try_get("version")?,
            expires_at: row.try_get("expires_at")?,
        })
    }
}

pub(super) async fn find(
    connection: &mut AnyConnection,
    plugin: &PluginName,
    label: &Label,
    key: &str,
    now_ms: i64,
) -> Result<Option<Stored>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT value, version, expires_at FROM kv_entries
         WHERE plugin = $1 AND label = $2 AND key = $3 AND (expires_at IS NULL OR expires_at > $4)",
    )
    .bind(plugin.as_str())
    .bind(label.as_str())
    .bind(key)
    .bind(now_ms)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(Stored::read).transpose()
}

/// Nothing if the values have more than `bytes_max` bytes together.
pub(super) async fn find_many(
    connection: &mut AnyConnection,
    plugin: &PluginName,
    label: &Label,
    keys: &[String],
    bytes_max: usize,
    now_ms: i64,
) -> Result<Option<HashMap<String, Stored>>, sqlx::Error> {
    // Rounded up by repeating a key, so that a handful of prepared statements serves every number of keys.
    let slots = keys.len().next_power_of_two();
    let placeholders: Vec<String> = (0..slots).map(|slot| format!("${}", slot + 4)).collect();
    let placeholders = placeholders.join(", ");
    let sql = format!(
        "SELECT key, value, version, expires_at FROM kv_entries
         WHERE plugin = $1 AND label = $2 AND (expires_at IS NULL OR expires_at > $3)
         AND key IN ({placeholders})"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    query = query
        .bind(plugin.as_str())
        .bind(label.as_str())
        .bind(now_ms);
    for key in keys.iter().chain(std::iter::repeat(&keys[0])).take(slots) {
        query = query.bind(key.as_str());
    }
    // Row by row, so that no more is held than may be returned.
    let mut rows = query.fetch(connection);
    let (mut found, mut bytes) = (HashMap::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let stored = Stored::read(&row)?;
        bytes += stored.value.len();
        if bytes > bytes_max {
            return Ok(None);
        }
        found.insert(row.try_get("key")?, stored);
    }
    Ok(Some(found))
}

pub(super) async fn keys(
    connection: &mut AnyConnection,
    plugin: &PluginName,
    label: &Label,
    from: &str,
    after: &str,
    limit: i64,
    now_ms: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT key FROM kv_entries
         WHERE plugin = $1 AND label = $2 AND key >= $3 AND key > $4
         AND (expires_at IS NULL OR expires_at > $5)
         ORDER BY key LIMIT $6",
    )
    .bind(plugin.as_str())
    .bind(label.as_str())
    .bind(from)
    .bind(after)
    .bind(now_ms)
    .bind(limit)
    .fetch_all(connection)
    .await
}

pub(super) async fn usage(db: &Db, plugin: &PluginName) -> Result<Usage, sqlx::Error> {
    let row = sqlx::query("SELECT entries, total_bytes FROM kv_usage WHERE plugin = $1")
        .bind(plugin.as_str())
        .fetch_optional(db.reader())
        .await?;
    row.map_or(Ok(Usage::default()), |row| read_usage(&row))
}

pub(super) async fn sweep(db: &Db, now_ms: i64, max: u32) -> Result<u64, sqlx::Error> {
    let mut transaction = db.begin().await?;
    // As every change does: first the usage, so that none waits for an entry of one that waits for this.
    sqlx::query(
        "UPDATE kv_usage SET entries = entries WHERE plugin IN (
             SELECT plugin FROM kv_entries
             WHERE expires_at IS NOT NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2)",
    )
    .bind(now_ms)
    .bind(i64::from(max))
    .execute(&mut *transaction)
    .await?;
    let rows = sqlx::query(
        "DELETE FROM kv_entries WHERE (plugin, label, key) IN (
             SELECT plugin, label, key FROM kv_entries
             WHERE expires_at IS NOT NULL AND expires_at <= $1 ORDER BY expires_at LIMIT $2
         ) RETURNING plugin, size",
    )
    .bind(now_ms)
    .bind(i64::from(max))
    .fetch_all(&mut *transaction)
    .await?;
    let mut freed: HashMap<String, (i64, i64)> = HashMap::new();
    for row in &rows {
        let freed = freed.entry(row.try_get("plugin")?).or_default();
        freed.0 += 1;
        freed.1 += row.try_get::<i64, _>("size")?;
    }
    for (plugin, (entries, bytes)) in freed {
        sqlx::query(
            "UPDATE kv_usage SET entries = entries - $2, total_bytes = total_bytes - $3
             WHERE plugin = $1",
        )
        .bind(plugin)
        .bind(entries)
        .bind(bytes)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    Ok(rows.len() as u64)
}

pub(super) async fn delete_plugin(db: &Db, plugin: &PluginName) -> Result<(), sqlx::Error> {
    let mut transaction = db.begin().await?;
    for sql in [
        "DELETE FROM kv_usage WHERE plugin = $1",
        "DELETE FROM kv_entries WHERE plugin = $1",
    ] {
        sqlx::query(sql)
            .bind(plugin.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

/// One write of one plugin: a transaction that holds the plugin's usage row, so that writes of the same plugin follow
/// one another in every database. Rolls back when dropped.
pub(super) struct Change {
    transaction: Transaction,
    plugin: PluginName,
    now_ms: i64,
    version: i64,
    entries: i64,
    total_bytes: i64,
}

impl Change {
    pub(super) async fn begin(
        mut transaction: Transaction,
        plugin: &PluginName,
        now_ms: i64,
    ) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "INSERT INTO kv_usage (plugin, entries, total_bytes, last_version) VALUES ($1, 0, 0, 1)
             ON CONFLICT (plugin) DO UPDATE SET last_version = kv_usage.last_version + 1
             RETURNING entries, total_bytes, last_version",
        )
        .bind(plugin.as_str())
        .fetch_one(&mut *transaction)
        .await?;
        Ok(Self {
            transaction,
            plugin: plugin.clone(),
            now_ms,
            version: row.try_get("last_version")?,
            entries: row.try_get("entries")?,
            total_bytes: row.try_get("total_bytes")?,
        })
    }

    /// What the plugin keeps, with the changes made so far.
    pub(super) fn usage(&self) -> Usage {
        Usage {
            entries: self.entries.try_into().unwrap_or(0),
            total_bytes: self.total_bytes.try_into().unwrap_or(0),
        }
    }

    pub(super) async fn find(
        &mut self,
        label: &Label,
        key: &str,
    ) -> Result<Option<Stored>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT value, version, expires_at FROM kv_entries
             WHERE plugin = $1 AND label = $2 AND key = $3
             AND (expires_at IS NULL OR expires_at > $4)",
        )
        .bind(self.plugin.as_str())
        .bind(label.as_str())
        .bind(key)
        .bind(self.now_ms)
        .fetch_optional(&mut *self.transaction)
        .await?;
        row.as_ref().map(Stored::read).transpose()
    }

    /// Sets the entry, whether it is there or not, and returns its new version.
    pub(super) async fn put(
        &mut self,
        label: &Label,
        key: &str,
        value: &[u8],
        expires_at: Option<i64>,
    ) -> Result<i64, sqlx::Error> {
        // First away with the old one, also if it expired: then the usage is right in every case.
        self.delete(label, key).await?;
        let size = i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX);
        sqlx::query(
            "INSERT INTO kv_entries (plugin, label, key, value, size, version, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(self.plugin.as_str())
        .bind(label.as_str())
        .bind(key)
        .bind(value)
        .bind(size)
        .bind(self.version)
        .bind(expires_at)
        .execute(&mut *self.transaction)
        .await?;
        self.entries += 1;
        self.total_bytes += size;
        Ok(self.version)
    }

    /// Removes the entry, also if it expired.
    pub(super) async fn delete(&mut self, label: &Label, key: &str) -> Result<(), sqlx::Error> {
        let row = sqlx::query(
            "DELETE FROM kv_entries WHERE plugin = $1 AND label = $2 AND key = $3 RETURNING size",
        )
        .bind(self.plugin.as_str())
        .bind(label.as_str())
        .bind(key)
        .fetch_optional(&mut *self.transaction)
        .await?;
        if let Some(row) = row {
            self.entries -= 1;
            self.total_bytes -= row.try_get::<i64, _>("size")?;
        }
        Ok(())
    }

    /// Removes some expired entries of the plugin and says how many.
    pub(super) async fn sweep(&mut self) -> Result<usize, sqlx::Error> {
        let rows = sqlx::query(
            "DELETE FROM kv_entries WHERE (plugin, label, key) IN (
                 SELECT plugin, label, key FROM kv_entries
                 WHERE plugin = $1 AND expires_at IS NOT NULL AND expires_at <= $2 LIMIT $3
             ) RETURNING size",
        )
        .bind(self.plugin.as_str())
        .bind(self.now_ms)
        .bind(SWEEP_PER_STEP)
        .fetch_all(&mut *self.transaction)
        .await?;
        for row in &rows {
            self.entries -= 1;
            self.total_bytes -= row.try_get::<i64, _>("size")?;
        }
        Ok(rows.len())
    }

    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE kv_usage SET entries = $2, total_bytes = $3 WHERE plugin = $1")
            .bind(self.plugin.as_str())
            .bind(self.entries)
            .bind(self.total_bytes)
            .execute(&mut *self.transaction)
            .await?;
        self.transaction.commit().await
    }
}

fn read_usage(row: &AnyRow) -> Result<Usage, sqlx::Error> {
    let entries: i64 = row.try_get("entries")?;
    let total_bytes: i64 = row.try_get("total_bytes")?;
    Ok(Usage {
        entries: entries.try_into().unwrap_or(0),
        total_bytes: total_bytes.try_into().unwrap_or(0),
    })
}
