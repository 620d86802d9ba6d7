//! Has a say in how it is put on the platform: the setting `health` tells what its gate does, and `migrate` counts how
//! often it ran; in its slow way twice, at the start and at the end.

use gantry_sdk::prelude::*;

#[gantry_sdk::handler]
fn handle() -> Result<Json<i64>> {
    Ok(Json(kv::open("data")?.increment("migrated", 0)?))
}

#[gantry_sdk::health]
fn health() -> Result<()> {
    match config::get("health")?.as_deref() {
        Some("error") => Err(Error::internal("the supplier does not answer")),
        Some("trap") => panic!("on purpose"),
        Some("loop") => loop {
            std::hint::black_box(());
        },
        Some("migrated") if kv::open("data")?.increment("migrated", 0)? == 0 => {
            Err(Error::internal("asked before the data was migrated"))
        }
        _ if context::trigger() != "health" => Err(Error::internal("not asked as a gate")),
        _ => Ok(()),
    }
}

#[gantry_sdk::migrate]
fn migrate() -> Result<()> {
    if config::get("migrate")?.as_deref() == Some("error") {
        return Err(Error::internal("the data is not as expected"));
    }
    if config::get("migrate")?.as_deref() == Some("slow") {
        kv::open("data")?.increment("migrated", 1)?;
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    kv::open("data")?.increment("migrated", 1)?;
    Ok(())
}
