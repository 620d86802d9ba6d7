//! Restaurants, and the rules of each house.

mod store;

use gantry_sdk::cache;
use gantry_sdk::prelude::*;

use crate::check::Check;
use crate::page::{self, Page, PageQuery};
use crate::settings::{Config, Rules, Settings};
use crate::time::Millis;
use crate::zone::Zone;
use crate::{database, id};

pub fn routes() -> Router {
    Router::new()
        .get("/restaurants", list)
        .post("/restaurants", create)
        .get("/restaurants/{id}", show)
        .put("/restaurants/{id}", replace)
        .delete("/restaurants/{id}", remove)
        .get("/restaurants/{id}/settings", show_settings)
        .put("/restaurants/{id}/settings", replace_settings)
}

/// A restaurant as everybody sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Restaurant {
    pub id: String,
    #[serde(flatten)]
    pub profile: Profile,
    #[serde(rename = "created_at", alias = "created_at_ms")]
    pub created_at: Millis,
    #[serde(rename = "updated_at", alias = "updated_at_ms")]
    pub updated_at: Millis,
}

/// What a restaurant tells about itself. Text that is left out is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    pub name: String,
    pub description: String,
    pub address: String,
    pub phone: String,
    pub email: String,
    pub website: String,
    /// An IANA name: `Europe/Paris`.
    pub time_zone: String,
}

/// A restaurant as bookings see it.
pub struct Venue {
    pub id: String,
    pub name: String,
    pub time_zone: String,
    pub zone: Zone,
    pub rules: Rules,
}

impl Venue {
    /// 404 `restaurant.not_found` if there is none.
    pub fn load(db: &impl Executor, id: &str, config: &Config) -> Result<Self> {
        let row = store::find_venue(db, id)?.ok_or_else(not_found)?;
        Ok(Self {
            id: id.to_owned(),
            zone: Zone::get(&row.time_zone)?,
            rules: Rules::of(config, &row.settings),
            name: row.name,
            time_zone: row.time_zone,
        })
    }
}

/// 404 for a restaurant that is not there.
pub fn not_found() -> Error {
    Error::not_found("restaurant.not_found", "there is no such restaurant")
}

/// Has the host forget what it keeps of this restaurant's answers. To be called once the change is written: what is being
/// answered from the rows of before is then not kept either.
pub fn changed(id: &str) {
    for tag in [format!("restaurant:{id}"), "restaurants".to_owned()] {
        // The change is made, and answers are kept for a minute at most.
        if let Err(error) = cache::purge_tag(&tag) {
            log::warn(format!("kept answers of {tag} stay for now: {error}"));
        }
    }
}

/// 404 unless there is this restaurant.
pub fn require(db: &impl Executor, id: &str) -> Result<()> {
    if store::exists(db, id)? {
        Ok(())
    } else {
        Err(not_found())
    }
}

fn list(Query(query): Query<PageQuery>) -> Result<Json<Page<Restaurant>>> {
    let limit = page::limit(query.limit)?;
    let after = query.cursor.as_deref().map(page::split).transpose()?;
    let rows = store::list(&database()?, after, limit + 1)?;
    Ok(Json(Page::of(rows, limit, |last| {
        page::join(&[&last.id, &last.profile.name])
    })))
}

fn create(Json(profile): Json<Profile>) -> Result<Response> {
    let (id, now) = (id::new(), Millis::now());
    let restaurant = Restaurant {
        id,
        profile: profile.checked()?,
        created_at: now,
        updated_at: now,
    };
    store::insert(&database()?, &restaurant)?;
    Response::created(format!("restaurants/{}", restaurant.id), &restaurant)
}

fn show(Path(id): Path<String>) -> Result<Json<Restaurant>> {
    store::find(&database()?, &id)?
        .map(Json)
        .ok_or_else(not_found)
}

fn replace(Path(id): Path<String>, Json(profile): Json<Profile>) -> Result<Json<Restaurant>> {
    let db = database()?;
    if !store::update(&db, &id, &profile.checked()?, Millis::now())? {
        return Err(not_found());
    }
    changed(&id);
    store::find(&db, &id)?.map(Json).ok_or_else(not_found)
}

/// A restaurant that ever had a reservation stays: its past is part of the books.
fn remove(Path(id): Path<String>) -> Result<()> {
    match store::delete(&database()?, &id) {
        Ok(true) => {
            changed(&id);
            Ok(())
        }
        Ok(false) => Err(not_found()),
        Err(error) if error.code() == "sql.foreign_key_violation" => Err(Error::conflict(
            "restaurant.in_use",
            "this restaurant has reservations",
        )),
        Err(error) => Err(error),
    }
}

/// What the restaurant set, and what holds with the operator's defaults.
#[derive(Serialize)]
struct SettingsView {
    #[serde(flatten)]
    settings: Settings,
    effective: Rules,
}

impl SettingsView {
    fn of(settings: Settings) -> Result<Json<Self>> {
        let effective = Rules::of(&Config::load()?, &settings);
        Ok(Json(Self {
            settings,
            effective,
        }))
    }
}

fn show_settings(Path(id): Path<String>) -> Result<Json<SettingsView>> {
    let row = store::find_venue(&database()?, &id)?.ok_or_else(not_found)?;
    SettingsView::of(row.settings.0)
}

fn replace_settings(
    Path(id): Path<String>,
    Json(settings): Json<Settings>,
) -> Result<Json<SettingsView>> {
    let mut check = Check::default();
    settings.check(&mut check);
    check.finish()?;
    if !store::update_settings(&database()?, &id, &settings, Millis::now())? {
        return Err(not_found());
    }
    // Also the menu: its currency stands here.
    changed(&id);
    SettingsView::of(settings)
}

impl Profile {
    fn checked(self) -> Result<Self> {
        let mut check = Check::default();
        let profile = Self {
            name: check.text("/name", &self.name, 1..=120),
            description: check.text("/description", &self.description, 0..=5000),
            address: check.text("/address", &self.address, 0..=300),
            phone: check.phone("/phone", &self.phone),
            email: check.email("/email", &self.email),
            website: check.text("/website", &self.website, 0..=300),
            time_zone: self.time_zone,
        };
        // A browser would run a link of another kind.
        if !profile.website.is_empty()
            && !profile.website.starts_with("https://")
            && !profile.website.starts_with("http://")
        {
            check.mistake("/website", "format", "a website begins with https://");
        }
        if Zone::find(&profile.time_zone).is_none() {
            check.mistake(
                "/time_zone",
                "format",
                "a time zone has an IANA name, like Europe/Paris",
            );
        }
        check.finish()?;
        Ok(profile)
    }
}
