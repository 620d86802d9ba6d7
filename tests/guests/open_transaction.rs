//! Begins a transaction, writes in it, and never ends it; the path says what it does instead.

use std::hint::black_box;

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn hold(request: Request) -> Result<Json<i64>> {
    let db = sql::open("main")?;
    let transaction = db.begin()?;
    transaction.execute(
        "INSERT INTO notes (text) VALUES ($1)",
        params!["never kept"],
    )?;
    let count = transaction.query_one("SELECT count(*) FROM notes", params![])?;
    match request.path.as_str() {
        "/loop" => while black_box(true) {},
        "/sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "/panic" => panic!("with a transaction open"),
        "/again" => drop(db.begin()?),
        _ => {}
    }
    // The handle must not be dropped: that alone would roll back.
    std::mem::forget(transaction);
    Ok(Json(count))
}
