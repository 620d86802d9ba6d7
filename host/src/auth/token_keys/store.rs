//! The rows of the keys that sign access tokens.

use sqlx::{Row as _, any::AnyRow};

use crate::auth::Error;
use crate::auth::token_keys::{KeyState, TokenAlgorithm, TokenKey};
use crate::db::{Db, Transaction};

#[derive(Clone)]
pub(super) struct Store {
    pub(super) db: Db,
}

/// A key as its row has it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: TokenKey,
    pub(super) public_jwk: String,
    pub(super) sealed: Vec<u8>,
}

impl Store {
    pub(super) async fn all(&self) -> Result<Vec<Row>, Error> {
        let query = sqlx::query("SELECT * FROM token_keys ORDER BY created_at, id");
        let rows = query.fetch_all(self.db.reader()).await?;
        rows.iter().map(read_row).collect()
    }

    pub(super) async fn begin(&self) -> Result<Transaction, Error> {
        Ok(self.db.begin().await?)
    }
}

/// Adds a key, unless there is one with this id.
pub(super) async fn insert(transaction: &mut Transaction, row: &Row) -> Result<(), Error> {
    let key = &row.key;
    sqlx::query(
        "INSERT INTO token_keys (id, algorithm, public_jwk, sealed, state, since, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
    )
    .bind(&key.id)
    .bind(key.algorithm.as_str())
    .bind(&row.public_jwk)
    .bind(row.sealed.as_slice())
    .bind(key.state.as_str())
    .bind(key.since_ms)
    .bind(key.created_at_ms)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Moves a key from one state to the next. False if it was not in the first one: somebody else was faster.
pub(super) async fn set_state(
    transaction: &mut Transaction,
    id: &str,
    from: KeyState,
    to: KeyState,
    now_ms: i64,
) -> Result<bool, Error> {
    let done =
        sqlx::query("UPDATE token_keys SET state = $1, since = $2 WHERE id = $3 AND state = $4")
            .bind(to.as_str())
            .bind(now_ms)
            .bind(id)
            .bind(from.as_str())
            .execute(&mut **transaction)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes the private part of keys that sign no more, and keys that were revoked before then.
pub(super) async fn tidy(
    transaction: &mut Transaction,
    revoked_before_ms: i64,
) -> Result<(), Error> {
    let nothing: &[u8] = &[];
    sqlx::query("UPDATE token_keys SET sealed = $1 WHERE state IN ('retiring', 'revoked')")
        .bind(nothing)
        .execute(&mut **transaction)
        .await?;
    sqlx::query("DELETE FROM token_keys WHERE state = 'revoked' AND since <= $1")
        .bind(revoked_before_ms)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn read_row(row: &AnyRow) -> Result<Row, Error> {
    let id: String = row.try_get("id")?;
    let corrupt = |problem: String| Error::Corrupt {
        table: "token_keys",
        id: id.clone(),
        problem,
    };
    let algorithm: String = row.try_get("algorithm")?;
    let state: String = row.try_get("state")?;
    Ok(Row {
        key: TokenKey {
            id: id.clone(),
            algorithm: TokenAlgorithm::find(&algorithm)
                .ok_or_else(|| corrupt(format!("`{algorithm}` is no algorithm of ours")))?,
            state: KeyState::find(&state)
                .ok_or_else(|| corrupt(format!("`{state}` is no state of a key")))?,
            since_ms: row.try_get("since")?,
            created_at_ms: row.try_get("created_at")?,
        },
        public_jwk: row.try_get("public_jwk")?,
        sealed: row.try_get("sealed")?,
    })
}
