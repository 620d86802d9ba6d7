//! The rows of bytes that nobody needs any more, and of what is forgotten with them.

use std::collections::HashSet;

use sqlx::any::AnyRow;

use crate::db::Db;
use crate::ids::PluginName;
use crate::services::blobs::store::{Change, Result, int, parsed, read_bucket, uint};
use crate::services::blobs::{BucketId, ObjectId};

/// Bytes of an object that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::services::blobs) struct Removal {
    pub(in crate::services::blobs) object: ObjectId,
    pub(in crate::services::blobs) bucket: BucketId,
}

/// What is to be removed, the oldest first, after this one.
pub(in crate::services::blobs) async fn removals(
    db: &Db,
    after: &str,
    limit: i64,
) -> Result<Vec<Removal>> {
    let rows = sqlx::query(
        "SELECT object, plugin, bucket FROM blob_removals WHERE object > $1 ORDER BY object LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db.reader())
    .await?;
    rows.iter().map(read_removal).collect()
}

pub(in crate::services::blobs) async fn removal(
    db: &Db,
    object: ObjectId,
) -> Result<Option<Removal>> {
    let row = sqlx::query("SELECT object, plugin, bucket FROM blob_removals WHERE object = $1")
        .bind(object.to_string())
        .fetch_optional(db.reader())
        .await?;
    row.as_ref().map(read_removal).transpose()
}

/// The pieces that must stay at the place of an object; nothing if it is not there, nor being sent.
pub(in crate::services::blobs) async fn kept_parts(
    db: &Db,
    object: ObjectId,
) -> Result<HashSet<String>> {
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT key FROM blob_parts WHERE object = $1 AND (EXISTS (SELECT 1 FROM blobs WHERE id = $1)
         OR EXISTS (SELECT 1 FROM blob_uploads WHERE object = $1 AND finished_at IS NULL))",
    )
    .bind(object.to_string())
    .fetch_all(db.reader())
    .await?;
    Ok(keys.into_iter().collect())
}

/// Forgets links that are worth nothing anyway.
pub(in crate::services::blobs) async fn forget_links(db: &Db, now: i64) -> Result<()> {
    sqlx::query("DELETE FROM blob_links WHERE expires_at <= $1")
        .bind(now)
        .execute(db.writer())
        .await?;
    Ok(())
}

/// Whether any row knows of an object.
pub(in crate::services::blobs) async fn is_known(db: &Db, object: ObjectId) -> Result<bool> {
    let row = sqlx::query(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM blobs WHERE id = $1)
         OR EXISTS (SELECT 1 FROM blob_uploads WHERE object = $1 AND finished_at IS NULL)
         OR EXISTS (SELECT 1 FROM blob_removals WHERE object = $1)",
    )
    .bind(object.to_string())
    .fetch_optional(db.reader())
    .await?;
    Ok(row.is_some())
}

/// Takes the names from all objects of a plugin and gives up its uploads; their bytes are to be removed.
pub(in crate::services::blobs) async fn delete_plugin(db: &Db, plugin: &PluginName) -> Result<()> {
    let mut transaction = db.begin().await?;
    for sql in [
        // Holds the rows of usage, as every change does first.
        "UPDATE blob_usage SET objects = objects WHERE plugin = $1",
        "INSERT INTO blob_removals (object, plugin, bucket, bytes)
         SELECT id, plugin, bucket, size FROM blobs WHERE plugin = $1
         ON CONFLICT (object) DO UPDATE SET bytes = blob_removals.bytes + excluded.bytes",
        "INSERT INTO blob_removals (object, plugin, bucket, bytes)
         SELECT object, plugin, bucket, taken FROM blob_uploads WHERE plugin = $1 AND finished_at IS NULL
         ON CONFLICT (object) DO UPDATE SET bytes = blob_removals.bytes + excluded.bytes",
        "UPDATE blob_usage SET objects = 0, uploads = 0, reserved = 0, bytes = COALESCE((
             SELECT CAST(SUM(bytes) AS BIGINT) FROM blob_removals WHERE blob_removals.plugin = blob_usage.plugin
             AND (blob_usage.bucket = '' OR blob_removals.bucket = blob_usage.bucket)), 0) WHERE plugin = $1",
        "DELETE FROM blobs WHERE plugin = $1",
        "DELETE FROM blob_uploads WHERE plugin = $1",
    ] {
        sqlx::query(sql)
            .bind(plugin.as_str())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

impl Change {
    /// Notes that something is to be removed, and how many of the bucket's bytes that is.
    pub(in crate::services::blobs) async fn remove_later(
        &mut self,
        object: ObjectId,
        bytes: u64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO blob_removals (object, plugin, bucket, bytes) VALUES ($1, $2, $3, $4)
             ON CONFLICT (object) DO UPDATE SET bytes = blob_removals.bytes + excluded.bytes",
        )
        .bind(object.to_string())
        .bind(self.bucket.plugin.as_str())
        .bind(self.bucket.label.as_str())
        .bind(int(bytes))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Forgets what was removed, and tells how many bytes it was; nothing if somebody else did.
    pub(in crate::services::blobs) async fn removed(
        &mut self,
        object: ObjectId,
        with_parts: bool,
    ) -> Result<Option<u64>> {
        let row = sqlx::query("DELETE FROM blob_removals WHERE object = $1 RETURNING bytes")
            .bind(object.to_string())
            .fetch_optional(&mut *self.transaction)
            .await?;
        if with_parts {
            sqlx::query("DELETE FROM blob_parts WHERE object = $1")
                .bind(object.to_string())
                .execute(&mut *self.transaction)
                .await?;
        }
        row.map(|row| uint(&row, "bytes")).transpose()
    }
}

fn read_removal(row: &AnyRow) -> Result<Removal> {
    Ok(Removal {
        object: parsed(row, "object")?,
        bucket: read_bucket(row)?,
    })
}
