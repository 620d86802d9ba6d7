//! Changing a reservation: another time, another table, more people, other words.

use gantry_sdk::prelude::*;

use super::history::{self, Action, Change};
use super::{Reservation, Status, book, changed_meanwhile, store};
use crate::actor::Actor;
use crate::availability::{Booker, Seat, Stay};
use crate::check::Check;
use crate::database;
use crate::guests::{self, Email};
use crate::restaurants::Venue;
use crate::settings::Config;
use crate::time::Millis;

pub(super) fn routes() -> Router {
    Router::new().put("/reservations/{id}", update)
}

/// What is left out stays as it is.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Input {
    date: Option<String>,
    time: Option<String>,
    party_size: Option<u32>,
    table_id: Option<String>,
    guest: Option<guests::Input>,
    special_requests: Option<String>,
}

fn update(
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<Input>,
) -> Result<Json<Reservation>> {
    let db = database()?;
    let reservation = Reservation::load(&db, &id)?;
    let venue = Venue::load(&db, &reservation.restaurant_id, &Config::load()?)?;
    change(&db, &venue, &reservation, &input, Booker::Staff, &actor).map(Json)
}

/// Checks the wish, finds a table where it needs one, and writes all of it or nothing.
pub(super) fn change(
    db: &sql::Connection,
    venue: &Venue,
    old: &Reservation,
    input: &Input,
    booker: Booker,
    actor: &Actor,
) -> Result<Reservation> {
    require_open(old.status, booker)?;
    let mut new = input.apply(old, booker)?;
    new.updated_at = Millis::now();
    let wants_other_table = input
        .table_id
        .as_ref()
        .is_some_and(|table| *table != old.table.id);
    if new.starts() == old.starts() && new.party_size == old.party_size && !wants_other_table {
        return db.transaction(|tx| write(tx, old, new, actor));
    }
    let stay = Stay::plan(db, venue, new.starts(), new.party_size, booker)?;
    new.duration_minutes = stay.duration_minutes;
    new.starts_at = stay.starts_at;
    let seat = Seat {
        restaurant: &venue.id,
        party_size: new.party_size,
        slots: &stay.slots,
        reservation: &old.id,
        table: input.table_id.as_deref(),
        preferred: Some(&old.table.id),
    };
    book::check_seat(db, &seat)?;
    db.transaction(|tx| {
        new.table = book::take_seat(tx, &seat)?;
        write(tx, old, new, actor)
    })
}

/// The staff moves parties that sit already; what is over stays as it was.
fn require_open(status: Status, booker: Booker) -> Result<()> {
    match (status, booker) {
        (Status::Pending | Status::Confirmed, _) | (Status::Seated, Booker::Staff) => Ok(()),
        _ => {
            let message = format!(
                "a reservation that is {} cannot be changed",
                status.as_str()
            );
            Err(Error::conflict("reservation.not_changeable", message))
        }
    }
}

fn write(
    tx: &sql::Transaction,
    old: &Reservation,
    new: Reservation,
    actor: &Actor,
) -> Result<Reservation> {
    let changes = differences(old, &new);
    if changes.is_empty() {
        return Ok(old.clone());
    }
    let guest = guests::find_or_insert(tx, &new.guest, new.updated_at)?;
    if !store::update(tx, &new, &guest)? {
        return Err(changed_meanwhile());
    }
    history::record(tx, &new.id, actor, Action::Updated, changes, new.updated_at)?;
    Ok(new)
}

fn differences(old: &Reservation, new: &Reservation) -> Vec<Change> {
    let values = |reservation: &Reservation| {
        [
            ("date", reservation.date.to_string()),
            ("time", reservation.time.to_string()),
            ("duration_minutes", reservation.duration_minutes.to_string()),
            ("party_size", reservation.party_size.to_string()),
            ("table", reservation.table.name.clone()),
            ("guest.name", reservation.guest.name.clone()),
            ("guest.email", reservation.guest.email.clone()),
            ("guest.phone", reservation.guest.phone.clone()),
            ("special_requests", reservation.special_requests.clone()),
        ]
    };
    let pairs = values(old).into_iter().zip(values(new));
    pairs
        .filter(|(old, new)| old != new)
        .map(|((field, from), (_, to))| Change::new(field, from, to))
        .collect()
}

impl Input {
    fn apply(&self, old: &Reservation, booker: Booker) -> Result<Reservation> {
        let mut check = Check::default();
        let mut new = old.clone();
        if let Some(date) = &self.date {
            new.date = check.parsed("/date", date);
        }
        if let Some(time) = &self.time {
            new.time = check.parsed("/time", time);
        }
        if let Some(party_size) = self.party_size {
            check.number("/party_size", party_size, 1..=book::PARTY_MAX);
            new.party_size = party_size;
        }
        if let Some(guest) = &self.guest {
            let email = if booker == Booker::Guest {
                Email::Needed
            } else {
                Email::Optional
            };
            new.guest = guest.checked(&mut check, email);
        }
        if let Some(text) = &self.special_requests {
            new.special_requests = check.text("/special_requests", text, 0..=1000);
        }
        check.finish()?;
        Ok(new)
    }
}
