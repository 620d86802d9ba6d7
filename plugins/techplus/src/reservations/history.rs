//! What happened to a reservation, when, and who did it.

use gantry_sdk::prelude::*;

use super::{Reservation, store};
use crate::actor::Actor;
use crate::page::{self, Page, PageQuery};
use crate::time::Millis;
use crate::{database, id};

pub(super) fn routes() -> Router {
    Router::new().get("/reservations/{id}/history", list)
}

/// One thing that happened.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub id: String,
    pub at: Millis,
    pub actor: Actor,
    pub action: Action,
    pub changes: Vec<Change>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    Created,
    Updated,
    StatusChanged,
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::StatusChanged => "status_changed",
        }
    }
}

/// One value that is another now.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub field: String,
    pub from: String,
    pub to: String,
}

impl Change {
    pub(super) fn new(field: &str, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            from: from.into(),
            to: to.into(),
        }
    }
}

/// Writes it down, in the transaction that does it.
pub(super) fn record(
    tx: &sql::Transaction,
    reservation: &str,
    actor: &Actor,
    action: Action,
    changes: Vec<Change>,
    at: Millis,
) -> Result<()> {
    let entry = Entry {
        id: id::new(),
        at,
        actor: actor.clone(),
        action,
        changes,
    };
    store::insert_entry(tx, reservation, &entry)
}

/// Oldest first.
fn list(Path(id): Path<String>, Query(query): Query<PageQuery>) -> Result<Json<Page<Entry>>> {
    let limit = page::limit(query.limit)?;
    let db = database()?;
    let entries = store::entries(&db, &id, query.cursor.as_deref(), limit + 1)?;
    if entries.is_empty() {
        Reservation::load(&db, &id)?;
    }
    Ok(Json(Page::of(entries, limit, |last| last.id.clone())))
}
