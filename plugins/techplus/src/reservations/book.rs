//! Making a reservation: by a guest, or by the staff for one.

use gantry_sdk::prelude::*;

use super::history::{self, Action};
use super::{Reservation, Status, TableName, manage, store};
use crate::actor::Actor;
use crate::availability::{self, Booker, Seat, Stay};
use crate::check::Check;
use crate::guests::{self, Email};
use crate::restaurants::Venue;
use crate::settings::{Config, Confirmation};
use crate::tables;
use crate::time::{Day, LocalTime, Millis, TimeOfDay};
use crate::{database, id};

/// Largest party that the staff can book; larger than any table.
pub(super) const PARTY_MAX: u32 = 100;

pub(super) fn routes() -> Router {
    Router::new()
        .post("/reservations", book_as_guest)
        .post("/restaurants/{id}/reservations", book_as_staff)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Input {
    /// Where the path does not say it.
    restaurant_id: String,
    date: String,
    time: String,
    party_size: u32,
    /// Only this table; else the best that is free.
    table_id: Option<String>,
    guest: guests::Input,
    special_requests: String,
}

/// What a guest gets: the reservation, and the key to come back with.
#[derive(Serialize)]
struct Booked {
    #[serde(flatten)]
    reservation: Reservation,
    #[serde(flatten)]
    key: manage::Key,
}

fn book_as_guest(caller: Option<Principal>, Json(input): Json<Input>) -> Result<Response> {
    let booked = book(&input, Booker::Guest, caller.map(Actor::from))?;
    Response::created(format!("reservations/{}", booked.reservation.id), &booked)
}

fn book_as_staff(
    actor: Actor,
    Path(restaurant): Path<String>,
    Json(mut input): Json<Input>,
) -> Result<Response> {
    input.restaurant_id = restaurant;
    let booked = book(&input, Booker::Staff, Some(actor))?;
    let location = format!("../../reservations/{}", booked.reservation.id);
    Response::created(location, &booked)
}

fn book(input: &Input, booker: Booker, actor: Option<Actor>) -> Result<Booked> {
    let mut check = Check::default();
    let date: Day = check.parsed("/date", &input.date);
    let time: TimeOfDay = check.parsed("/time", &input.time);
    check.number("/party_size", input.party_size, 1..=PARTY_MAX);
    let email = if booker == Booker::Guest {
        Email::Needed
    } else {
        Email::Optional
    };
    let guest = input.guest.checked(&mut check, email);
    let special_requests = check.text("/special_requests", &input.special_requests, 0..=1000);
    check.finish()?;
    let actor = actor.unwrap_or_else(|| Actor::guest(&guest.name));

    let db = database()?;
    let config = Config::load()?;
    let venue = Venue::load(&db, &input.restaurant_id, &config)?;
    let stay = Stay::plan(
        &db,
        &venue,
        LocalTime::new(date, time),
        input.party_size,
        booker,
    )?;
    let (id, now) = (id::new(), Millis::now());
    let seat = Seat {
        restaurant: &venue.id,
        party_size: input.party_size,
        slots: &stay.slots,
        reservation: &id,
        table: input.table_id.as_deref(),
        preferred: None,
    };
    check_seat(&db, &seat)?;
    let mut reservation = Reservation {
        id: id.clone(),
        restaurant_id: venue.id.clone(),
        table: TableName {
            id: String::new(),
            name: String::new(),
        },
        guest,
        date,
        time,
        duration_minutes: stay.duration_minutes,
        starts_at: stay.starts_at,
        party_size: input.party_size,
        status: first_status(booker, venue.rules.confirmation),
        special_requests,
        source: booker,
        created_at: now,
        updated_at: now,
        revision: 1,
    };
    let key = manage::Key::sign(&config, &reservation)?;
    db.transaction(|tx| {
        reservation.table = take_seat(tx, &seat)?;
        let guest = guests::find_or_insert(tx, &reservation.guest, now)?;
        store::insert(tx, &reservation, &guest)?;
        history::record(tx, &id, &actor, Action::Created, Vec::new(), now)
    })?;
    Ok(Booked { reservation, key })
}

fn first_status(booker: Booker, confirmation: Confirmation) -> Status {
    match (booker, confirmation) {
        (Booker::Guest, Confirmation::Manual) => Status::Pending,
        _ => Status::Confirmed,
    }
}

/// Refuses what cannot be had before anybody has to wait for the only writer. Whoever passes may still be too late:
/// [`take_seat`] decides.
pub(super) fn check_seat(db: &impl Executor, seat: &Seat) -> Result<()> {
    if !availability::free_tables(db, seat)?.is_empty() {
        return Ok(());
    }
    let Some(id) = seat.table else {
        return Err(nothing_free(seat));
    };
    let mut check = Check::default();
    match tables::find(db, seat.restaurant, id)? {
        Some(table) if !table.is_active => {
            check.mistake("/table_id", "inactive", "this table is not given")
        }
        Some(table) if !table.takes(seat.party_size) => {
            let (min, max) = (table.capacity_min, table.capacity_max);
            check.mistake(
                "/party_size",
                "out_of_range",
                format!("this table takes {min} to {max} people"),
            );
        }
        Some(_) => return Err(nothing_free(seat)),
        None => check.mistake(
            "/table_id",
            "unknown",
            "there is no such table in this restaurant",
        ),
    }
    check.finish()
}

/// Gives the party a table, or says that there is none.
pub(super) fn take_seat(tx: &sql::Transaction, seat: &Seat) -> Result<TableName> {
    let id = availability::claim(tx, seat)?.ok_or_else(|| nothing_free(seat))?;
    let name = tables::find(tx, seat.restaurant, &id)?
        .map(|table| table.name)
        .unwrap_or_default();
    Ok(TableName { id, name })
}

fn nothing_free(seat: &Seat) -> Error {
    match seat.table {
        Some(_) => Error::conflict(
            "reservation.table_taken",
            "this table is taken at that time",
        ),
        None => Error::conflict(
            "reservation.no_table",
            "no table for this party is free at that time",
        ),
    }
}
