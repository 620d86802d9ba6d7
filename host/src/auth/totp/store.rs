//! The rows of second factors.

use sqlx::Row as _;

use crate::auth::Error;
use crate::db::{Db, Transaction};
use crate::ids::UserId;

/// A second factor as its row has it.
pub(super) struct Row {
    pub(super) sealed: Vec<u8>,
    pub(super) is_confirmed: bool,
    /// A JSON array with the digests of the recovery codes that are left.
    pub(super) recovery: String,
}

pub(super) async fn find(db: &Db, user: UserId) -> Result<Option<Row>, Error> {
    let row = sqlx::query("SELECT sealed, is_confirmed, recovery FROM totp WHERE user_id = $1")
        .bind(user.to_string())
        .fetch_optional(db.reader())
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(Row {
        sealed: row.try_get("sealed")?,
        is_confirmed: row.try_get::<i64, _>("is_confirmed")? != 0,
        recovery: row.try_get("recovery")?,
    }))
}

/// Begins a second factor, in place of one that was begun and not confirmed. False if there is one that is.
pub(super) async fn begin(
    db: &Db,
    user: UserId,
    sealed: &[u8],
    now_ms: i64,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT INTO totp (user_id, sealed, is_confirmed, last_step, recovery, created_at)
         VALUES ($1, $2, 0, -1, '[]', $3)
         ON CONFLICT (user_id) DO UPDATE SET
             sealed = excluded.sealed, last_step = -1, created_at = excluded.created_at
         WHERE totp.is_confirmed = 0",
    )
    .bind(user.to_string())
    .bind(sealed)
    .bind(now_ms)
    .execute(db.writer())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Confirms a second factor with its first code. False if it was confirmed before.
pub(super) async fn confirm(
    transaction: &mut Transaction,
    user: UserId,
    step: i64,
    recovery: &str,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "UPDATE totp SET is_confirmed = 1, last_step = $1, recovery = $2
         WHERE user_id = $3 AND is_confirmed = 0",
    )
    .bind(step)
    .bind(recovery)
    .bind(user.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Uses up the code of a step. False if that code, or a later one, was used before.
pub(super) async fn use_step(db: &Db, user: UserId, step: i64) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE totp SET last_step = $1 WHERE user_id = $2 AND last_step < $1")
        .bind(step)
        .bind(user.to_string())
        .execute(db.writer())
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts fewer recovery codes in the place of those before. False if these are not those any more.
pub(super) async fn set_recovery(
    db: &Db,
    user: UserId,
    before: &str,
    after: &str,
) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE totp SET recovery = $1 WHERE user_id = $2 AND recovery = $3")
        .bind(after)
        .bind(user.to_string())
        .bind(before)
        .execute(db.writer())
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes a second factor. False if there was none.
pub(super) async fn delete(transaction: &mut Transaction, user: UserId) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM totp WHERE user_id = $1")
        .bind(user.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected() == 1)
}
