//! The tables of a restaurant, and how many people each takes.

mod store;

use gantry_sdk::prelude::*;

use crate::check::Check;
use crate::page::{self, Page, PageQuery};
use crate::{database, id, restaurants};

pub use store::find;

/// Most tables of one restaurant.
const TABLES_MAX: usize = 200;

pub fn routes() -> Router {
    Router::new()
        .get("/restaurants/{id}/tables", list)
        .post("/restaurants/{id}/tables", create)
        .get("/restaurants/{id}/tables/{table_id}", show)
        .put("/restaurants/{id}/tables/{table_id}", replace)
        .delete("/restaurants/{id}/tables/{table_id}", remove)
}

/// A table. Tables are not put together: a party sits at one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    pub id: String,
    pub name: String,
    /// Where it stands: `terrace`.
    pub area: String,
    /// The smallest party that gets it.
    pub capacity_min: u32,
    /// The largest party it takes.
    pub capacity_max: u32,
    /// Whether it is given to guests.
    pub is_active: bool,
}

impl Table {
    /// Whether a party of this size may sit here.
    pub fn takes(&self, party_size: u32) -> bool {
        (self.capacity_min..=self.capacity_max).contains(&party_size)
    }
}

/// A table as the staff writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    name: String,
    #[serde(default)]
    area: String,
    #[serde(default = "one")]
    capacity_min: u32,
    capacity_max: u32,
    #[serde(default = "yes")]
    is_active: bool,
}

/// By name.
fn list(
    Path(restaurant): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Table>>> {
    let limit = page::limit(query.limit)?;
    let after = query.cursor.as_deref().map(page::split).transpose()?;
    let db = database()?;
    let tables = store::list(&db, &restaurant, after, limit + 1)?;
    if tables.is_empty() {
        restaurants::require(&db, &restaurant)?;
    }
    Ok(Json(Page::of(tables, limit, |last| {
        page::join(&[&last.id, &last.name])
    })))
}

fn create(Path(restaurant): Path<String>, Json(input): Json<Input>) -> Result<Response> {
    let table = input.checked(id::new())?;
    database()?.transaction(|tx| {
        restaurants::require(tx, &restaurant)?;
        if store::count(tx, &restaurant)? >= TABLES_MAX {
            let message = format!("a restaurant has at most {TABLES_MAX} tables");
            return Err(Error::conflict("table.too_many", message));
        }
        store::insert(tx, &restaurant, &table).map_err(explain)
    })?;
    Response::created(format!("tables/{}", table.id), &table)
}

fn show(Path((restaurant, id)): Path<(String, String)>) -> Result<Json<Table>> {
    find(&database()?, &restaurant, &id)?
        .map(Json)
        .ok_or_else(not_found)
}

fn replace(
    Path((restaurant, id)): Path<(String, String)>,
    Json(input): Json<Input>,
) -> Result<Json<Table>> {
    let table = input.checked(id)?;
    if store::update(&database()?, &restaurant, &table).map_err(explain)? {
        Ok(Json(table))
    } else {
        Err(not_found())
    }
}

/// A table that ever had a reservation stays: set `is_active` to false instead.
fn remove(Path((restaurant, id)): Path<(String, String)>) -> Result<()> {
    if store::delete(&database()?, &restaurant, &id).map_err(explain)? {
        Ok(())
    } else {
        Err(not_found())
    }
}

impl Input {
    fn checked(self, id: String) -> Result<Table> {
        let mut check = Check::default();
        let table = Table {
            id,
            name: check.text("/name", &self.name, 1..=60),
            area: check.text("/area", &self.area, 0..=60),
            capacity_min: self.capacity_min,
            capacity_max: self.capacity_max,
            is_active: self.is_active,
        };
        check.number("/capacity_max", table.capacity_max, 1..=100);
        check.number(
            "/capacity_min",
            table.capacity_min,
            1..=table.capacity_max.max(1),
        );
        check.finish()?;
        Ok(table)
    }
}

fn explain(error: Error) -> Error {
    match error.code() {
        "sql.unique_violation" => {
            Error::conflict("table.name_taken", "there is a table of this name")
        }
        "sql.foreign_key_violation" => Error::conflict(
            "table.in_use",
            "this table has reservations; set `is_active` to false instead",
        ),
        _ => error,
    }
}

fn not_found() -> Error {
    Error::not_found(
        "table.not_found",
        "there is no such table in this restaurant",
    )
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}
