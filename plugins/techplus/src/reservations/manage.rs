//! What guests do with their own reservation. The token in the link is their only key: who has it, may.

use std::time::Duration;

use gantry_sdk::prelude::*;

use super::change::{self, change};
use super::{Reservation, Status, status};
use crate::actor::Actor;
use crate::availability::Booker;
use crate::database;
use crate::restaurants::Venue;
use crate::settings::Config;
use crate::time::Millis;

const PURPOSE: &str = "reservation";
/// A key works until the day after, for those who look up what it was.
const AFTER: Duration = Duration::from_secs(24 * 3600);
/// The host signs for no longer.
const LIFETIME_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

pub(super) fn routes() -> Router {
    Router::new()
        .get("/reservations/manage/{token}", show)
        .put("/reservations/manage/{token}", update)
        .delete("/reservations/manage/{token}", cancel)
}

/// The key to a reservation, and the link that has it.
#[derive(Serialize)]
pub(super) struct Key {
    manage_token: String,
    manage_url: String,
}

impl Key {
    pub(super) fn sign(config: &Config, reservation: &Reservation) -> Result<Self> {
        let until_then = reservation.starts_at.0 - Millis::now().0;
        let until_then = Duration::from_millis(u64::try_from(until_then).unwrap_or_default());
        let manage_token = tokens::sign(
            PURPOSE,
            &reservation.id,
            (until_then + AFTER).min(LIFETIME_MAX),
        )?;
        Ok(Self {
            manage_url: config.manage_link(&manage_token),
            manage_token,
        })
    }
}

/// A reservation as its guest sees it.
#[derive(Serialize)]
struct View {
    #[serde(flatten)]
    reservation: Reservation,
    restaurant_name: String,
    time_zone: String,
    /// Whether the guest can still change or cancel.
    can_change: bool,
    change_until: Millis,
}

/// A reservation that was changed has a new key, because it may lie later than the old one lasts.
#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    view: View,
    #[serde(flatten)]
    key: Key,
}

fn show(Path(token): Path<String>) -> Result<Json<View>> {
    let db = database()?;
    let (reservation, venue) = open(&db, &token, &Config::load()?)?;
    Ok(Json(View::of(reservation, &venue)))
}

fn update(Path(token): Path<String>, Json(input): Json<change::Input>) -> Result<Json<Changed>> {
    let db = database()?;
    let config = Config::load()?;
    let (reservation, venue) = open(&db, &token, &config)?;
    require_in_time(&reservation, &venue)?;
    let actor = Actor::guest(&reservation.guest.name);
    let reservation = change(&db, &venue, &reservation, &input, Booker::Guest, &actor)?;
    let key = Key::sign(&config, &reservation)?;
    Ok(Json(Changed {
        view: View::of(reservation, &venue),
        key,
    }))
}

fn cancel(Path(token): Path<String>) -> Result<Json<View>> {
    let db = database()?;
    let (mut reservation, venue) = open(&db, &token, &Config::load()?)?;
    require_in_time(&reservation, &venue)?;
    let actor = Actor::guest(&reservation.guest.name);
    db.transaction(|tx| status::advance(tx, &mut reservation, Status::Cancelled, "", &actor))?;
    Ok(Json(View::of(reservation, &venue)))
}

/// 403 `token.invalid` or `token.expired` without a good key.
fn open(db: &sql::Connection, token: &str, config: &Config) -> Result<(Reservation, Venue)> {
    let reservation = Reservation::load(db, &tokens::verify(PURPOSE, token)?)?;
    let venue = Venue::load(db, &reservation.restaurant_id, config)?;
    Ok((reservation, venue))
}

fn require_in_time(reservation: &Reservation, venue: &Venue) -> Result<()> {
    let is_open = matches!(reservation.status, Status::Pending | Status::Confirmed);
    if is_open && Millis::now() > change_until(reservation, venue) {
        let hours = venue.rules.cancellation_hours;
        let message = format!("later than {hours} hours before, please call the restaurant");
        return Err(Error::conflict("reservation.too_late", message));
    }
    Ok(())
}

fn change_until(reservation: &Reservation, venue: &Venue) -> Millis {
    reservation
        .starts_at
        .minus_hours(venue.rules.cancellation_hours)
}

impl View {
    fn of(reservation: Reservation, venue: &Venue) -> Self {
        let change_until = change_until(&reservation, venue);
        let is_open = matches!(reservation.status, Status::Pending | Status::Confirmed);
        Self {
            can_change: is_open && Millis::now() <= change_until,
            change_until,
            restaurant_name: venue.name.clone(),
            time_zone: venue.time_zone.clone(),
            reservation,
        }
    }
}
