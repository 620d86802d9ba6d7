//! The rows of mail that waits to be sent.

use sqlx::Row as _;

use crate::db::{Db, Transaction};

/// A message whose turn it is.
pub(super) struct Due {
    pub(super) id: String,
    pub(super) sealed: Vec<u8>,
    /// How often it was tried, this time included.
    pub(super) tries: u32,
    pub(super) until_ms: i64,
}

/// Adds a message unless there would be more than `waiting_max`. False if so.
pub(super) async fn insert(
    transaction: &mut Transaction,
    id: &str,
    sealed: &[u8],
    until_ms: i64,
    now_ms: i64,
    waiting_max: u32,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO outbox_mails (id, sealed, tries, due_at, until_at, created_at)
         SELECT $1, $2, 0, $3, $4, $3 WHERE (SELECT count(*) FROM outbox_mails) < $5",
    )
    .bind(id)
    .bind(sealed)
    .bind(now_ms)
    .bind(until_ms)
    .bind(i64::from(waiting_max))
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes some messages that are due. If nobody says what came of them, they are due again after the lease.
pub(super) async fn claim(
    db: &Db,
    now_ms: i64,
    lease_ms: i64,
    limit: u32,
) -> Result<Vec<Due>, sqlx::Error> {
    let rows = sqlx::query(
        "UPDATE outbox_mails SET due_at = $1, tries = tries + 1
         WHERE due_at <= $2 AND id IN (
             SELECT id FROM outbox_mails WHERE due_at <= $2 ORDER BY due_at LIMIT $3)
         RETURNING id, sealed, tries, until_at",
    )
    .bind(now_ms + lease_ms)
    .bind(now_ms)
    .bind(i64::from(limit))
    .fetch_all(db.writer())
    .await?;
    rows.iter()
        .map(|row| {
            let tries: i64 = row.try_get("tries")?;
            Ok(Due {
                id: row.try_get("id")?,
                sealed: row.try_get("sealed")?,
                tries: u32::try_from(tries).unwrap_or(u32::MAX),
                until_ms: row.try_get("until_at")?,
            })
        })
        .collect()
}

/// When the next message is due.
pub(super) async fn next_due_ms(db: &Db) -> Result<Option<i64>, sqlx::Error> {
    let row = sqlx::query("SELECT min(due_at) AS due_at FROM outbox_mails")
        .fetch_one(db.reader())
        .await?;
    row.try_get("due_at")
}

/// How many messages wait.
pub(super) async fn count(db: &Db) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT count(*) AS waiting FROM outbox_mails")
        .fetch_one(db.reader())
        .await?;
    row.try_get("waiting")
}

/// Puts a message off.
pub(super) async fn put_off(db: &Db, id: &str, due_ms: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE outbox_mails SET due_at = $1 WHERE id = $2")
        .bind(due_ms)
        .bind(id)
        .execute(db.writer())
        .await?;
    Ok(())
}

/// Forgets a message that was sent or given up.
pub(super) async fn delete(db: &Db, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM outbox_mails WHERE id = $1")
        .bind(id)
        .execute(db.writer())
        .await?;
    Ok(())
}
