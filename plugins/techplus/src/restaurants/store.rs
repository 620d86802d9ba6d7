//! The rows of restaurants.

use gantry_sdk::prelude::*;

use super::{Profile, Restaurant};
use crate::settings::Settings;
use crate::time::Millis;

const COLUMNS: &str = "id, name, description, address, phone, email, website, time_zone, \
                       created_at_ms, updated_at_ms";

/// What bookings need.
#[derive(Deserialize)]
pub(super) struct VenueRow {
    pub name: String,
    pub time_zone: String,
    pub settings: sql::Json<Settings>,
}

/// By name, behind an id and a name.
pub(super) fn list(
    db: &impl Executor,
    after: Option<[&str; 2]>,
    limit: usize,
) -> Result<Vec<Restaurant>> {
    let [id, name] = after.unwrap_or_default();
    db.query_as(
        &format!(
            "SELECT {COLUMNS} FROM restaurants WHERE (name, id) > ($1, $2) ORDER BY name, id LIMIT {limit}"
        ),
        params![name, id],
    )
}

pub(super) fn find(db: &impl Executor, id: &str) -> Result<Option<Restaurant>> {
    db.query_optional(
        &format!("SELECT {COLUMNS} FROM restaurants WHERE id = $1"),
        params![id],
    )
}

pub(super) fn find_venue(db: &impl Executor, id: &str) -> Result<Option<VenueRow>> {
    db.query_optional(
        "SELECT name, time_zone, settings FROM restaurants WHERE id = $1",
        params![id],
    )
}

pub(super) fn exists(db: &impl Executor, id: &str) -> Result<bool> {
    let found: Option<i64> =
        db.query_optional("SELECT 1 FROM restaurants WHERE id = $1", params![id])?;
    Ok(found.is_some())
}

pub(super) fn insert(db: &impl Executor, restaurant: &Restaurant) -> Result<()> {
    let Restaurant {
        id,
        profile,
        created_at,
        updated_at,
    } = restaurant;
    db.execute(
        "INSERT INTO restaurants (id, name, description, address, phone, email, website, time_zone, \
         settings, created_at_ms, updated_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        params![
            id,
            &profile.name,
            &profile.description,
            &profile.address,
            &profile.phone,
            &profile.email,
            &profile.website,
            &profile.time_zone,
            sql::Json(Settings::default()),
            created_at.0,
            updated_at.0,
        ],
    )?;
    Ok(())
}

/// Whether there was one.
pub(super) fn update(db: &impl Executor, id: &str, profile: &Profile, now: Millis) -> Result<bool> {
    let done = db.execute(
        "UPDATE restaurants SET name = $2, description = $3, address = $4, phone = $5, email = $6, \
         website = $7, time_zone = $8, updated_at_ms = $9 WHERE id = $1",
        params![
            id,
            &profile.name,
            &profile.description,
            &profile.address,
            &profile.phone,
            &profile.email,
            &profile.website,
            &profile.time_zone,
            now.0,
        ],
    )?;
    Ok(done.rows_affected > 0)
}

/// Whether there was one.
pub(super) fn update_settings(
    db: &impl Executor,
    id: &str,
    settings: &Settings,
    now: Millis,
) -> Result<bool> {
    let done = db.execute(
        "UPDATE restaurants SET settings = $2, updated_at_ms = $3 WHERE id = $1",
        params![id, sql::Json(settings), now.0],
    )?;
    Ok(done.rows_affected > 0)
}

/// Whether there was one. Tables, hours and menu go with it; reservations hold it.
pub(super) fn delete(db: &impl Executor, id: &str) -> Result<bool> {
    Ok(db
        .execute("DELETE FROM restaurants WHERE id = $1", params![id])?
        .rows_affected
        > 0)
}
