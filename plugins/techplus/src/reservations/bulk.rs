//! Many reservations at once.

use gantry_sdk::prelude::*;

use super::{Status, not_found, status, store};
use crate::actor::Actor;
use crate::check::Check;
use crate::database;

/// Most reservations of one call: one transaction, for which others wait.
const IDS_MAX: usize = 100;

pub(super) fn routes() -> Router {
    Router::new().post("/reservations/bulk", advance_all)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    ids: Vec<String>,
    status: Status,
    #[serde(default)]
    reason: String,
}

#[derive(Serialize)]
struct Outcomes {
    succeeded: usize,
    failed: usize,
    /// In the order of the ids.
    results: Vec<Outcome>,
}

#[derive(Serialize)]
struct Outcome {
    id: String,
    /// Where the reservation stands now, if it could be moved.
    status: Option<Status>,
    error: Option<Refusal>,
}

#[derive(Serialize)]
struct Refusal {
    code: String,
    detail: String,
}

/// One that cannot be moved does not hold up the others.
fn advance_all(actor: Actor, Json(input): Json<Input>) -> Result<Json<Outcomes>> {
    let mut check = Check::default();
    check.number("/ids", input.ids.len(), 1..=IDS_MAX);
    let reason = check.text("/reason", &input.reason, 0..=500);
    check.finish()?;
    let results = database()?.transaction(|tx| {
        let mut found = store::find_all(tx, &input.ids)?;
        let advance = |id: String| {
            let reservation = found.iter_mut().find(|reservation| reservation.id == id);
            let result = reservation
                .ok_or_else(not_found)
                .and_then(|found| status::advance(tx, found, input.status, &reason, &actor));
            Outcome::of(id, input.status, result)
        };
        input
            .ids
            .into_iter()
            .map(advance)
            .collect::<Result<Vec<_>>>()
    })?;
    let failed = results
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .count();
    Ok(Json(Outcomes {
        succeeded: results.len() - failed,
        failed,
        results,
    }))
}

impl Outcome {
    /// What is wrong with one reservation is its outcome; a database that fails is everybody's.
    fn of(id: String, status: Status, result: Result<()>) -> Result<Self> {
        match result {
            Ok(()) => Ok(Self {
                id,
                status: Some(status),
                error: None,
            }),
            Err(error) if error.code().starts_with("reservation.") => {
                let refusal = Refusal {
                    code: error.code().to_owned(),
                    detail: error.message().to_owned(),
                };
                Ok(Self {
                    id,
                    status: None,
                    error: Some(refusal),
                })
            }
            Err(error) => Err(error),
        }
    }
}
