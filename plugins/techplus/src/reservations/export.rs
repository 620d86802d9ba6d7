//! Reservations for a spreadsheet.

use std::fmt::Write;

use gantry_sdk::prelude::*;

use super::list::{Filter, Place};
use super::{Reservation, store};
use crate::database;

/// Most rows of one file.
const ROWS_MAX: usize = 10_000;
/// Rows that are in memory at the same time.
const BATCH: usize = 500;

const HEADER: &str = "id,date,time,duration_minutes,starts_at,status,party_size,table,guest_name,\
                      guest_email,guest_phone,special_requests,source,created_at\r\n";

pub(super) fn routes() -> Router {
    Router::new().get("/reservations/export.csv", export)
}

/// Takes the filters of the list.
fn export(Query(filter): Query<Filter>) -> Result<Response> {
    let db = database()?;
    let mut csv = HEADER.to_owned();
    let (mut count, mut after) = (0, None);
    loop {
        let rows = store::list(&db, &filter, after.as_ref(), BATCH)?;
        count += rows.len();
        if count > ROWS_MAX {
            let message =
                format!("more than {ROWS_MAX} reservations: ask for fewer, with `from` and `to`");
            return Err(Error::new(422, "reservation.export_too_large", message));
        }
        for row in &rows {
            write_row(&mut csv, row)?;
        }
        match rows.last() {
            Some(last) if rows.len() == BATCH => after = Some(Place::of(last)),
            _ => break,
        }
    }
    Ok(Response::bytes("text/csv; charset=utf-8", csv)
        .with_header(
            "content-disposition",
            "attachment; filename=\"reservations.csv\"",
        )
        .with_header("cache-control", "no-store"))
}

fn write_row(csv: &mut String, row: &Reservation) -> Result<()> {
    let Reservation {
        id,
        date,
        time,
        duration_minutes,
        starts_at,
        party_size,
        guest,
        ..
    } = row;
    write!(
        csv,
        "{id},{date},{time},{duration_minutes},{starts_at},{},{party_size}",
        row.status.as_str()
    )?;
    let texts = [
        &row.table.name,
        &guest.name,
        &guest.email,
        &guest.phone,
        &row.special_requests,
    ];
    for text in texts {
        csv.push(',');
        csv.push_str(&cell(text));
    }
    write!(csv, ",{},{}\r\n", row.source.as_str(), row.created_at)?;
    Ok(())
}

/// Text of others as one cell. A spreadsheet would run what looks like a formula, so it gets an apostrophe in front.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        "'"
    } else {
        ""
    };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_and_never_a_formula() {
        let cases = [
            ("Ann", "\"Ann\""),
            ("", "\"\""),
            ("Lee, \"Ann\"\nB", "\"Lee, \"\"Ann\"\"\nB\""),
            ("=HYPERLINK(1)", "\"'=HYPERLINK(1)\""),
            ("+33612345678", "\"'+33612345678\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
        ];
        for (text, wanted) in cases {
            assert_eq!(cell(text), wanted);
        }
    }
}
