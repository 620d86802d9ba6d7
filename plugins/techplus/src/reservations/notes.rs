//! What the staff tells itself about a reservation. Guests never see it.

use gantry_sdk::prelude::*;

use super::{Reservation, store};
use crate::actor::Actor;
use crate::check::Check;
use crate::page::{self, Page, PageQuery};
use crate::time::Millis;
use crate::{database, id};

/// Most notes of one reservation.
const NOTES_MAX: usize = 100;

pub(super) fn routes() -> Router {
    Router::new()
        .get("/reservations/{id}/notes", list)
        .post("/reservations/{id}/notes", add)
}

#[derive(Debug, Serialize)]
pub(super) struct Note {
    pub id: String,
    pub at: Millis,
    pub author: Author,
    pub text: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Author {
    pub id: Option<String>,
    pub name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    text: String,
}

/// Oldest first.
fn list(Path(id): Path<String>, Query(query): Query<PageQuery>) -> Result<Json<Page<Note>>> {
    let limit = page::limit(query.limit)?;
    let db = database()?;
    let notes = store::notes(&db, &id, query.cursor.as_deref(), limit + 1)?;
    if notes.is_empty() {
        Reservation::load(&db, &id)?;
    }
    Ok(Json(Page::of(notes, limit, |last| last.id.clone())))
}

fn add(
    actor: Actor,
    Path(reservation): Path<String>,
    Json(input): Json<Input>,
) -> Result<Response> {
    let mut check = Check::default();
    let text = check.text("/text", &input.text, 1..=2000);
    check.finish()?;
    let author = Author {
        id: actor.id,
        name: actor.name,
    };
    let note = Note {
        id: id::new(),
        at: Millis::now(),
        author,
        text,
    };
    database()?.transaction(|tx| {
        Reservation::load(tx, &reservation)?;
        if store::count_notes(tx, &reservation)? >= NOTES_MAX {
            let message = format!("a reservation has at most {NOTES_MAX} notes");
            return Err(Error::conflict("reservation.too_many_notes", message));
        }
        store::insert_note(tx, &reservation, &note)
    })?;
    Response::json(201, &note)
}
