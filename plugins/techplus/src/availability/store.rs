//! The rows of `table_slots`: who has which table when. The primary key `(table, slot)` is what keeps two parties from
//! one table; everything else here only makes good guesses.

use std::ops::Range;

use gantry_sdk::prelude::*;

use super::Candidate;

/// What a party wants to sit at.
pub struct Seat<'a> {
    pub restaurant: &'a str,
    pub party_size: u32,
    pub slots: &'a Range<i64>,
    /// The reservation: slots of its own do not stand in its way.
    pub reservation: &'a str,
    /// Only this table.
    pub table: Option<&'a str>,
    /// This table, if it can be had.
    pub preferred: Option<&'a str>,
}

/// The tables that fit a party, and when they are taken within some slots.
pub(super) fn candidates(
    db: &impl Executor,
    restaurant: &str,
    party_size: u32,
    within: &Range<i64>,
) -> Result<Vec<Candidate>> {
    type Row = (String, Option<i64>, Option<i64>);
    let rows: Vec<Row> = db.query_as(
        "SELECT t.id, MIN(s.slot), MAX(s.slot) FROM tables t \
         LEFT JOIN table_slots s ON s.table_id = t.id AND s.slot >= $3 AND s.slot < $4 \
         WHERE t.restaurant_id = $1 AND t.is_active = 1 AND $2 BETWEEN t.capacity_min AND t.capacity_max \
         GROUP BY t.id, s.reservation_id ORDER BY t.id",
        params![restaurant, party_size, within.start, within.end],
    )?;
    let mut candidates: Vec<(String, Candidate)> = Vec::new();
    for (id, first, last) in rows {
        let taken = first.zip(last).map(|(first, last)| first..last + 1);
        match candidates.last_mut() {
            Some((known, candidate)) if *known == id => candidate.taken.extend(taken),
            _ => candidates.push((
                id,
                Candidate {
                    taken: taken.into_iter().collect(),
                },
            )),
        }
    }
    Ok(candidates
        .into_iter()
        .map(|(_, candidate)| candidate)
        .collect())
}

/// The tables that can be had, the best first: the smallest that fits, so that large ones stay for large parties.
pub fn free_tables(db: &impl Executor, seat: &Seat) -> Result<Vec<String>> {
    db.query_as(
        "SELECT t.id FROM tables t \
         WHERE t.restaurant_id = $1 AND t.id = COALESCE($3, t.id) \
         AND t.is_active = 1 AND $2 BETWEEN t.capacity_min AND t.capacity_max \
         AND NOT EXISTS (SELECT 1 FROM table_slots s WHERE s.table_id = t.id \
          AND s.slot >= $4 AND s.slot < $5 AND s.reservation_id <> $6) \
         ORDER BY CASE WHEN t.id = $7 THEN 0 ELSE 1 END, t.capacity_max, t.name",
        params![
            seat.restaurant,
            seat.party_size,
            seat.table,
            seat.slots.start,
            seat.slots.end,
            seat.reservation,
            seat.preferred.unwrap_or_default(),
        ],
    )
}

/// Takes the best table that is free, and gives back what the reservation held before. Nothing if there is none.
pub fn claim(tx: &sql::Transaction, seat: &Seat) -> Result<Option<String>> {
    release(tx, seat.reservation)?;
    for table in free_tables(tx, seat)? {
        if insert(tx, &table, seat)? {
            return Ok(Some(table));
        }
        // Another transaction of a database with many writers was faster: the next table, then.
        release(tx, seat.reservation)?;
    }
    Ok(None)
}

/// Gives the table of a reservation back.
pub fn release(tx: &sql::Transaction, reservation: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM table_slots WHERE reservation_id = $1",
        params![reservation],
    )?;
    Ok(())
}

/// Whether all slots were free. No error if not, because an error would end the whole transaction in Postgres.
fn insert(tx: &sql::Transaction, table: &str, seat: &Seat) -> Result<bool> {
    let wanted = seat.slots.end - seat.slots.start;
    let rows: Vec<String> = (0..wanted)
        .map(|at| format!("($1, ${}, $2)", at + 3))
        .collect();
    let mut params = params![table, seat.reservation];
    params.extend(seat.slots.clone().map(sql::Value::from));
    let done = tx.execute(
        &format!(
            "INSERT INTO table_slots (table_id, slot, reservation_id) VALUES {} \
             ON CONFLICT (table_id, slot) DO NOTHING",
            rows.join(", ")
        ),
        params,
    )?;
    Ok(i64::try_from(done.rows_affected) == Ok(wanted))
}
