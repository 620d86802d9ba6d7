//! The rows of uploads: what is being sent, by whom, how far it is, and who writes to it.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use crate::db::Db;
use crate::services::blobs::store::{
    Change, Result, int, json, parsed, read_bucket, read_json, select, uint,
};
use crate::services::blobs::{BucketId, Condition, LinkId, Metadata, ObjectId, Rules, UploadId};

/// An upload as it is kept.
#[derive(Debug, Clone)]
pub(in crate::services::blobs) struct Stored {
    pub(in crate::services::blobs) id: UploadId,
    pub(in crate::services::blobs) object: ObjectId,
    pub(in crate::services::blobs) bucket: BucketId,
    pub(in crate::services::blobs) name: String,
    pub(in crate::services::blobs) content_type: Option<String>,
    pub(in crate::services::blobs) metadata: Metadata,
    pub(in crate::services::blobs) owner: Option<String>,
    pub(in crate::services::blobs) length: Option<u64>,
    pub(in crate::services::blobs) rules: Rules,
    pub(in crate::services::blobs) condition: Condition,
    /// The link by which it comes. Not kept with it: what comes by one comes in one go.
    pub(in crate::services::blobs) link: Option<LinkId>,
    /// Whether further requests may add to it.
    pub(in crate::services::blobs) is_resumable: bool,
    pub(in crate::services::blobs) reserved: u64,
    /// Bytes that are kept in pieces.
    pub(in crate::services::blobs) taken: u64,
    pub(in crate::services::blobs) parts: u64,
    /// The first bytes.
    pub(in crate::services::blobs) head: Vec<u8>,
    /// Where the digest of all bytes so far stands.
    pub(in crate::services::blobs) hash: Vec<u8>,
    pub(in crate::services::blobs) created_at: i64,
    pub(in crate::services::blobs) expires_at: i64,
    pub(in crate::services::blobs) finished_at: Option<i64>,
}

/// An upload, and whether somebody writes to it.
#[derive(Debug)]
pub(in crate::services::blobs) struct Held {
    pub(in crate::services::blobs) upload: Stored,
    /// Until when somebody writes to it who has not been heard of again.
    pub(in crate::services::blobs) is_free_at: i64,
    /// Whether pieces may lie at its place that are not its.
    pub(in crate::services::blobs) has_strays: bool,
}

/// Who writes to an upload, and until when, unless it says so again.
#[derive(Debug, Clone, Copy)]
pub(in crate::services::blobs) struct Lease<'a> {
    pub(in crate::services::blobs) token: &'a str,
    pub(in crate::services::blobs) now: i64,
    pub(in crate::services::blobs) until: i64,
}

const UPLOAD: &str = "id, object, plugin, bucket, name, content_type, metadata, owner, length, rules, condition, \
                      is_resumable, reserved, taken, parts, head, hash, created_at, expires_at, finished_at";

/// A resumable upload of this bucket.
pub(in crate::services::blobs) async fn find_upload(
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
pub(in crate::services::blobs) async fn uploads(
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

/// Makes somebody the one who writes to an open upload; nothing if there is none or somebody else is.
pub(in crate::services::blobs) async fn take_upload(
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
pub(in crate::services::blobs) async fn release_upload(
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
pub(in crate::services::blobs) async fn expired_uploads(
    db: &Db,
    now: i64,
    limit: i64,
) -> Result<Vec<Stored>> {
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

impl Change {
    /// The upload, finished or not; with a lease only if it is theirs.
    pub(in crate::services::blobs) async fn find_upload(
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

    pub(in crate::services::blobs) async fn insert_upload(
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
    pub(in crate::services::blobs) async fn advance_upload(
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

    pub(in crate::services::blobs) async fn declare_length(
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

    pub(in crate::services::blobs) async fn finish_upload(
        &mut self,
        id: UploadId,
        now: i64,
        expires_at: i64,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE blob_uploads SET finished_at = $2, expires_at = $3, reserved = 0, lease = NULL, head = $4, hash = $4
             WHERE id = $1",
        )
        .bind(id.to_string())
        .bind(now)
        .bind(expires_at)
        // What it stood on is of no use any more, and counts for nobody.
        .bind(&b""[..])
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Whether there was one.
    pub(in crate::services::blobs) async fn delete_upload(&mut self, id: UploadId) -> Result<bool> {
        let done = sqlx::query("DELETE FROM blob_uploads WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Open uploads of one sender in all buckets of the plugin, and how much is reserved for them. Those who are nobody are
    /// one; what the plugin itself writes is nobody's.
    pub(in crate::services::blobs) async fn open_of(
        &mut self,
        owner: Option<&str>,
    ) -> Result<(u64, u64)> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS uploads, CAST(COALESCE(SUM(reserved), 0) AS BIGINT) AS reserved FROM blob_uploads
             WHERE plugin = $1 AND COALESCE(owner, '') = $2 AND finished_at IS NULL
             AND (is_resumable = 1 OR owner IS NOT NULL)",
        )
        .bind(self.bucket.plugin.as_str())
        .bind(owner.unwrap_or_default())
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok((uint(&row, "uploads")?, uint(&row, "reserved")?))
    }
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
        link: None,
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
