//! Finding reservations.

use gantry_sdk::prelude::*;

use super::{Reservation, Status, store};
use crate::database;
use crate::page::{self, Page};
use crate::time::{Day, TimeOfDay};

pub(super) fn routes() -> Router {
    Router::new().get("/reservations", list)
}

/// What to look for; everything that is given must hold.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    pub restaurant_id: Option<String>,
    pub table_id: Option<String>,
    /// On this date.
    pub date: Option<Day>,
    /// On this date or later.
    pub from: Option<Day>,
    /// On this date or earlier.
    pub to: Option<Day>,
    /// One of these.
    #[serde(default)]
    pub status: Vec<Status>,
    /// Part of the guest's name, address or number.
    pub q: Option<String>,
    pub limit: Option<usize>,
    pub cursor: Option<String>,
}

/// A place in the list, which is ordered by time.
pub(super) struct Place {
    pub date: Day,
    pub minute: i64,
    pub id: String,
}

impl Place {
    pub(super) fn of(reservation: &Reservation) -> Self {
        let Reservation { date, time, id, .. } = reservation;
        Self {
            date: *date,
            minute: time.minute(),
            id: id.clone(),
        }
    }

    fn parse(cursor: &str) -> Result<Self> {
        let [date, time, id] = page::split(cursor)?;
        let date = date.parse().map_err(|_| page::invalid_cursor())?;
        let time: TimeOfDay = time.parse().map_err(|_| page::invalid_cursor())?;
        Ok(Self {
            date,
            minute: time.minute(),
            id: id.to_owned(),
        })
    }
}

fn list(Query(filter): Query<Filter>) -> Result<Json<Page<Reservation>>> {
    let limit = page::limit(filter.limit)?;
    let after = filter.cursor.as_deref().map(Place::parse).transpose()?;
    let rows = store::list(&database()?, &filter, after.as_ref(), limit + 1)?;
    Ok(Json(Page::of(rows, limit, |last| {
        page::join(&[&last.date.to_string(), &last.time.to_string(), &last.id])
    })))
}
