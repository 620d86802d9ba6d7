//! The rows of reservations, their history and their notes.

use gantry_sdk::prelude::*;

use super::history::{Action, Change, Entry};
use super::list::{Filter, Place};
use super::notes::{Author, Note};
use super::{Reservation, Status, TableName};
use crate::actor::Actor;
use crate::availability::Booker;
use crate::guests::Guest;
use crate::time::{Day, Millis, TimeOfDay};

const SELECT: &str = "SELECT r.id, r.restaurant_id, r.table_id, t.name AS table_name, \
    g.name AS guest_name, g.email AS guest_email, g.phone AS guest_phone, \
    r.date, r.minute, r.duration_minutes, r.starts_at_ms, r.party_size, r.status, \
    r.special_requests, r.source, r.revision, r.created_at_ms, r.updated_at_ms \
    FROM reservations r JOIN tables t ON t.id = r.table_id JOIN guests g ON g.id = r.guest_id";

#[derive(Deserialize)]
struct Row {
    id: String,
    restaurant_id: String,
    table_id: String,
    table_name: String,
    guest_name: String,
    guest_email: String,
    guest_phone: String,
    date: Day,
    minute: i64,
    duration_minutes: i64,
    starts_at_ms: Millis,
    party_size: u32,
    status: Status,
    special_requests: String,
    source: Booker,
    revision: i64,
    created_at_ms: Millis,
    updated_at_ms: Millis,
}

impl From<Row> for Reservation {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            restaurant_id: row.restaurant_id,
            table: TableName {
                id: row.table_id,
                name: row.table_name,
            },
            guest: Guest {
                name: row.guest_name,
                email: row.guest_email,
                phone: row.guest_phone,
            },
            date: row.date,
            time: TimeOfDay::from_minute(row.minute),
            duration_minutes: row.duration_minutes,
            starts_at: row.starts_at_ms,
            party_size: row.party_size,
            status: row.status,
            special_requests: row.special_requests,
            source: row.source,
            created_at: row.created_at_ms,
            updated_at: row.updated_at_ms,
            revision: row.revision,
        }
    }
}

pub(super) fn find(db: &impl Executor, id: &str) -> Result<Option<Reservation>> {
    let row: Option<Row> = db.query_optional(&format!("{SELECT} WHERE r.id = $1"), params![id])?;
    Ok(row.map(Reservation::from))
}

/// Those there are, in no order.
pub(super) fn find_all(db: &impl Executor, ids: &[String]) -> Result<Vec<Reservation>> {
    let places: Vec<String> = (1..=ids.len()).map(|number| format!("${number}")).collect();
    let sql = format!("{SELECT} WHERE r.id IN ({})", places.join(", "));
    let rows: Vec<Row> = db.query_as(&sql, ids.iter().map(sql::Value::from).collect())?;
    Ok(rows.into_iter().map(Reservation::from).collect())
}

/// By time, behind a place.
pub(super) fn list(
    db: &impl Executor,
    filter: &Filter,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<Reservation>> {
    let mut conditions = Conditions::default();
    conditions.add_if("r.restaurant_id = $", filter.restaurant_id.as_deref());
    conditions.add_if("r.table_id = $", filter.table_id.as_deref());
    conditions.add_if("r.date = $", filter.date.map(|day| day.to_string()));
    conditions.add_if("r.date >= $", filter.from.map(|day| day.to_string()));
    conditions.add_if("r.date <= $", filter.to.map(|day| day.to_string()));
    conditions.add_if(
        "g.search LIKE $ ESCAPE '!'",
        filter.q.as_deref().map(pattern),
    );
    conditions.add_any(
        "r.status",
        filter.status.iter().map(|status| status.as_str()),
    );
    if let Some(Place { date, minute, id }) = after {
        conditions.add(
            "(r.date, r.minute, r.id) > ($, $, $)",
            params![date.to_string(), *minute, id],
        );
    }
    let (conditions, params) = conditions.finish();
    let sql = format!("{SELECT} WHERE {conditions} ORDER BY r.date, r.minute, r.id LIMIT {limit}");
    let rows: Vec<Row> = db.query_as(&sql, params)?;
    Ok(rows.into_iter().map(Reservation::from).collect())
}

pub(super) fn insert(tx: &sql::Transaction, reservation: &Reservation, guest: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO reservations (id, restaurant_id, table_id, guest_id, date, minute, duration_minutes, \
         starts_at_ms, party_size, status, special_requests, source, revision, created_at_ms, updated_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        params![
            &reservation.id,
            &reservation.restaurant_id,
            &reservation.table.id,
            guest,
            reservation.date.to_string(),
            reservation.time.minute(),
            reservation.duration_minutes,
            reservation.starts_at.0,
            reservation.party_size,
            reservation.status.as_str(),
            &reservation.special_requests,
            reservation.source.as_str(),
            reservation.revision,
            reservation.created_at.0,
            reservation.updated_at.0,
        ],
    )?;
    Ok(())
}

/// Whether it still had the revision that was read.
pub(super) fn update(
    tx: &sql::Transaction,
    reservation: &Reservation,
    guest: &str,
) -> Result<bool> {
    let done = tx.execute(
        "UPDATE reservations SET table_id = $3, guest_id = $4, date = $5, minute = $6, duration_minutes = $7, \
         starts_at_ms = $8, party_size = $9, special_requests = $10, updated_at_ms = $11, \
         revision = revision + 1 WHERE id = $1 AND revision = $2",
        params![
            &reservation.id,
            reservation.revision,
            &reservation.table.id,
            guest,
            reservation.date.to_string(),
            reservation.time.minute(),
            reservation.duration_minutes,
            reservation.starts_at.0,
            reservation.party_size,
            &reservation.special_requests,
            reservation.updated_at.0,
        ],
    )?;
    Ok(done.rows_affected > 0)
}

/// Whether it still had the revision that was read.
pub(super) fn set_status(
    tx: &sql::Transaction,
    reservation: &Reservation,
    next: Status,
    now: Millis,
) -> Result<bool> {
    let done = tx.execute(
        "UPDATE reservations SET status = $3, updated_at_ms = $4, revision = revision + 1 \
         WHERE id = $1 AND revision = $2",
        params![&reservation.id, reservation.revision, next.as_str(), now.0],
    )?;
    Ok(done.rows_affected > 0)
}

pub(super) fn insert_entry(tx: &sql::Transaction, reservation: &str, entry: &Entry) -> Result<()> {
    tx.execute(
        "INSERT INTO reservation_history (id, reservation_id, at_ms, actor_kind, actor_id, actor_name, \
         action, changes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            &entry.id,
            reservation,
            entry.at.0,
            &entry.actor.kind,
            entry.actor.id.as_deref(),
            &entry.actor.name,
            entry.action.as_str(),
            sql::Json(&entry.changes),
        ],
    )?;
    Ok(())
}

