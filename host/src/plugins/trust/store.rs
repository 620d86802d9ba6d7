//! The rows of trusted keys, and of where deployments came from.

use std::str::FromStr;

use sqlx::{Row as _, any::AnyRow};

use super::Provenance;
use super::key::{KeyId, NamePattern};
use super::list::TrustedKey;
use crate::db::{Db, Transaction};
use crate::ids::DeploymentId;

/// All keys in the rows.
pub(super) async fn keys(db: &Db) -> Result<Vec<TrustedKey>, sqlx::Error> {
    let rows = sqlx::query("SELECT * FROM trusted_keys ORDER BY id")
        .fetch_all(db.reader())
        .await?;
    rows.iter().map(key).collect()
}

/// Writes a new key, unless it is there or there are `count_max` already. Tells whether it was written.
pub(super) async fn add(
    transaction: &mut Transaction,
    key: &TrustedKey,
    count_max: u32,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO trusted_keys \
         (id, public_key, owner, plugins, expires_at_ms, revoked_at_ms, added_by, added_at_ms) \
         SELECT $1, $2, $3, $4, $5, NULL, $6, $7 \
         WHERE (SELECT count(*) FROM trusted_keys) < $8 \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(key.public.id().to_string())
    .bind(key.public.to_string())
    .bind(key.owner.as_str())
    .bind(joined(&key.plugins))
    .bind(key.expires_at_ms)
    .bind(key.added_by.as_str())
    .bind(key.added_at_ms)
    .bind(i64::from(count_max))
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Changes what a key may sign and until when. Tells whether there is such a key.
pub(super) async fn set(
    transaction: &mut Transaction,
    id: KeyId,
    plugins: &[NamePattern],
    expires_at_ms: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let done =
        sqlx::query("UPDATE trusted_keys SET plugins = $1, expires_at_ms = $2 WHERE id = $3")
            .bind(joined(plugins))
            .bind(expires_at_ms)
            .bind(id.to_string())
            .execute(&mut **transaction)
            .await?;
    Ok(done.rows_affected() > 0)
}

/// Revokes a key; one that is revoked already keeps its time. Tells whether there is such a key.
pub(super) async fn revoke(
    transaction: &mut Transaction,
    id: KeyId,
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE trusted_keys SET revoked_at_ms = COALESCE(revoked_at_ms, $1) WHERE id = $2",
    )
    .bind(now_ms)
    .bind(id.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets a key. Tells whether there was one.
pub(super) async fn remove(transaction: &mut Transaction, id: KeyId) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("DELETE FROM trusted_keys WHERE id = $1")
        .bind(id.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Writes where a deployment comes from.
pub(super) async fn record(
    db: &Db,
    deployment: DeploymentId,
    provenance: &Provenance,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO provenance \
         (deployment, signature, signed_by, source, upload, recorded_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(deployment.to_string())
    .bind(provenance.signature.as_deref())
    .bind(provenance.signed_by.map(|key| key.to_string()))
    .bind(provenance.source.as_deref())
    .bind(provenance.upload.to_string())
    .bind(provenance.recorded_at_ms)
    .execute(db.writer())
    .await?;
    Ok(())
}

/// Where one deployment comes from, if that was recorded.
pub(super) async fn find(
    db: &Db,
    deployment: DeploymentId,
) -> Result<Option<Provenance>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM provenance WHERE deployment = $1")
        .bind(deployment.to_string())
        .fetch_optional(db.reader())
        .await?;
    row.as_ref().map(provenance).transpose()
}

/// Forgets where deployments came from that are in no history any more.
pub(super) async fn forget_gone(db: &Db, recorded_before_ms: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM provenance WHERE recorded_at_ms < $1 \
         AND deployment NOT IN (SELECT id FROM deployments)",
    )
    .bind(recorded_before_ms)
    .execute(db.writer())
    .await?;
    Ok(())
}

fn key(row: &AnyRow) -> Result<TrustedKey, sqlx::Error> {
    let plugins: String = row.try_get("plugins")?;
    Ok(TrustedKey {
        public: parsed(row, "public_key")?,
        owner: row.try_get("owner")?,
        plugins: plugins
            .split(' ')
            .map(|pattern| pattern.parse().map_err(undecodable))
            .collect::<Result<_, _>>()?,
        expires_at_ms: row.try_get("expires_at_ms")?,
        revoked_at_ms: row.try_get("revoked_at_ms")?,
        added_by: row.try_get("added_by")?,
        added_at_ms: row.try_get("added_at_ms")?,
        is_in_settings: false,
    })
}

fn provenance(row: &AnyRow) -> Result<Provenance, sqlx::Error> {
    let signed_by: Option<String> = row.try_get("signed_by")?;
    Ok(Provenance {
        signature: row.try_get("signature")?,
        signed_by: signed_by
            .map(|key| key.parse().map_err(undecodable))
            .transpose()?,
        source: row.try_get("source")?,
        upload: parsed(row, "upload")?,
        recorded_at_ms: row.try_get("recorded_at_ms")?,
    })
}

fn joined(plugins: &[NamePattern]) -> String {
    let texts: Vec<String> = plugins.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &AnyRow,
    column: &str,
) -> Result<T, sqlx::Error> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(undecodable)
}

fn undecodable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
