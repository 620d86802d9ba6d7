//! The life of a reservation, and who is at the table.

use gantry_sdk::prelude::*;

use super::history::{self, Action, Change};
use super::{Reservation, changed_meanwhile, store};
use crate::actor::Actor;
use crate::availability;
use crate::check::Check;
use crate::database;
use crate::time::Millis;

pub(super) fn routes() -> Router {
    Router::new()
        .post("/reservations/{id}/status", set)
        .delete("/reservations/{id}", cancel)
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Asked for; the table is held.
    Pending,
    Confirmed,
    /// The party is at the table.
    Seated,
    /// The party has left.
    Completed,
    Cancelled,
    NoShow,
}

impl Status {
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Confirmed,
        Self::Seated,
        Self::Completed,
        Self::Cancelled,
        Self::NoShow,
    ];

    /// What can come after.
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Confirmed, Self::Seated, Self::Cancelled],
            Self::Confirmed => &[Self::Seated, Self::Cancelled, Self::NoShow],
            Self::Seated => &[Self::Completed],
            Self::Completed | Self::Cancelled | Self::NoShow => &[],
        }
    }

    /// Whether the table is this party's; after that others can have it.
    pub fn holds_table(self) -> bool {
        matches!(self, Self::Pending | Self::Confirmed | Self::Seated)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Seated => "seated",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::NoShow => "no_show",
        }
    }
}

/// Moves a reservation on, gives its table back where it ends, and writes it down.
pub(super) fn advance(
    tx: &sql::Transaction,
    reservation: &mut Reservation,
    next: Status,
    reason: &str,
    actor: &Actor,
) -> Result<()> {
    let from = reservation.status;
    if !from.next().contains(&next) {
        let message = format!(
            "a reservation that is {} cannot become {}",
            from.as_str(),
            next.as_str()
        );
        return Err(Error::conflict("reservation.transition", message));
    }
    let now = Millis::now();
    if !store::set_status(tx, reservation, next, now)? {
        return Err(changed_meanwhile());
    }
    if !next.holds_table() {
        availability::release(tx, &reservation.id)?;
    }
    let mut changes = vec![Change::new("status", from.as_str(), next.as_str())];
    if !reason.is_empty() {
        changes.push(Change::new("reason", "", reason));
    }
    history::record(
        tx,
        &reservation.id,
        actor,
        Action::StatusChanged,
        changes,
        now,
    )?;
    reservation.status = next;
    reservation.updated_at = now;
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    status: Status,
    #[serde(default)]
    reason: String,
}

fn set(
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<Input>,
) -> Result<Json<Reservation>> {
    let mut check = Check::default();
    let reason = check.text("/reason", &input.reason, 0..=500);
    check.finish()?;
    advance_one(&id, input.status, &reason, &actor)
}

/// Rows are never deleted: what was booked is part of the books.
fn cancel(actor: Actor, Path(id): Path<String>) -> Result<Json<Reservation>> {
    advance_one(&id, Status::Cancelled, "", &actor)
}

fn advance_one(id: &str, next: Status, reason: &str, actor: &Actor) -> Result<Json<Reservation>> {
    let db = database()?;
    let mut reservation = Reservation::load(&db, id)?;
    db.transaction(|tx| advance(tx, &mut reservation, next, reason, actor))?;
    Ok(Json(reservation))
}
