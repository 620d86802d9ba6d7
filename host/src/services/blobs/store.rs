//! The rows of files: objects, uploads, the pieces that both lie in, what each bucket keeps, and what is to be removed.

use std::collections::HashSet;

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{BucketId, Condition, Metadata, Object, ObjectId, Rules, UploadId, Usage};
use crate::db::{Db, Transaction};
use crate::ids::PluginName;
use crate::services::Charge;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Stands for all buckets of a plugin in the rows of usage. No label is empty.
const ALL: &str = "";

/// A piece of an object or of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: u64,
    /// Where its first byte stands in the object.
    pub(super) begins_at: u64,
    pub(super) size: u64,
    /// Its name at the object's place in the store.
    pub(super) key: String,
}

/// An upload as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) id: UploadId,
    pub(super) object: ObjectId,
    pub(super) bucket: BucketId,
    pub(super) name: String,
    pub(super) content_type: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) owner: Option<String>,
    pub(super) length: Option<u64>,
    pub(super) rules: Rules,
    pub(super) condition: Condition,
    /// Whether further requests may add to it.
    pub(super) is_resumable: bool,
    pub(super) reserved: u64,
    /// Bytes that are kept in pieces.
    pub(super) taken: u64,
    pub(super) parts: u64,
    /// The first bytes.
    pub(super) head: Vec<u8>,
    /// Where the digest of all bytes so far stands.
    pub(super) hash: Vec<u8>,
    pub(super) created_at: i64,
    pub(super) expires_at: i64,
    pub(super) finished_at: Option<i64>,
}

/// Bytes of an object that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) object: ObjectId,
    pub(super) bucket: BucketId,
}

const OBJECT: &str =
    "id, plugin, bucket, name, size, content_type, sha256, metadata, owner, created_at";

pub(super) async fn find(
    connection: &mut AnyConnection,
    bucket: &BucketId,
    name: &str,
) -> Result<Option<Object>> {
    let sql = select(
        OBJECT,
        "FROM blobs WHERE plugin = $1 AND bucket = $2 AND name = $3",
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(bucket.plugin.as_str())
        .bind(bucket.label.as_str())
        .bind(name)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_object).transpose()
}

