//! The rows of menus.

use gantry_sdk::prelude::*;

use super::{Category, Item};
use crate::settings::Settings;

/// Nothing if there is no such restaurant.
pub(super) fn currency(db: &impl Executor, restaurant: &str) -> Result<Option<String>> {
    let settings: Option<sql::Json<Settings>> = db.query_optional(
        "SELECT settings FROM restaurants WHERE id = $1",
        params![restaurant],
    )?;
    Ok(settings.map(|settings| settings.0.general.currency))
}

pub(super) fn categories(db: &impl Executor, restaurant: &str) -> Result<Vec<Category>> {
    db.query_as(
        "SELECT id, name, position FROM menu_categories WHERE restaurant_id = $1 ORDER BY position, name",
        params![restaurant],
    )
}

pub(super) fn items(db: &impl Executor, restaurant: &str) -> Result<Vec<Item>> {
    db.query_as(
        "SELECT i.id, i.category_id, i.name, i.description, i.price_cents, i.allergens, \
         i.is_vegetarian, i.is_available, i.position \
         FROM menu_items i JOIN menu_categories c ON c.id = i.category_id \
         WHERE c.restaurant_id = $1 ORDER BY i.position, i.name",
        params![restaurant],
    )
}

pub(super) fn insert_category(
    db: &impl Executor,
    restaurant: &str,
    category: &Category,
) -> Result<()> {
    let Category { id, name, position } = category;
    db.execute(
        "INSERT INTO menu_categories (id, restaurant_id, name, position) VALUES ($1, $2, $3, $4)",
        params![id, restaurant, name, *position],
    )?;
    Ok(())
}

/// Whether there was one.
pub(super) fn update_category(
    db: &impl Executor,
    restaurant: &str,
    category: &Category,
) -> Result<bool> {
    let Category { id, name, position } = category;
    let done = db.execute(
        "UPDATE menu_categories SET name = $3, position = $4 WHERE id = $1 AND restaurant_id = $2",
        params![id, restaurant, name, *position],
    )?;
    Ok(done.rows_affected > 0)
}

/// Whether there was one.
pub(super) fn delete_category(db: &impl Executor, restaurant: &str, id: &str) -> Result<bool> {
    let done = db.execute(
        "DELETE FROM menu_categories WHERE id = $1 AND restaurant_id = $2",
        params![id, restaurant],
    )?;
    Ok(done.rows_affected > 0)
}

pub(super) fn has_category(db: &impl Executor, restaurant: &str, id: &str) -> Result<bool> {
    let found: Option<i64> = db.query_optional(
        "SELECT 1 FROM menu_categories WHERE id = $1 AND restaurant_id = $2",
        params![id, restaurant],
    )?;
    Ok(found.is_some())
}

pub(super) fn count_items(db: &impl Executor, restaurant: &str) -> Result<usize> {
    db.query_one(
        "SELECT count(*) FROM menu_items i JOIN menu_categories c ON c.id = i.category_id \
         WHERE c.restaurant_id = $1",
        params![restaurant],
    )
}

pub(super) fn insert_item(db: &impl Executor, item: &Item) -> Result<()> {
    db.execute(
        "INSERT INTO menu_items (id, category_id, name, description, price_cents, allergens, \
         is_vegetarian, is_available, position) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        values(item),
    )?;
    Ok(())
}

/// Whether there was one.
pub(super) fn update_item(db: &impl Executor, restaurant: &str, item: &Item) -> Result<bool> {
    let mut values = values(item);
    values.push(restaurant.into());
    let done = db.execute(
        "UPDATE menu_items SET category_id = $2, name = $3, description = $4, price_cents = $5, \
         allergens = $6, is_vegetarian = $7, is_available = $8, position = $9 \
         WHERE id = $1 AND category_id IN (SELECT id FROM menu_categories WHERE restaurant_id = $10)",
        values,
    )?;
    Ok(done.rows_affected > 0)
}

/// Whether there was one.
pub(super) fn delete_item(db: &impl Executor, restaurant: &str, id: &str) -> Result<bool> {
    let done = db.execute(
        "DELETE FROM menu_items WHERE id = $1 \
         AND category_id IN (SELECT id FROM menu_categories WHERE restaurant_id = $2)",
        params![id, restaurant],
    )?;
    Ok(done.rows_affected > 0)
}

fn values(item: &Item) -> Vec<sql::Value> {
    params![
        &item.id,
        &item.category_id,
        &item.name,
        &item.description,
        item.price_cents,
        sql::Json(&*item.allergens),
        i64::from(item.is_vegetarian),
        i64::from(item.is_available),
        item.position,
    ]
}
