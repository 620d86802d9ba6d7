//! The rows of one-time codes.

use sqlx::{Row as _, any::AnyRow};

use crate::auth::Error;
use crate::db::Transaction;

/// A code as its row has it.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) purpose: String,
    pub(super) subject: String,
    pub(super) secret_sha256: String,
    pub(super) payload: String,
    pub(super) created_at_ms: i64,
    pub(super) expires_at_ms: i64,
    /// How often it was tried, this time included.
    pub(super) tries: i64,
}

/// How many codes were made for this subject since then.
pub(super) async fn count_since(
    transaction: &mut Transaction,
    subject: &str,
    since_ms: i64,
) -> Result<i64, Error> {
    let row = sqlx::query(
        "SELECT count(*) AS made FROM one_time_codes WHERE subject = $1 AND created_at > $2",
    )
    .bind(subject)
    .bind(since_ms)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(row.try_get("made")?)
}

/// How many codes there are for this purpose.
pub(super) async fn count(transaction: &mut Transaction, purpose: &str) -> Result<i64, Error> {
    let row = sqlx::query("SELECT count(*) AS kept FROM one_time_codes WHERE purpose = $1")
        .bind(purpose)
        .fetch_one(&mut **transaction)
        .await?;
    Ok(row.try_get("kept")?)
}

/// Forgets so many codes of this purpose, the oldest first.
pub(super) async fn delete_oldest(
    transaction: &mut Transaction,
    purpose: &str,
    count: i64,
) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM one_time_codes WHERE id IN
         (SELECT id FROM one_time_codes WHERE purpose = $1 ORDER BY created_at, id LIMIT $2)",
    )
    .bind(purpose)
    .bind(count)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn insert(transaction: &mut Transaction, row: &Row) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO one_time_codes
         (id, purpose, subject, secret_sha256, payload, tries, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7)",
    )
    .bind(&row.id)
    .bind(&row.purpose)
    .bind(&row.subject)
    .bind(&row.secret_sha256)
    .bind(&row.payload)
    .bind(row.created_at_ms)
    .bind(row.expires_at_ms)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Counts one more try of a code, and gives it.
pub(super) async fn try_code(
    transaction: &mut Transaction,
    id: &str,
    purpose: &str,
) -> Result<Option<Row>, Error> {
    let row = sqlx::query(
        "UPDATE one_time_codes SET tries = tries + 1 WHERE id = $1 AND purpose = $2 RETURNING *",
    )
    .bind(id)
    .bind(purpose)
    .fetch_optional(&mut **transaction)
    .await?;
    row.as_ref().map(read_row).transpose()
}

/// Removes a code. False if it is not there any more: somebody else has used it.
pub(super) async fn delete(transaction: &mut Transaction, id: &str) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM one_time_codes WHERE id = $1")
        .bind(id)
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Makes the codes of a subject worthless. They stay, so that they are counted.
pub(super) async fn expire_subject(
    transaction: &mut Transaction,
    subject: &str,
    purpose: &str,
) -> Result<(), Error> {
    sqlx::query("UPDATE one_time_codes SET secret_sha256 = '' WHERE subject = $1 AND purpose = $2")
        .bind(subject)
        .bind(purpose)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Forgets codes that nobody can use and nobody needs to count.
pub(super) async fn sweep(
    transaction: &mut Transaction,
    now_ms: i64,
    made_before_ms: i64,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM one_time_codes WHERE expires_at <= $1 AND created_at <= $2")
        .bind(now_ms)
        .bind(made_before_ms)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn read_row(row: &AnyRow) -> Result<Row, Error> {
    Ok(Row {
        id: row.try_get("id")?,
        purpose: row.try_get("purpose")?,
        subject: row.try_get("subject")?,
        secret_sha256: row.try_get("secret_sha256")?,
        payload: row.try_get("payload")?,
        created_at_ms: row.try_get("created_at")?,
        expires_at_ms: row.try_get("expires_at")?,
        tries: row.try_get("tries")?,
    })
}