/// Whether an object with this id has its name still.
pub(super) async fn is_there(connection: &mut AnyConnection, object: ObjectId) -> Result<bool> {
    let row = sqlx::query("SELECT 1 FROM blobs WHERE id = $1")
        .bind(object.to_string())
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

pub(super) async fn list(
    connection: &mut AnyConnection,
    bucket: &BucketId,
    from: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Object>> {
    let sql = select(
        OBJECT,
        "FROM blobs WHERE plugin = $1 AND bucket = $2 AND name >= $3 AND name > $4 ORDER BY name LIMIT $5",
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(bucket.plugin.as_str())
        .bind(bucket.label.as_str())
        .bind(from)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_object).collect()
}

/// Pieces in which something lies of what is between `begin` and `end`, from number `from` on.
pub(super) async fn parts(
    db: &Db,
    object: ObjectId,
    begin: u64,
    end: u64,
    from: u64,
    limit: i64,
) -> Result<Vec<Part>> {
    let rows = sqlx::query(
        "SELECT number, begins_at, size, key FROM blob_parts
         WHERE object = $1 AND number >= $2 AND begins_at < $3 AND begins_at + size > $4 ORDER BY number LIMIT $5",
    )
    .bind(object.to_string())
    .bind(int(from))
    .bind(int(end))
    .bind(int(begin))
    .bind(limit)
    .fetch_all(db.reader())
    .await?;
    let read = |row: &AnyRow| {
        Ok(Part {
            number: uint(row, "number")?,
            begins_at: uint(row, "begins_at")?,
            size: uint(row, "size")?,
            key: row.try_get("key")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn usage(db: &Db, plugin: &PluginName, bucket: Option<&str>) -> Result<Usage> {
    let row = sqlx::query(
        "SELECT objects, bytes, reserved, uploads FROM blob_usage WHERE plugin = $1 AND bucket = $2",
    )
    .bind(plugin.as_str())
    .bind(bucket.unwrap_or(ALL))
    .fetch_optional(db.reader())
    .await?;
    row.as_ref().map_or(Ok(Usage::default()), read_usage)
}

const UPLOAD: &str = "id, object, plugin, bucket, name, content_type, metadata, owner, length, rules, condition, \
                      is_resumable, reserved, taken, parts, head, hash, created_at, expires_at, finished_at";

/// A resumable upload of this bucket.
pub(super) async fn find_upload(
    connection: &mut AnyConnection,
    bucket: &BucketId,
    id: UploadId,
) -> Result<Option<Stored>> {
    let sql = select(
        UPLOAD,
        "FROM blob_uploads WHERE id = $1 AND plugin = $2 AND bucket = $3 AND is_resumable = 1",
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id.to_string())
        .bind(bucket.plugin.as_str())
        .bind(bucket.label.as_str())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_upload).transpose()
}

/// Open resumable uploads, the oldest first.
pub(super) async fn uploads(
    connection: &mut AnyConnection,
    bucket: &BucketId,
    owner: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<Stored>> {
    let sql = select(
        UPLOAD,
        "FROM blob_uploads WHERE plugin = $1 AND bucket = $2 AND is_resumable = 1 AND finished_at IS NULL
         AND object > $3 AND ($4 = 0 OR owner = $5) ORDER BY object LIMIT $6",
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(bucket.plugin.as_str())
        .bind(bucket.label.as_str())
        .bind(after)
        .bind(i64::from(owner.is_some()))
        .bind(owner.unwrap_or_default())
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_upload).collect()
}

/// Who writes to an upload, and until when, unless it says so again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease<'a> {
    pub(super) token: &'a str,
    pub(super) now: i64,
    pub(super) until: i64,
}

/// Makes somebody the one who writes to an open upload; nothing if there is none or somebody else is.
pub(super) async fn take_upload(
    db: &Db,
    bucket: &BucketId,
    id: UploadId,
    lease: Lease<'_>,
) -> Result<Option<Stored>> {
    let sql = "UPDATE blob_uploads SET lease = $4, lease_until = $5, \
               has_strays = CASE WHEN lease IS NULL THEN has_strays ELSE 1 END \
               WHERE id = $1 AND plugin = $2 AND bucket = $3 AND is_resumable = 1 AND finished_at IS NULL \
               AND expires_at > $6 AND (lease IS NULL OR lease_until <= $6) RETURNING ";
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{sql}{UPLOAD}")))
        .bind(id.to_string())
        .bind(bucket.plugin.as_str())
        .bind(bucket.label.as_str())
        .bind(lease.token)
        .bind(lease.until)
        .bind(lease.now)
        .fetch_optional(db.writer())
        .await?;
    row.as_ref().map(read_upload).transpose()
}

/// Lets the next one write.
pub(super) async fn release_upload(
    db: &Db,
    id: UploadId,
    token: &str,
    has_strays: bool,
) -> Result<()> {
    sqlx::query(
        "UPDATE blob_uploads SET lease = NULL, has_strays = CASE WHEN $3 = 1 THEN 1 ELSE has_strays END
         WHERE id = $1 AND lease = $2",
    )
    .bind(id.to_string())
    .bind(token)
    .bind(i64::from(has_strays))
    .execute(db.writer())
    .await?;
    Ok(())
}

/// Uploads whose time is over, finished ones too.
pub(super) async fn expired_uploads(db: &Db, now: i64, limit: i64) -> Result<Vec<Stored>> {
    let sql = select(
        UPLOAD,
        "FROM blob_uploads WHERE expires_at <= $1 AND (lease IS NULL OR lease_until <= $1) ORDER BY expires_at LIMIT $2",
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(now)
        .bind(limit)
        .fetch_all(db.reader())
        .await?;
    rows.iter().map(read_upload).collect()
}

/// What is to be removed, the oldest first, after this one.
pub(super) async fn removals(db: &Db, after: &str, limit: i64) -> Result<Vec<Removal>> {
    let rows = sqlx::query(
        "SELECT object, plugin, bucket FROM blob_removals WHERE object > $1 ORDER BY object LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db.reader())
    .await?;
    rows.iter().map(read_removal).collect()
}

pub(super) async fn removal(db: &Db, object: ObjectId) -> Result<Option<Removal>> {
    let row = sqlx::query("SELECT object, plugin, bucket FROM blob_removals WHERE object = $1")
        .bind(object.to_string())
        .fetch_optional(db.reader())
        .await?;
    row.as_ref().map(read_removal).transpose()
}

/// The pieces that must stay at the place of an object; nothing if it is not there, nor being sent.
pub(super) async fn kept_parts(db: &Db, object: ObjectId) -> Result<HashSet<String>> {
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT key FROM blob_parts WHERE object = $1 AND (EXISTS (SELECT 1 FROM blobs WHERE id = $1)
         OR EXISTS (SELECT 1 FROM blob_uploads WHERE object = $1 AND finished_at IS NULL))",
    )
    .bind(object.to_string())
    .fetch_all(db.reader())
    .await?;
    Ok(keys.into_iter().collect())
}

/// Whether any row knows of an object.
pub(super) async fn is_known(db: &Db, object: ObjectId) -> Result<bool> {
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
pub(super) async fn delete_plugin(db: &Db, plugin: &PluginName) -> Result<()> {
    let mut transaction = db.begin().await?;
    for sql in [
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

/// One change of one bucket: a transaction that holds the plugin's row of usage, so that changes of the same plugin follow
/// one another in every database. Rolls back when dropped.
pub(super) struct Change {
    transaction: Transaction,
    bucket: BucketId,
    pub(super) plugin_usage: Usage,
    pub(super) bucket_usage: Usage,
    /// What they were, to write only what has changed.
    before: Usage,
    _charge: Charge,
}

impl Change {
    pub(super) async fn begin(
        mut transaction: Transaction,
        charge: Charge,
        bucket: &BucketId,
    ) -> Result<Self> {
        let mut usages = [Usage::default(); 2];
        for (usage, label) in usages.iter_mut().zip([ALL, bucket.label.as_str()]) {
            // Changes nothing, but holds the row.
            let row = sqlx::query(
                "INSERT INTO blob_usage (plugin, bucket, objects, bytes, reserved, uploads) VALUES ($1, $2, 0, 0, 0, 0)
                 ON CONFLICT (plugin, bucket) DO UPDATE SET objects = blob_usage.objects
                 RETURNING objects, bytes, reserved, uploads",
            )
            .bind(bucket.plugin.as_str())
            .bind(label)
            .fetch_one(&mut *transaction)
            .await?;
            *usage = read_usage(&row)?;
        }
        let [plugin_usage, bucket_usage] = usages;
        Ok(Self {
            transaction,
            bucket: bucket.clone(),
            plugin_usage,
            bucket_usage,
            before: bucket_usage,
            _charge: charge,
        })
    }

    /// The bucket that changes.
    pub(super) fn bucket(&self) -> &BucketId {
        &self.bucket
    }

    /// Changes what the plugin and the bucket keep.
    pub(super) fn count(&mut self, change: impl Fn(&mut Usage)) {
        change(&mut self.plugin_usage);
        change(&mut self.bucket_usage);
    }

    pub(super) async fn find(&mut self, name: &str) -> Result<Option<Object>> {
        find(&mut self.transaction, &self.bucket, name).await
    }

    /// The upload, finished or not; with a lease only if it is theirs.
    pub(super) async fn find_upload(
        &mut self,
        id: UploadId,
        token: Option<&str>,
    ) -> Result<Option<Held>> {
        let sql = select(
            UPLOAD,
            ", lease, lease_until, has_strays FROM blob_uploads WHERE id = $1 AND plugin = $2 AND bucket = $3 AND ($4 = '' OR lease = $4)",
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.to_string())
            .bind(self.bucket.plugin.as_str())
            .bind(self.bucket.label.as_str())
            .bind(token.unwrap_or_default())
            .fetch_optional(&mut *self.transaction)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Held {
            upload: read_upload(&row)?,
            is_free_at: match row.try_get::<Option<String>, _>("lease")? {
                Some(_) => row.try_get("lease_until")?,
                None => i64::MIN,
            },
            has_strays: row.try_get::<i64, _>("has_strays")? == 1,
        }))
    }

    pub(super) async fn insert_upload(
        &mut self,
        upload: &Stored,
        lease: Option<Lease<'_>>,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO blob_uploads (id, object, plugin, bucket, name, content_type, metadata, owner, length, rules,
             condition, is_resumable, reserved, taken, parts, head, hash, created_at, expires_at, lease, lease_until,
             has_strays) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, 0, $14, $15, $16, $17, $18, $19,
             0)",
        )
        .bind(upload.id.to_string())
        .bind(upload.object.to_string())
        .bind(self.bucket.plugin.as_str())
        .bind(self.bucket.label.as_str())
        .bind(upload.name.as_str())
        .bind(upload.content_type.as_deref())
        .bind(json(&upload.metadata)?)
        .bind(upload.owner.as_deref())
        .bind(upload.length.map(int))
        .bind(json(&upload.rules)?)
        .bind(write_condition(upload.condition))
        .bind(i64::from(upload.is_resumable))
        .bind(int(upload.reserved))
        .bind(upload.head.as_slice())
        .bind(upload.hash.as_slice())
        .bind(upload.created_at)
        .bind(upload.expires_at)
        .bind(lease.map(|lease| lease.token))
        .bind(lease.map_or(0, |lease| lease.until))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Writes how far an upload is. False if it is not theirs any more.
    pub(super) async fn advance_upload(
        &mut self,
        upload: &Stored,
        lease: Lease<'_>,
    ) -> Result<bool> {
        // Of what is kept, and no more: what came after it may come again.
        let kept = usize::try_from(upload.taken).unwrap_or(usize::MAX);
        let head = &upload.head[..upload.head.len().min(kept)];
        let done = sqlx::query(
            "UPDATE blob_uploads SET reserved = $3, taken = $4, parts = $5, head = $6, hash = $7, lease_until = $8,
             expires_at = $9 WHERE id = $1 AND lease = $2",
        )
        .bind(upload.id.to_string())
        .bind(lease.token)
        .bind(int(upload.reserved))
        .bind(int(upload.taken))
        .bind(int(upload.parts))
        .bind(head)
        .bind(upload.hash.as_slice())
        .bind(lease.until)
        .bind(upload.expires_at)
        .execute(&mut *self.transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn declare_length(
        &mut self,
        id: UploadId,
        length: u64,
        reserved: u64,
    ) -> Result<()> {
        sqlx::query("UPDATE blob_uploads SET length = $2, reserved = $3 WHERE id = $1")
            .bind(id.to_string())
            .bind(int(length))
            .bind(int(reserved))
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    pub(super) async fn finish_upload(
        &mut self,
        id: UploadId,
        now: i64,
        expires_at: i64,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE blob_uploads SET finished_at = $2, expires_at = $3, reserved = 0, lease = NULL WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(now)
        .bind(expires_at)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Whether there was one.
    pub(super) async fn delete_upload(&mut self, id: UploadId) -> Result<bool> {
        let done = sqlx::query("DELETE FROM blob_uploads WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) async fn insert_parts(&mut self, object: ObjectId, parts: &[Part]) -> Result<()> {
        for part in parts {
            sqlx::query(
                "INSERT INTO blob_parts (object, number, begins_at, size, key) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(object.to_string())
            .bind(int(part.number))
            .bind(int(part.begins_at))
            .bind(int(part.size))
            .bind(part.key.as_str())
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(())
    }

    pub(super) async fn insert(&mut self, object: &Object) -> Result<()> {
        sqlx::query(
            "INSERT INTO blobs (id, plugin, bucket, name, size, content_type, sha256, metadata, owner, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(object.id.to_string())
        .bind(self.bucket.plugin.as_str())
        .bind(self.bucket.label.as_str())
        .bind(object.name.as_str())
        .bind(int(object.size))
        .bind(object.content_type.as_str())
        .bind(object.sha256.to_string())
        .bind(json(&object.metadata)?)
        .bind(object.owner.as_deref())
        .bind(object.created_at_ms)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    pub(super) async fn delete(&mut self, object: ObjectId) -> Result<()> {
        sqlx::query("DELETE FROM blobs WHERE id = $1")
            .bind(object.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Notes that something is to be removed, and how many of the bucket's bytes that is.
    pub(super) async fn remove_later(&mut self, object: ObjectId, bytes: u64) -> Result<()> {
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
    pub(super) async fn removed(
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

    pub(super) async fn commit(mut self) -> Result<()> {
        if self.bucket_usage != self.before {
            let label = self.bucket.label.clone();
            for (usage, label) in [
                (self.plugin_usage, ALL),
                (self.bucket_usage, label.as_str()),
            ] {
                sqlx::query(
                    "UPDATE blob_usage SET objects = $3, bytes = $4, reserved = $5, uploads = $6
                     WHERE plugin = $1 AND bucket = $2",
                )
                .bind(self.bucket.plugin.as_str())
                .bind(label)
                .bind(int(usage.objects))
                .bind(int(usage.bytes))
                .bind(int(usage.reserved_bytes))
                .bind(int(usage.uploads))
                .execute(&mut *self.transaction)
                .await?;
            }
        }
        self.transaction.commit().await
    }
}

/// An upload, and whether somebody writes to it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) upload: Stored,
    /// Until when somebody writes to it who has not been heard of again.
    pub(super) is_free_at: i64,
    /// Whether pieces may lie at its place that are not its.
    pub(super) has_strays: bool,
}

fn select(columns: &str, rest: &str) -> String {
    format!("SELECT {columns} {rest}")
}

fn read_object(row: &AnyRow) -> Result<Object> {
    Ok(Object {
        bucket: read_bucket(row)?,
        name: row.try_get("name")?,
        id: parsed(row, "id")?,
        size: uint(row, "size")?,
        content_type: row.try_get("content_type")?,
        sha256: parsed(row, "sha256")?,
        metadata: read_json(row, "metadata")?,
        owner: row.try_get("owner")?,
        created_at_ms: row.try_get("created_at")?,
    })
}

fn read_upload(row: &AnyRow) -> Result<Stored> {
    let length: Option<i64> = row.try_get("length")?;
    Ok(Stored {
        id: parsed(row, "id")?,
        object: parsed(row, "object")?,
        bucket: read_bucket(row)?,
        name: row.try_get("name")?,
        content_type: row.try_get("content_type")?,
        metadata: read_json(row, "metadata")?,
        owner: row.try_get("owner")?,
        length: length.map(|length| length.try_into().unwrap_or(0)),
        rules: read_json(row, "rules")?,
        condition: read_condition(row)?,
        is_resumable: row.try_get::<i64, _>("is_resumable")? == 1,
        reserved: uint(row, "reserved")?,
        taken: uint(row, "taken")?,
        parts: uint(row, "parts")?,
        head: row.try_get("head")?,
        hash: row.try_get("hash")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

fn read_removal(row: &AnyRow) -> Result<Removal> {
    Ok(Removal {
        object: parsed(row, "object")?,
        bucket: read_bucket(row)?,
    })
}

fn read_bucket(row: &AnyRow) -> Result<BucketId> {
    Ok(BucketId {
        plugin: parsed(row, "plugin")?,
        label: parsed(row, "bucket")?,
    })
}

fn read_usage(row: &AnyRow) -> Result<Usage> {
    Ok(Usage {
        objects: uint(row, "objects")?,
        bytes: uint(row, "bytes")?,
        reserved_bytes: uint(row, "reserved")?,
        uploads: uint(row, "uploads")?,
    })
}

/// As text: nothing for always, a word for absent, else the id.
fn write_condition(condition: Condition) -> Option<String> {
    match condition {
        Condition::Always => None,
        Condition::Absent => Some("absent".to_owned()),
        Condition::Is(object) => Some(object.to_string()),
    }
}

fn read_condition(row: &AnyRow) -> Result<Condition> {
    let text: Option<String> = row.try_get("condition")?;
    Ok(match text.as_deref() {
        None => Condition::Always,
        Some("absent") => Condition::Absent,
        Some(_) => Condition::Is(parsed(row, "condition")?),
    })
}

fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.try_get(column)?;
    text.parse()
        .map_err(|error: T::Err| sqlx::Error::ColumnDecode {
            index: column.to_owned(),
            source: error.into(),
        })
}

fn read_json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: error.into(),
    })
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn uint(row: &AnyRow, column: &str) -> Result<u64> {
    Ok(row.try_get::<i64, _>(column)?.try_into().unwrap_or(0))
}
