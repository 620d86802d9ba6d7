//! TechPlus: reservations for restaurants.
//!
//! One folder for each noun, in the order in which they build on one another: a *restaurant* has *tables*, *hours* and
//! a *menu*; its hours and tables make *availability*; a *guest* makes a *reservation* of it. In each folder `mod.rs`
//! has the routes and the rules, `store.rs` the SQL. Who may call a route stands in `plugin.toml`, and the host sees to
//! it before this code runs.

#![expect(
    clippy::needless_pass_by_value,
    reason = "handlers are given what they ask for"
)]

pub mod actor;
pub mod availability;
pub mod check;
pub mod guests;
pub mod hours;
pub mod id;
pub mod menu;
pub mod page;
pub mod reservations;
pub mod restaurants;
pub mod settings;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod time;
pub mod zone;

use gantry_sdk::prelude::*;

/// All routes of `plugin.toml`.
#[gantry_sdk::main]
pub fn app() -> Router {
    Router::new()
        .merge(restaurants::routes())
        .merge(tables::routes())
        .merge(hours::routes())
        .merge(menu::routes())
        .merge(availability::routes())
        .merge(reservations::routes())
}

/// The plugin's only database.
fn database() -> Result<sql::Connection> {
    sql::open("main")
}
