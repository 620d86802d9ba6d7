//! Reservations: who comes when and sits where, from the first call to the last coffee.

mod book;
mod bulk;
mod change;
mod export;
mod history;
mod list;
mod manage;
mod notes;
mod status;
mod store;

use gantry_sdk::prelude::*;

use crate::availability::Booker;
use crate::database;
use crate::guests::Guest;
use crate::time::{Day, LocalTime, Millis, TimeOfDay};

pub use status::Status;

pub fn routes() -> Router {
    Router::new()
        .get("/reservations/{id}", show)
        .merge(book::routes())
        .merge(list::routes())
        .merge(export::routes())
        .merge(change::routes())
        .merge(status::routes())
        .merge(bulk::routes())
        .merge(history::routes())
        .merge(notes::routes())
        .merge(manage::routes())
}

/// A reservation.
#[derive(Debug, Clone, Serialize)]
pub struct Reservation {
    pub id: String,
    pub restaurant_id: String,
    pub table: TableName,
    pub guest: Guest,
    /// On the restaurant's clock, and so is `time`.
    pub date: Day,
    pub time: TimeOfDay,
    pub duration_minutes: i64,
    pub starts_at: Millis,
    pub party_size: u32,
    pub status: Status,
    pub special_requests: String,
    pub source: Booker,
    pub created_at: Millis,
    pub updated_at: Millis,
    /// Grows with each change.
    #[serde(skip)]
    pub revision: i64,
}

/// The table of a reservation.
#[derive(Debug, Clone, Serialize)]
pub struct TableName {
    pub id: String,
    pub name: String,
}

impl Reservation {
    /// 404 `reservation.not_found` if there is none.
    pub fn load(db: &impl Executor, id: &str) -> Result<Self> {
        store::find(db, id)?.ok_or_else(not_found)
    }

    pub fn starts(&self) -> LocalTime {
        LocalTime::new(self.date, self.time)
    }
}

fn show(Path(id): Path<String>) -> Result<Json<Reservation>> {
    Reservation::load(&database()?, &id).map(Json)
}

fn not_found() -> Error {
    Error::not_found("reservation.not_found", "there is no such reservation")
}

/// 409 for a writer that read what somebody else has changed meanwhile.
fn changed_meanwhile() -> Error {
    Error::conflict(
        "reservation.changed",
        "somebody else changed this reservation; read it again",
    )
}
