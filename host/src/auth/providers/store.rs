//! The rows of attempts to log in that were used, so that none is used twice.

use sqlx::Row as _;

use crate::auth::Error;
use crate::db::Transaction;

/// Notes that an attempt was used. False if it was before.
pub(super) async fn use_attempt(
    transaction: &mut Transaction,
    state_sha256: &str,
    expires_at_ms: i64,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT INTO used_login_attempts (state_sha256, expires_at) VALUES ($1, $2)
         ON CONFLICT (state_sha256) DO NOTHING",
    )
    .bind(state_sha256)
    .bind(expires_at_ms)
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn count(transaction: &mut Transaction) -> Result<i64, Error> {
    let row = sqlx::query("SELECT count(*) AS kept FROM used_login_attempts")
        .fetch_one(&mut **transaction)
        .await?;
    Ok(row.try_get("kept")?)
}

/// Forgets attempts that nobody can come back with.
pub(super) async fn sweep(transaction: &mut Transaction, now_ms: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM used_login_attempts WHERE expires_at <= $1")
        .bind(now_ms)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
