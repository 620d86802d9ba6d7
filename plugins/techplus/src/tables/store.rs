//! The rows of tables.

use gantry_sdk::prelude::*;

use super::Table;

const COLUMNS: &str = "id, name, area, capacity_min, capacity_max, is_active";

/// By name, behind the table with this id and name.
pub(super) fn list(
    db: &impl Executor,
    restaurant: &str,
    after: Option<[&str; 2]>,
    limit: usize,
) -> Result<Vec<Table>> {
    let of_restaurant = format!("SELECT {COLUMNS} FROM tables WHERE restaurant_id = $1");
    let order = format!("ORDER BY name, id LIMIT {limit}");
    match after {
        Some([id, name]) => db.query_as(
            &format!("{of_restaurant} AND (name, id) > ($2, $3) {order}"),
            params![restaurant, name, id],
        ),
        None => db.query_as(&format!("{of_restaurant} {order}"), params![restaurant]),
    }
}

/// A table of this restaurant.
pub fn find(db: &impl Executor, restaurant: &str, id: &str) -> Result<Option<Table>> {
    db.query_optional(
        &format!("SELECT {COLUMNS} FROM tables WHERE id = $1 AND restaurant_id = $2"),
        params![id, restaurant],
    )
}

pub(super) fn count(db: &impl Executor, restaurant: &str) -> Result<usize> {
    db.query_one(
        "SELECT count(*) FROM tables WHERE restaurant_id = $1",
        params![restaurant],
    )
}

pub(super) fn insert(db: &impl Executor, restaurant: &str, table: &Table) -> Result<()> {
    db.execute(
        "INSERT INTO tables (id, restaurant_id, name, area, capacity_min, capacity_max, is_active) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        values(restaurant, table),
    )?;
    Ok(())
}

/// Whether there was one.
pub(super) fn update(db: &impl Executor, restaurant: &str, table: &Table) -> Result<bool> {
    let done = db.execute(
        "UPDATE tables SET name = $3, area = $4, capacity_min = $5, capacity_max = $6, is_active = $7 \
         WHERE id = $1 AND restaurant_id = $2",
        values(restaurant, table),
    )?;
    Ok(done.rows_affected > 0)
}

/// Whether there was one.
pub(super) fn delete(db: &impl Executor, restaurant: &str, id: &str) -> Result<bool> {
    let done = db.execute(
        "DELETE FROM tables WHERE id = $1 AND restaurant_id = $2",
        params![id, restaurant],
    )?;
    Ok(done.rows_affected > 0)
}

fn values(restaurant: &str, table: &Table) -> Vec<sql::Value> {
    let Table {
        id,
        name,
        area,
        capacity_min,
        capacity_max,
        is_active,
    } = table;
    params![
        id,
        restaurant,
        name,
        area,
        *capacity_min,
        *capacity_max,
        i64::from(*is_active)
    ]
}
