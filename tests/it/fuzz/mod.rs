//! Input that nobody thought of, sent to a real host: it never panics, never takes the blame for what others did, and
//! never keeps half of anything.

mod answers;
mod requests;
mod uploads;
mod values;

use gantry_harness::Process;

/// What must be so at the end, whatever came in.
async fn assert_well(server: &Process) {
    server.get("/livez").await.assert_status(200);
    let log = server.log();
    let panics: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("panicked"))
        .collect();
    assert!(panics.is_empty(), "{panics:#?}");
}
