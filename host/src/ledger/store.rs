//! The rows of the chain.

use sqlx::{AnyPool, Row as _, any::AnyRow};

use super::event::Entry;
use super::mark::{Kind, Mark};
use super::query::Filter;

type Transaction = sqlx::Transaction<'static, sqlx::Any>;

/// Takes the next numbers. Whoever does so has the end of the chain for themselves until they commit. The number taken last,
/// and the hash that the first entry goes behind.
pub(super) async fn advance(tx: &mut Transaction, by: i64) -> Result<(i64, String), sqlx::Error> {
    let query = "UPDATE audit_marks SET seq = seq + $1 WHERE kind = 'head' RETURNING seq, hash";
    let row = sqlx::query(query).bind(by).fetch_one(&mut **tx).await?;
    Ok((row.try_get("seq")?, row.try_get("hash")?))
}

pub(super) async fn insert(tx: &mut Transaction, entry: &Entry) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO audit_events (seq, at_ms, actor_kind, actor, address, action, target, outcome, \
         request_id, detail, prev_hash, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(entry.seq)
    .bind(entry.at_ms)
    .bind(&entry.actor_kind)
    .bind(&entry.actor)
    .bind(&entry.address)
    .bind(&entry.action)
    .bind(&entry.target)
    .bind(&entry.outcome)
    .bind(&entry.request_id)
    .bind(entry.detail_text())
    .bind(&entry.prev)
    .bind(&entry.hash)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Puts a mark in the place of the one of its kind.
pub(super) async fn put_mark(
    tx: &mut Transaction,
    kind: Kind,
    mark: &Mark,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO audit_marks (kind, seq, at_ms, hash, signature) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (kind) DO UPDATE SET seq = excluded.seq, at_ms = excluded.at_ms, \
         hash = excluded.hash, signature = excluded.signature",
    )
    .bind(kind.as_str())
    .bind(mark.seq)
    .bind(mark.at_ms)
    .bind(&mark.hash)
    .bind(&mark.signature)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn mark(tx: &mut Transaction, kind: Kind) -> Result<Option<Mark>, sqlx::Error> {
    let row = sqlx::query("SELECT * FROM audit_marks WHERE kind = $1")
        .bind(kind.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    let read = |row: &AnyRow| {
        Ok(Mark {
            seq: row.try_get("seq")?,
            at_ms: row.try_get("at_ms")?,
            hash: row.try_get("hash")?,
            signature: row.try_get("signature")?,
        })
    };
    row.as_ref().map(read).transpose()
}

/// How many marks there are.
pub(super) async fn count_marks(tx: &mut Transaction) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT count(*) AS marks FROM audit_marks");
    row.fetch_one(&mut **tx).await?.try_get("marks")
}

/// Some rows behind a number, up to another, oldest first, as they are.
pub(super) async fn rows_after(
    tx: &mut Transaction,
    after: i64,
    limit: i64,
) -> Result<Vec<AnyRow>, sqlx::Error> {
    let query = "SELECT * FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2";
    let query = sqlx::query(query).bind(after).bind(limit);
    query.fetch_all(&mut **tx).await
}

/// How many rows have no number that the chain can have.
pub(super) async fn count_strays(tx: &mut Transaction) -> Result<i64, sqlx::Error> {
    let row = sqlx::query("SELECT count(*) AS strays FROM audit_events WHERE NOT (seq > 0)");
    row.fetch_one(&mut **tx).await?.try_get("strays")
}

/// Number, action, target and hash of some entries from a number on, oldest first.
pub(super) async fn told_from(
    pool: &AnyPool,
    from: i64,
    limit: i64,
) -> Result<Vec<(i64, String, String, String)>, sqlx::Error> {
    let query =
        "SELECT seq, action, target, hash FROM audit_events WHERE seq >= $1 ORDER BY seq LIMIT $2";
    let query = sqlx::query_as(query).bind(from).bind(limit);
    query.fetch_all(pool).await
}

/// Number and hash of the last entry.
pub(super) async fn last(pool: &AnyPool) -> Result<Option<(i64, String)>, sqlx::Error> {
    let query = "SELECT seq, hash FROM audit_events ORDER BY seq DESC LIMIT 1";
    sqlx::query_as(query).fetch_optional(pool).await
}

/// The hash of one entry, if it is there.
pub(super) async fn hash_of(pool: &AnyPool, seq: i64) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT hash FROM audit_events WHERE seq = $1").bind(seq);
    query.fetch_optional(pool).await
}

