//! The rows of sessions.

use sqlx::{Row as _, any::AnyRow};

use crate::auth::Error;
use crate::auth::sessions::Session;
use crate::db::{Db, Transaction};
use crate::ids::{SessionId, UserId};

#[derive(Clone)]
pub(super) struct Store {
    pub(super) db: Db,
}

/// A session as its row has it.
pub(super) struct Row {
    pub(super) session: Session,
    pub(super) generation: i64,
    pub(super) token_sha256: String,
    pub(super) previous_sha256: Option<String>,
}

/// A refresh token that is to be exchanged.
pub(super) struct Exchange {
    pub(super) session: SessionId,
    pub(super) presented_sha256: String,
    pub(super) successor_sha256: String,
    pub(super) now_ms: i64,
    /// A session that was not used since then has ended.
    pub(super) idle_since_ms: i64,
}

/// A session whose refresh token was exchanged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exchanged {
    pub(super) user: UserId,
    pub(super) generation: i64,
    pub(super) expires_at_ms: i64,
}

impl Store {
    pub(super) async fn begin(&self) -> Result<Transaction, Error> {
        Ok(self.db.begin().await?)
    }

    /// Adds a session, unless its user was changed since the generation that it carries. False if so.
    pub(super) async fn insert(
        &self,
        transaction: &mut Transaction,
        row: &Row,
    ) -> Result<bool, Error> {
        let session = &row.session;
        let done = sqlx::query(
            "INSERT INTO sessions
             (id, user_id, generation, token_sha256, client, agent, created_at, used_at, expires_at)
             SELECT $1, id, generation, $4, $5, $6, $7, $7, $8
             FROM users WHERE id = $2 AND generation = $3 AND is_disabled = 0",
        )
        .bind(session.id.to_string())
        .bind(session.user.to_string())
        .bind(row.generation)
        .bind(&row.token_sha256)
        .bind(&session.client)
        .bind(&session.agent)
        .bind(session.created_at_ms)
        .bind(session.expires_at_ms)
        .execute(&mut **transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Revokes the sessions of a user that were not used for longest, so that this many stay.
    pub(super) async fn revoke_oldest(
        &self,
        transaction: &mut Transaction,
        user: UserId,
        keep: i64,
        now_ms: i64,
    ) -> Result<Vec<SessionId>, Error> {
        let rows = sqlx::query(
            "UPDATE sessions SET revoked_at = $1
             WHERE user_id = $2 AND revoked_at IS NULL AND id NOT IN (
                 SELECT id FROM sessions WHERE user_id = $2 AND revoked_at IS NULL
                 ORDER BY used_at DESC, id DESC LIMIT $3)
             RETURNING id",
        )
        .bind(now_ms)
        .bind(user.to_string())
        .bind(keep)
        .fetch_all(&mut **transaction)
        .await?;
        rows.iter().map(read_id).collect()
    }

    /// Puts the successor of a refresh token in its place. Nothing if the token is not the one that counts, or if the
    /// session has ended.
    pub(super) async fn exchange(
        &self,
        transaction: &mut Transaction,
        exchange: &Exchange,
    ) -> Result<Option<Exchanged>, Error> {
        let row = sqlx::query(
            "UPDATE sessions SET previous_sha256 = token_sha256, token_sha256 = $1, used_at = $2
             WHERE id = $3 AND token_sha256 = $4 AND revoked_at IS NULL AND expires_at > $2
             AND used_at > $5
             RETURNING user_id, generation, expires_at",
        )
        .bind(&exchange.successor_sha256)
        .bind(exchange.now_ms)
        .bind(exchange.session.to_string())
        .bind(&exchange.presented_sha256)
        .bind(exchange.idle_since_ms)
        .fetch_optional(&mut **transaction)
        .await?;
        let read = |row: &AnyRow| {
            Ok(Exchanged {
                user: parse(row, "user_id")?,
                generation: row.try_get("generation")?,
                expires_at_ms: row.try_get("expires_at")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// The session, unless it was revoked.
    pub(super) async fn find(&self, id: SessionId) -> Result<Option<Row>, Error> {
        let row = sqlx::query("SELECT * FROM sessions WHERE id = $1 AND revoked_at IS NULL")
            .bind(id.to_string())
            .fetch_optional(self.db.reader())
            .await?;
        row.as_ref().map(read_row).transpose()
    }

    /// The sessions of a user that have not ended, the one used last first.
    pub(super) async fn of_user(
        &self,
        user: UserId,
        now_ms: i64,
        idle_since_ms: i64,
    ) -> Result<Vec<Session>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM sessions
             WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND used_at > $3
             AND generation = (SELECT generation FROM users WHERE id = $1)
             ORDER BY used_at DESC, id DESC",
        )
        .bind(user.to_string())
        .bind(now_ms)
        .bind(idle_since_ms)
        .fetch_all(self.db.reader())
        .await?;
        rows.iter()
            .map(|row| read_row(row).map(|row| row.session))
            .collect()
    }

    /// Revokes a session. False if it is not there, not of this user, or was revoked before.
    pub(super) async fn revoke(
        &self,
        transaction: &mut Transaction,
        user: UserId,
        id: SessionId,
        now_ms: i64,
    ) -> Result<bool, Error> {
        let done = sqlx::query(
            "UPDATE sessions SET revoked_at = $1
             WHERE id = $2 AND user_id = $3 AND revoked_at IS NULL",
        )
        .bind(now_ms)
        .bind(id.to_string())
        .bind(user.to_string())
        .execute(&mut **transaction)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Revokes all sessions of a user, but for this one.
    pub(super) async fn revoke_all(
        &self,
        transaction: &mut Transaction,
        user: UserId,
        but: Option<SessionId>,
        now_ms: i64,
    ) -> Result<Vec<SessionId>, Error> {
        let rows = sqlx::query(
            "UPDATE sessions SET revoked_at = $1
             WHERE user_id = $2 AND revoked_at IS NULL AND id <> $3 RETURNING id",
        )
        .bind(now_ms)
        .bind(user.to_string())
        .bind(but.map(|id| id.to_string()).unwrap_or_default())
        .fetch_all(&mut **transaction)
        .await?;
        rows.iter().map(read_id).collect()
    }

    /// The sessions revoked since then, and when.
    pub(super) async fn revoked_since(
        &self,
        since_ms: i64,
    ) -> Result<Vec<(SessionId, i64)>, Error> {
        let rows = sqlx::query("SELECT id, revoked_at FROM sessions WHERE revoked_at > $1")
            .bind(since_ms)
            .fetch_all(self.db.reader())
            .await?;
        rows.iter()
            .map(|row| Ok((read_id(row)?, row.try_get("revoked_at")?)))
            .collect()
    }

    /// Forgets some sessions that have ended and of which no access token can be out. How many.
    pub(super) async fn sweep(
        &self,
        now_ms: i64,
        idle_since_ms: i64,
        revoked_before_ms: i64,
        limit: u32,
    ) -> Result<usize, Error> {
        // Found without keeping writers waiting, however many sessions there are.
        let rows = sqlx::query(
            "SELECT id FROM sessions
             WHERE expires_at <= $1 OR used_at <= $2 OR revoked_at <= $3
             OR generation < (SELECT generation FROM users WHERE users.id = sessions.user_id)
             LIMIT $4",
        )
        .bind(now_ms)
        .bind(idle_since_ms)
        .bind(revoked_before_ms)
        .bind(i64::from(limit))
        .fetch_all(self.db.reader())
        .await?;
        let mut transaction = self.db.begin().await?;
        for row in &rows {
            sqlx::query("DELETE FROM sessions WHERE id = $1")
                .bind(row.try_get::<String, _>("id")?)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(rows.len())
    }
}

fn read_row(row: &AnyRow) -> Result<Row, Error> {
    Ok(Row {
        session: Session {
            id: read_id(row)?,
            user: parse(row, "user_id")?,
            client: row.try_get("client")?,
            agent: row.try_get("agent")?,
            created_at_ms: row.try_get("created_at")?,
            used_at_ms: row.try_get("used_at")?,
            expires_at_ms: row.try_get("expires_at")?,
        },
        generation: row.try_get("generation")?,
        token_sha256: row.try_get("token_sha256")?,
        previous_sha256: row.try_get("previous_sha256")?,
    })
}

fn read_id(row: &AnyRow) -> Result<SessionId, Error> {
    parse(row, "id")
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &AnyRow,
    column: &str,
) -> Result<T, Error> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|problem: T::Err| Error::Corrupt {
        table: "sessions",
        id: text.clone(),
        problem: problem.to_string(),
    })
}