/// Oldest first, behind the one with this id.
pub(super) fn entries(
    db: &impl Executor,
    reservation: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Entry>> {
    type Row = (
        String,
        Millis,
        String,
        Option<String>,
        String,
        Action,
        sql::Json<Vec<Change>>,
    );
    let rows: Vec<Row> = db.query_as(
        &format!(
            "SELECT id, at_ms, actor_kind, actor_id, actor_name, action, changes FROM reservation_history \
             WHERE reservation_id = $1 AND id > $2 ORDER BY id LIMIT {limit}"
        ),
        params![reservation, after.unwrap_or_default()],
    )?;
    let entry = |(id, at, kind, actor, name, action, changes): Row| Entry {
        id,
        at,
        actor: Actor {
            kind,
            id: actor,
            name,
        },
        action,
        changes: changes.0,
    };
    Ok(rows.into_iter().map(entry).collect())
}

/// Oldest first, behind the one with this id.
pub(super) fn notes(
    db: &impl Executor,
    reservation: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Note>> {
    type Row = (String, Millis, Option<String>, String, String);
    let rows: Vec<Row> = db.query_as(
        &format!(
            "SELECT id, at_ms, author_id, author_name, text FROM reservation_notes \
             WHERE reservation_id = $1 AND id > $2 ORDER BY id LIMIT {limit}"
        ),
        params![reservation, after.unwrap_or_default()],
    )?;
    let note = |(id, at, author, name, text): Row| Note {
        id,
        at,
        author: Author { id: author, name },
        text,
    };
    Ok(rows.into_iter().map(note).collect())
}

pub(super) fn count_notes(db: &impl Executor, reservation: &str) -> Result<usize> {
    db.query_one(
        "SELECT count(*) FROM reservation_notes WHERE reservation_id = $1",
        params![reservation],
    )
}

pub(super) fn insert_note(tx: &sql::Transaction, reservation: &str, note: &Note) -> Result<()> {
    tx.execute(
        "INSERT INTO reservation_notes (id, reservation_id, at_ms, author_id, author_name, text) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![
            &note.id,
            reservation,
            note.at.0,
            note.author.id.as_deref(),
            &note.author.name,
            &note.text
        ],
    )?;
    Ok(())
}

/// The text anywhere, with the signs that LIKE gives a meaning taken as they are.
fn pattern(text: &str) -> String {
    let text = text
        .to_lowercase()
        .replace('!', "!!")
        .replace('%', "!%")
        .replace('_', "!_");
    format!("%{text}%")
}

/// Conditions of a statement, and their parameters.
#[derive(Default)]
struct Conditions {
    sql: Vec<String>,
    params: Vec<sql::Value>,
}

impl Conditions {
    /// A condition in which each `$` stands for the next value.
    fn add(&mut self, condition: &str, values: Vec<sql::Value>) {
        let mut sql = String::new();
        let mut number = self.params.len();
        for (at, part) in condition.split('$').enumerate() {
            if at > 0 {
                number += 1;
                sql.push_str(&format!("${number}"));
            }
            sql.push_str(part);
        }
        self.sql.push(sql);
        self.params.extend(values);
    }

    fn add_if(&mut self, condition: &str, value: Option<impl Into<sql::Value>>) {
        if let Some(value) = value {
            self.add(condition, vec![value.into()]);
        }
    }

    /// The column has one of the values; any, if there are none.
    fn add_any(&mut self, column: &str, values: impl Iterator<Item = &'static str>) {
        let values: Vec<_> = values.map(sql::Value::from).collect();
        if !values.is_empty() {
            let places = vec!["$"; values.len()].join(", ");
            self.add(&format!("{column} IN ({places})"), values);
        }
    }

    fn finish(self) -> (String, Vec<sql::Value>) {
        let sql = if self.sql.is_empty() {
            "1 = 1".to_owned()
        } else {
            self.sql.join(" AND ")
        };
        (sql, self.params)
    }
}
