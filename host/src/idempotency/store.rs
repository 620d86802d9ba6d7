//! The rows of requests that are done once.

use sqlx::Row as _;

use crate::db::Db;
use crate::ids::PluginName;

/// Who wants to do a request.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub(super) id: &'a str,
    pub(super) plugin: &'a PluginName,
    pub(super) caller: &'a str,
    pub(super) fingerprint: &'a str,
    pub(super) token: String,
    pub(super) lease_until: i64,
    pub(super) expires_at: i64,
}

/// A request that was done.
#[derive(Debug)]
pub(super) struct Done<'a> {
    pub(super) id: &'a str,
    pub(super) token: &'a str,
    pub(super) status: i64,
    pub(super) headers: Option<&'a str>,
    pub(super) body: Option<&'a [u8]>,
    pub(super) bytes: i64,
    pub(super) expires_at: i64,
}

/// A request as it is known.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) fingerprint: String,
    pub(super) is_done: bool,
    pub(super) lease_until: i64,
    pub(super) status: Option<i64>,
    pub(super) headers: Option<String>,
    pub(super) body: Option<Vec<u8>>,
}

/// Takes the request, if nobody has it: in one statement, so that there is no moment between looking and taking.
pub(super) async fn claim(db: &Db, claim: &Claim<'_>, now_ms: i64) -> Result<bool, sqlx::Error> {
    let row = sqlx::query(
        "INSERT INTO idempotency_keys
             (id, plugin, fingerprint, token, is_done, lease_until, expires_at, bytes, caller)
         VALUES ($1, $2, $3, $4, 0, $5, $6, 0, $8)
         ON CONFLICT (id) DO UPDATE SET
             fingerprint = excluded.fingerprint, token = excluded.token, is_done = 0,
             lease_until = excluded.lease_until, expires_at = excluded.expires_at,
             status = NULL, headers = NULL, body = NULL, bytes = 0
         WHERE idempotency_keys.expires_at <= $7
            OR (idempotency_keys.is_done = 0 AND idempotency_keys.lease_until <= $7
                AND idempotency_keys.fingerprint = excluded.fingerprint)
         RETURNING id",
    )
    .bind(claim.id)
    .bind(claim.plugin.as_str())
    .bind(claim.fingerprint)
    .bind(claim.token.as_str())
    .bind(claim.lease_until)
    .bind(claim.expires_at)
    .bind(now_ms)
    .bind(claim.caller)
    .fetch_optional(db.writer())
    .await?;
    Ok(row.is_some())
}

pub(super) async fn find(db: &Db, id: &str, now_ms: i64) -> Result<Option<Found>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT fingerprint, is_done, lease_until, status, headers, body FROM idempotency_keys
         WHERE id = $1 AND expires_at > $2",
    )
    .bind(id)
    .bind(now_ms)
    .fetch_optional(db.reader())
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Found {
        fingerprint: row.try_get("fingerprint")?,
        is_done: row.try_get::<i64, _>("is_done")? != 0,
        lease_until: row.try_get("lease_until")?,
        status: row.try_get("status")?,
        headers: row.try_get("headers")?,
        body: row.try_get("body")?,
    }))
}

/// Writes what came of a request, if it is still held under this token.
pub(super) async fn settle(db: &Db, done: &Done<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE idempotency_keys
         SET is_done = 1, status = $3, headers = $4, body = $5, bytes = $6, expires_at = $7
         WHERE id = $1 AND token = $2 AND is_done = 0",
    )
    .bind(done.id)
    .bind(done.token)
    .bind(done.status)
    .bind(done.headers)
    .bind(done.body)
    .bind(done.bytes)
    .bind(done.expires_at)
    .execute(db.writer())
    .await
    .map(drop)
}

pub(super) async fn release(db: &Db, id: &str, token: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM idempotency_keys WHERE id = $1 AND token = $2 AND is_done = 0")
        .bind(id)
        .bind(token)
        .execute(db.writer())
        .await
        .map(drop)
}

/// Removes at most so many rows whose time is over, and tells how many.
pub(super) async fn sweep(db: &Db, now_ms: i64, max: i64) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "DELETE FROM idempotency_keys WHERE id IN
             (SELECT id FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2)",
    )
    .bind(now_ms)
    .bind(max)
    .execute(db.writer())
    .await?;
    Ok(done.rows_affected())
}

/// What the names of callers without a login begin with. No digit of a digest comes behind it.
pub(super) const STRANGERS: &str = "s";

/// How many outcomes, and their bytes.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) entries: i64,
    pub(super) bytes: i64,
}

/// What each plugin has, and what of it is of strangers.
pub(super) async fn sums(db: &Db) -> Result<Vec<(String, Sum, Sum)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT plugin, COUNT(*) AS entries, CAST(SUM(bytes) AS BIGINT) AS bytes,
             CAST(SUM(CASE WHEN caller >= $1 THEN 1 ELSE 0 END) AS BIGINT) AS strangers_entries,
             CAST(SUM(CASE WHEN caller >= $1 THEN bytes ELSE 0 END) AS BIGINT) AS strangers_bytes
         FROM idempotency_keys GROUP BY plugin",
    )
    .bind(STRANGERS)
    .fetch_all(db.reader())
    .await?;
    let sums = |row: &sqlx::any::AnyRow| {
        let sum = |entries: &str, bytes: &str| {
            Ok::<_, sqlx::Error>(Sum {
                entries: row.try_get(entries)?,
                bytes: row.try_get(bytes)?,
            })
        };
        Ok((
            row.try_get("plugin")?,
            sum("entries", "bytes")?,
            sum("strangers_entries", "strangers_bytes")?,
        ))
    };
    rows.iter().map(sums).collect()
}

/// Outcomes of one caller at a plugin, and their bytes.
pub(super) async fn sums_of_caller(
    db: &Db,
    plugin: &PluginName,
    caller: &str,
) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS entries, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM idempotency_keys
         WHERE plugin = $1 AND caller = $2",
    )
    .bind(plugin.as_str())
    .bind(caller)
    .fetch_one(db.reader())
    .await?;
    Ok((row.try_get("entries")?, row.try_get("bytes")?))
}

pub(super) async fn delete_plugin(db: &Db, plugin: &PluginName) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM idempotency_keys WHERE plugin = $1")
        .bind(plugin.as_str())
        .execute(db.writer())
        .await
        .map(drop)
}
