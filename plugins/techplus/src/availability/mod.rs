//! When a party can come: the hours of the house, less the tables that are taken.

mod stay;
mod store;

use std::ops::Range;

use gantry_sdk::prelude::*;

use crate::restaurants::Venue;
use crate::settings::Config;
use crate::time::{DAY_MINUTES, Day, LocalTime, Millis, TimeOfDay};
use crate::{database, hours};

pub use stay::{Booker, Stay};
pub use store::{Seat, claim, free_tables, release};

pub fn routes() -> Router {
    Router::new()
        .get("/restaurants/{id}/availability", show)
        .get("/restaurants/{id}/slots", show)
}

#[derive(Deserialize)]
struct Asked {
    date: Day,
    party_size: u32,
}

/// What a party can choose from on one date.
#[derive(Debug, Serialize)]
struct Availability {
    restaurant_id: String,
    date: Day,
    party_size: u32,
    /// Times are on the clock of this zone.
    time_zone: String,
    /// How long the party would stay.
    duration_minutes: i64,
    slots: Vec<Slot>,
}

/// One time at which guests can come, if a table is free.
#[derive(Debug, Serialize)]
struct Slot {
    time: TimeOfDay,
    starts_at: Millis,
    is_available: bool,
    /// How many tables fit the party and are free.
    tables_free: usize,
}

/// A table that fits the party, and when it is taken, in slots.
struct Candidate {
    taken: Vec<Range<i64>>,
}

impl Candidate {
    fn is_free(&self, slots: &Range<i64>) -> bool {
        !self
            .taken
            .iter()
            .any(|taken| taken.start < slots.end && slots.start < taken.end)
    }
}

fn show(Path(restaurant): Path<String>, Query(asked): Query<Asked>) -> Result<Json<Availability>> {
    let Asked { date, party_size } = asked;
    let db = database()?;
    let venue = Venue::load(&db, &restaurant, &Config::load()?)?;
    let stays = stays_of(&db, &venue, date, party_size)?;
    let candidates = match (stays.first(), stays.last()) {
        (Some(first), Some(last)) => {
            let whole_day = first.slots.start..last.slots.end;
            store::candidates(&db, &venue.id, party_size, &whole_day)?
        }
        _ => Vec::new(),
    };
    let slot = |stay: Stay| {
        let free = candidates.iter().filter(|table| table.is_free(&stay.slots));
        let tables_free = free.count();
        Slot {
            time: stay.starts.time(),
            starts_at: stay.starts_at,
            is_available: tables_free > 0,
            tables_free,
        }
    };
    Ok(Json(Availability {
        date,
        party_size,
        duration_minutes: venue.rules.duration(party_size),
        slots: stays.into_iter().map(slot).collect(),
        restaurant_id: venue.id,
        time_zone: venue.time_zone,
    }))
}

/// The times of a date at which guests may come, whether or not a table is free.
fn stays_of(db: &impl Executor, venue: &Venue, date: Day, party_size: u32) -> Result<Vec<Stay>> {
    let now = Millis::now();
    if !venue.accepts(date, party_size, now) {
        return Ok(Vec::new());
    }
    let openings = hours::openings(db, &venue.id, date)?;
    let times = (0..DAY_MINUTES).step_by(venue.rules.slot_step());
    let stays = times.map(|minute| {
        let starts = LocalTime::new(date, TimeOfDay::from_minute(minute));
        Stay::new(venue, starts, party_size)
    });
    let is_possible =
        |stay: &Stay| stay.starts_at > now && openings.iter().any(|opening| stay.fits(opening));
    Ok(stays.filter(is_possible).collect())
}
