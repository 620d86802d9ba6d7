//! The rows of guests.

use gantry_sdk::prelude::*;

use super::Guest;
use crate::id;
use crate::time::Millis;

/// The id of who told exactly this, now or before.
pub fn find_or_insert(tx: &sql::Transaction, guest: &Guest, now: Millis) -> Result<String> {
    let Guest { name, email, phone } = guest;
    let search = format!("{name} {email} {phone}").to_lowercase();
    // An update that changes nothing, because only a row that was written is returned.
    tx.query_one(
        "INSERT INTO guests (id, name, email, phone, search, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (email, name, phone) DO UPDATE SET search = excluded.search RETURNING id",
        params![id::new(), name, email, phone, search, now.0],
    )
}
