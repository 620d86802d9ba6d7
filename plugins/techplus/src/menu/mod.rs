//! The menu: categories, and the items in them with their allergens.

mod item;
mod store;

use gantry_sdk::prelude::*;

use crate::check::Check;
use crate::{database, id, restaurants};

pub use item::Item;

/// Most categories of one restaurant.
const CATEGORIES_MAX: usize = 50;

pub fn routes() -> Router {
    Router::new()
        .get("/restaurants/{id}/menu", show)
        .post("/restaurants/{id}/menu/categories", create)
        .put("/restaurants/{id}/menu/categories/{category_id}", replace)
        .delete("/restaurants/{id}/menu/categories/{category_id}", remove)
        .merge(item::routes())
}

/// The whole menu as guests read it.
#[derive(Debug, Serialize)]
pub struct Menu {
    /// Of all prices.
    pub currency: String,
    pub categories: Vec<Section>,
}

/// A category with its items.
#[derive(Debug, Serialize)]
pub struct Section {
    #[serde(flatten)]
    pub category: Category,
    pub items: Vec<Item>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Category {
    pub id: String,
    pub name: String,
    /// Categories are shown in ascending order.
    pub position: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Input {
    name: String,
    position: u32,
}

fn show(Path(restaurant): Path<String>) -> Result<Json<Menu>> {
    let db = database()?;
    let currency = store::currency(&db, &restaurant)?.ok_or_else(restaurants::not_found)?;
    let mut items = store::items(&db, &restaurant)?;
    let section = |category: Category| {
        let (own, others) = items
            .drain(..)
            .partition(|item: &Item| item.category_id == category.id);
        items = others;
        Section {
            category,
            items: own,
        }
    };
    let categories = store::categories(&db, &restaurant)?
        .into_iter()
        .map(section)
        .collect();
    Ok(Json(Menu {
        currency,
        categories,
    }))
}

fn create(Path(restaurant): Path<String>, Json(input): Json<Input>) -> Result<Response> {
    let category = input.checked(id::new())?;
    database()?.transaction(|tx| {
        restaurants::require(tx, &restaurant)?;
        if store::categories(tx, &restaurant)?.len() >= CATEGORIES_MAX {
            let message = format!("a menu has at most {CATEGORIES_MAX} categories");
            return Err(Error::conflict("menu.too_many", message));
        }
        store::insert_category(tx, &restaurant, &category).map_err(explain)
    })?;
    restaurants::changed(&restaurant);
    Response::created(format!("categories/{}", category.id), &category)
}

fn replace(
    Path((restaurant, id)): Path<(String, String)>,
    Json(input): Json<Input>,
) -> Result<Json<Category>> {
    let category = input.checked(id)?;
    if store::update_category(&database()?, &restaurant, &category).map_err(explain)? {
        restaurants::changed(&restaurant);
        Ok(Json(category))
    } else {
        Err(not_found())
    }
}

/// Its items go with it.
fn remove(Path((restaurant, id)): Path<(String, String)>) -> Result<()> {
    if store::delete_category(&database()?, &restaurant, &id)? {
        restaurants::changed(&restaurant);
        Ok(())
    } else {
        Err(not_found())
    }
}

impl Input {
    fn checked(self, id: String) -> Result<Category> {
        let mut check = Check::default();
        let name = check.text("/name", &self.name, 1..=80);
        check.number("/position", self.position, 0..=1000);
        check.finish()?;
        Ok(Category {
            id,
            name,
            position: self.position,
        })
    }
}

fn explain(error: Error) -> Error {
    match error.code() {
        "sql.unique_violation" => {
            Error::conflict("menu.name_taken", "there is a category of this name")
        }
        _ => error,
    }
}

fn not_found() -> Error {
    Error::not_found(
        "menu.category_not_found",
        "there is no such category in this restaurant",
    )
}
