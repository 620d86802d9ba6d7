//! The rows of identities: who somebody is at a provider, and which account is theirs here.

use sqlx::{Row as _, any::AnyRow};

use crate::auth::identities::Identity;
use crate::auth::{Error, providers::Found};
use crate::db::{Db, Transaction};
use crate::ids::{IdentityId, UserId};

/// Whose account it is.
pub(super) async fn owner(db: &Db, found: &Found) -> Result<Option<UserId>, Error> {
    let row = sqlx::query("SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2")
        .bind(&found.issuer)
        .bind(&found.subject)
        .fetch_optional(db.reader())
        .await?;
    row.as_ref().map(|row| parse(row, "user_id")).transpose()
}

/// Notes that somebody has come with an identity, and what the provider says of them now.
pub(super) async fn touch(db: &Db, found: &Found, now_ms: i64) -> Result<(), Error> {
    sqlx::query(
        "UPDATE identities SET used_at = $1, email = $2 WHERE issuer = $3 AND subject = $4",
    )
    .bind(now_ms)
    .bind(&found.email)
    .bind(&found.issuer)
    .bind(&found.subject)
    .execute(db.writer())
    .await?;
    Ok(())
}

/// Links an identity to an account. None if it is linked already, to whomever.
pub(super) async fn insert(
    transaction: &mut Transaction,
    user: UserId,
    provider: &str,
    found: &Found,
    now_ms: i64,
) -> Result<Option<Identity>, Error> {
    let row = sqlx::query(
        "INSERT INTO identities (id, user_id, provider, issuer, subject, email, created_at, used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
         ON CONFLICT (issuer, subject) DO NOTHING RETURNING *",
    )
    .bind(IdentityId::new().to_string())
    .bind(user.to_string())
    .bind(provider)
    .bind(&found.issuer)
    .bind(&found.subject)
    .bind(&found.email)
    .bind(now_ms)
    .fetch_optional(&mut **transaction)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Those of a user, the oldest first.
pub(super) async fn of_user(db: &Db, user: UserId) -> Result<Vec<Identity>, Error> {
    let rows = sqlx::query("SELECT * FROM identities WHERE user_id = $1 ORDER BY id")
        .bind(user.to_string())
        .fetch_all(db.reader())
        .await?;
    rows.iter().map(read).collect()
}

/// False if the user has no such identity.
pub(super) async fn delete(
    transaction: &mut Transaction,
    user: UserId,
    id: IdentityId,
) -> Result<bool, Error> {
    let done = sqlx::query("DELETE FROM identities WHERE id = $1 AND user_id = $2")
        .bind(id.to_string())
        .bind(user.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// How many there were.
pub(super) async fn delete_all(transaction: &mut Transaction, user: UserId) -> Result<u64, Error> {
    let done = sqlx::query("DELETE FROM identities WHERE user_id = $1")
        .bind(user.to_string())
        .execute(&mut **transaction)
        .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<Identity, Error> {
    Ok(Identity {
        id: parse(row, "id")?,
        provider: row.try_get("provider")?,
        email: row.try_get("email")?,
        created_at_ms: row.try_get("created_at")?,
        used_at_ms: row.try_get("used_at")?,
    })
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &AnyRow,
    column: &str,
) -> Result<T, Error> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|problem: T::Err| Error::Corrupt {
        table: "identities",
        id: text.clone(),
        problem: problem.to_string(),
    })
}