/// The last entry that is older than this, of the oldest so many.
pub(super) async fn last_before(
    tx: &mut Transaction,
    before_ms: i64,
    limit: i64,
) -> Result<Option<(i64, String)>, sqlx::Error> {
    // The first one that is younger ends it: nothing is removed from the middle.
    let rows = sqlx::query("SELECT seq, at_ms, hash FROM audit_events ORDER BY seq LIMIT $1")
        .bind(limit)
        .fetch_all(&mut **tx)
        .await?;
    let mut last = None;
    for row in &rows {
        if row.try_get::<i64, _>("at_ms")? >= before_ms {
            break;
        }
        last = Some((row.try_get("seq")?, row.try_get("hash")?));
    }
    Ok(last)
}

pub(super) async fn delete_through(tx: &mut Transaction, seq: i64) -> Result<u64, sqlx::Error> {
    let query = sqlx::query("DELETE FROM audit_events WHERE seq <= $1").bind(seq);
    Ok(query.execute(&mut **tx).await?.rows_affected())
}

/// Entries that fit a filter, newest first.
pub(super) async fn find(pool: &AnyPool, filter: &Filter) -> Result<Vec<Entry>, sqlx::Error> {
    let mut sql = "SELECT * FROM audit_events WHERE 1 = 1".to_owned();
    let mut texts = Vec::new();
    let mut numbers = Vec::new();
    let action = filter.action.as_deref();
    let prefix = action.and_then(|action| action.strip_suffix('*'));
    for (column, value) in [
        ("actor = ", filter.actor.as_deref()),
        ("target = ", filter.target.as_deref()),
        ("outcome = ", filter.outcome.as_deref()),
        ("action = ", action.filter(|_| prefix.is_none())),
        ("request_id = ", filter.request_id.as_deref()),
    ] {
        if let Some(value) = value {
            texts.push(value.to_owned());
            sql.push_str(&format!(" AND {column}${}", texts.len()));
        }
    }
    if let Some(prefix) = prefix {
        // Letters, dots and underlines only, so the end of the alphabet is behind all of them.
        for (operator, value) in [(">=", prefix.to_owned()), ("<", format!("{prefix}~"))] {
            texts.push(value);
            sql.push_str(&format!(" AND action {operator} ${}", texts.len()));
        }
    }
    for (condition, value) in [
        ("at_ms >= ", filter.since_ms),
        ("at_ms < ", filter.until_ms),
        ("seq < ", filter.before_seq),
    ] {
        if let Some(value) = value {
            numbers.push(value);
            let place = texts.len() + numbers.len();
            sql.push_str(&format!(" AND {condition}${place}"));
        }
    }
    numbers.push(filter.limit);
    let place = texts.len() + numbers.len();
    sql.push_str(&format!(" ORDER BY seq DESC LIMIT ${place}"));
    // Only the constants above are in it.
    let mut query = sqlx::query(sqlx::AssertSqlSafe(sql));
    for text in texts {
        query = query.bind(text);
    }
    for number in numbers {
        query = query.bind(number);
    }
    let rows = query.fetch_all(pool).await?;
    rows.iter().map(entry).collect()
}

/// A row as an entry. Details that are not as the host writes them are no entry.
pub(super) fn entry(row: &AnyRow) -> Result<Entry, sqlx::Error> {
    let detail: String = row.try_get("detail")?;
    let entry = Entry {
        seq: row.try_get("seq")?,
        at_ms: row.try_get("at_ms")?,
        actor_kind: row.try_get("actor_kind")?,
        actor: row.try_get("actor")?,
        address: row.try_get("address")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        outcome: row.try_get("outcome")?,
        request_id: row.try_get("request_id")?,
        detail: serde_json::from_str(&detail).map_err(|error| sqlx::Error::Decode(error.into()))?,
        prev: row.try_get("prev_hash")?,
        hash: row.try_get("hash")?,
    };
    if entry.detail_text() != detail {
        return Err(sqlx::Error::Decode("the details are not canonical".into()));
    }
    Ok(entry)
}
