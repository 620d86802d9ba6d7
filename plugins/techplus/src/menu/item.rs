//! What one can eat and drink.

use gantry_sdk::prelude::*;

use super::store;
use crate::check::Check;
use crate::{database, id, restaurants};

/// Most items of one menu.
const ITEMS_MAX: usize = 500;

pub(super) fn routes() -> Router {
    Router::new()
        .post("/restaurants/{id}/menu/items", create)
        .put("/restaurants/{id}/menu/items/{item_id}", replace)
        .delete("/restaurants/{id}/menu/items/{item_id}", remove)
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Item {
    pub id: String,
    pub category_id: String,
    pub name: String,
    pub description: String,
    /// In hundredths of the menu's currency.
    pub price_cents: i64,
    pub allergens: sql::Json<Vec<Allergen>>,
    pub is_vegetarian: bool,
    /// Whether it can be had today.
    pub is_available: bool,
    /// Items are shown in ascending order.
    pub position: u32,
}

/// The fourteen that the law of the European Union names (Regulation 1169/2011, annex II).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allergen {
    Celery,
    Crustaceans,
    Eggs,
    Fish,
    Gluten,
    Lupin,
    Milk,
    Molluscs,
    Mustard,
    Nuts,
    Peanuts,
    Sesame,
    Soybeans,
    Sulphites,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    category_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    price_cents: i64,
    #[serde(default)]
    allergens: Vec<Allergen>,
    #[serde(default)]
    is_vegetarian: bool,
    #[serde(default = "yes")]
    is_available: bool,
    #[serde(default)]
    position: u32,
}

fn create(Path(restaurant): Path<String>, Json(input): Json<Input>) -> Result<Response> {
    let item = input.checked(id::new())?;
    database()?.transaction(|tx| {
        if store::count_items(tx, &restaurant)? >= ITEMS_MAX {
            let message = format!("a menu has at most {ITEMS_MAX} items");
            return Err(Error::conflict("menu.too_many", message));
        }
        require_category(tx, &restaurant, &item)?;
        store::insert_item(tx, &item)
    })?;
    restaurants::changed(&restaurant);
    Response::created(format!("items/{}", item.id), &item)
}

fn replace(
    Path((restaurant, id)): Path<(String, String)>,
    Json(input): Json<Input>,
) -> Result<Json<Item>> {
    let item = input.checked(id)?;
    database()?.transaction(|tx| {
        require_category(tx, &restaurant, &item)?;
        if store::update_item(tx, &restaurant, &item)? {
            Ok(())
        } else {
            Err(not_found())
        }
    })?;
    restaurants::changed(&restaurant);
    Ok(Json(item))
}

fn remove(Path((restaurant, id)): Path<(String, String)>) -> Result<()> {
    if store::delete_item(&database()?, &restaurant, &id)? {
        restaurants::changed(&restaurant);
        Ok(())
    } else {
        Err(not_found())
    }
}

impl Input {
    fn checked(self, id: String) -> Result<Item> {
        let mut check = Check::default();
        let mut allergens = self.allergens;
        allergens.sort_unstable();
        allergens.dedup();
        let item = Item {
            id,
            category_id: self.category_id,
            name: check.text("/name", &self.name, 1..=120),
            description: check.text("/description", &self.description, 0..=1000),
            price_cents: self.price_cents,
            allergens: sql::Json(allergens),
            is_vegetarian: self.is_vegetarian,
            is_available: self.is_available,
            position: self.position,
        };
        check.number("/price_cents", item.price_cents, 0..=10_000_000);
        check.number("/position", item.position, 0..=1000);
        check.finish()?;
        Ok(item)
    }
}

fn require_category(tx: &sql::Transaction, restaurant: &str, item: &Item) -> Result<()> {
    if store::has_category(tx, restaurant, &item.category_id)? {
        return Ok(());
    }
    let mut check = Check::default();
    check.mistake(
        "/category_id",
        "unknown",
        "there is no such category in this restaurant",
    );
    check.finish()
}

fn not_found() -> Error {
    Error::not_found(
        "menu.item_not_found",
        "there is no such item in this restaurant",
    )
}

fn yes() -> bool {
    true
}
