//! The rows of files: objects, the pieces that they and uploads lie in, links that were used, and what each bucket keeps. What
//! is being sent and what is to be removed have stores of their own.

use sqlx::{AnyConnection, Row as _, any::AnyRow};

use super::{BucketId, LinkId, Object, ObjectId, Usage, derived_folder, is_hosts};
use crate::db::{Db, Transaction};
use crate::ids::PluginName;
use crate::services::Charge;

pub(super) type Result<T> = std::result::Result<T, sqlx::Error>;

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

/// One change of one bucket: a transaction that holds the plugin's row of usage, so that changes of the same plugin follow
/// one another in every database. Rolls back when dropped.
pub(super) struct Change {
    pub(super) transaction: Transaction,
    pub(super) bucket: BucketId,
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

    /// Takes the name from an object, and forgets the upload that it came from: nobody is to have more rows than objects.
    pub(super) async fn delete(&mut self, object: ObjectId) -> Result<()> {
        for sql in [
            "DELETE FROM blobs WHERE id = $1",
            "DELETE FROM blob_uploads WHERE object = $1 AND finished_at IS NOT NULL",
        ] {
            sqlx::query(sql)
                .bind(object.to_string())
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    /// The same, and its bytes are to be removed.
    pub(super) async fn take(&mut self, object: ObjectId, bytes: u64) -> Result<()> {
        self.delete(object).await?;
        self.remove_later(object, bytes).await
    }

    /// Takes the names from everything that was derived of the object with this name, and tells whose bytes are to go.
    pub(super) async fn take_derived(&mut self, name: &str) -> Result<Vec<ObjectId>> {
        if is_hosts(name) {
            return Ok(Vec::new());
        }
        let folder = derived_folder(name);
        // Between the slash at its end and what follows on a slash. What has another slash belongs to a longer name.
        let mut end = folder.clone();
        end.pop();
        end.push('0');
        let rows = sqlx::query(
            "SELECT id, size FROM blobs WHERE plugin = $1 AND bucket = $2 AND name > $3 AND name < $4
             AND REPLACE(SUBSTR(name, $5), '/', '') = SUBSTR(name, $5)",
        )
        .bind(self.bucket.plugin.as_str())
        .bind(self.bucket.label.as_str())
        .bind(folder.as_str())
        .bind(end)
        .bind(i32::try_from(folder.chars().count() + 1).unwrap_or(i32::MAX))
        .fetch_all(&mut *self.transaction)
        .await?;
        let mut derived = Vec::with_capacity(rows.len());
        for row in &rows {
            let object = parsed(row, "id")?;
            self.take(object, uint(row, "size")?).await?;
            derived.push(object);
        }
        let objects = derived.len() as u64;
        self.count(|usage| usage.objects = usage.objects.saturating_sub(objects));
        Ok(derived)
    }

    /// Whether a link was used, and how many of the plugin were that could be used still.
    pub(super) async fn used_links(&mut self, link: &LinkId) -> Result<(bool, u64)> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS links, COUNT(CASE WHEN digest = $2 THEN 1 END) AS own FROM blob_links WHERE plugin = $1",
        )
        .bind(self.bucket.plugin.as_str())
        .bind(link.digest.as_str())
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok((uint(&row, "own")? > 0, uint(&row, "links")?))
    }

    /// Notes that a link was used.
    pub(super) async fn use_link(&mut self, link: &LinkId) -> Result<()> {
        sqlx::query("INSERT INTO blob_links (digest, plugin, expires_at) VALUES ($1, $2, $3)")
            .bind(link.digest.as_str())
            .bind(self.bucket.plugin.as_str())
            .bind(link.expires_at_ms)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// How many bytes somebody's objects have in all buckets of the plugin.
    pub(super) async fn stored_of(&mut self, owner: &str) -> Result<u64> {
        let row = sqlx::query(
            "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM blobs WHERE plugin = $1 AND owner = $2",
        )
        .bind(self.bucket.plugin.as_str())
        .bind(owner)
        .fetch_one(&mut *self.transaction)
        .await?;
        uint(&row, "bytes")
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

pub(super) fn select(columns: &str, rest: &str) -> String {
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

pub(super) fn read_bucket(row: &AnyRow) -> Result<BucketId> {
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

pub(super) fn parsed<T: std::str::FromStr>(row: &AnyRow, column: &str) -> Result<T>
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

pub(super) fn read_json<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|error| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: error.into(),
    })
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn uint(row: &AnyRow, column: &str) -> Result<u64> {
    Ok(row.try_get::<i64, _>(column)?.try_into().unwrap_or(0))
}
