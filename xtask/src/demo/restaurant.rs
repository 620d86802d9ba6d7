//! A restaurant with a week of reservations, out of the files of the plugin's folder `demo`, through its REST API.

use std::fs;

use anyhow::Context;
use serde_json::{Value, json};

use super::api::Api;
use super::state::State;
use super::{MOUNT, PLUGIN, date};

/// The name of the restaurant's id in the state.
pub(super) const ID: &str = "restaurant";
/// The last day with reservations.
const BOOKED_TO: &str = "booked to";

/// Creates the restaurant if there is none, and fills the days from today on that no earlier start has filled.
pub(super) fn ensure(api: &Api, state: &mut State) -> anyhow::Result<()> {
    let id = match find(api, state)? {
        Some(id) => id,
        None => create(api, state)?,
    };
    book(api, state, &id)
}

fn find(api: &Api, state: &State) -> anyhow::Result<Option<String>> {
    let Some(id) = state.text(ID) else {
        return Ok(None);
    };
    let found = api.as_admin("GET", &format!("{MOUNT}/restaurants/{id}"), b"")?;
    Ok((found.status == 200).then_some(id))
}

fn create(api: &Api, state: &mut State) -> anyhow::Result<String> {
    let post = |path: &str, body: &Value| -> anyhow::Result<Value> {
        api.as_admin(
            "POST",
            &format!("{MOUNT}{path}"),
            body.to_string().as_bytes(),
        )?
        .expect(201)
    };
    let id = post("/restaurants", &read("1-restaurant.json")?)?;
    let id = id["id"]
        .as_str()
        .context("a restaurant has an id")?
        .to_owned();
    let here = format!("/restaurants/{id}");
    for (file, path) in [("2-settings.json", "settings"), ("3-hours.json", "hours")] {
        let body = read(file)?.to_string();
        api.as_admin("PUT", &format!("{MOUNT}{here}/{path}"), body.as_bytes())?
            .check(200)?;
    }
    for table in entries(&read("4-tables.json")?) {
        post(&format!("{here}/tables"), table)?;
    }
    for part in entries(&read("5-menu.json")?) {
        let category = post(&format!("{here}/menu/categories"), &part["category"])?;
        for item in entries(&part["items"]) {
            let mut item = item.clone();
            item["category_id"] = category["id"].clone();
            post(&format!("{here}/menu/items"), &item)?;
        }
    }
    state.set(ID, id.clone());
    state.set(BOOKED_TO, Value::Null);
    state.save()?;
    Ok(id)
}

fn book(api: &Api, state: &mut State, id: &str) -> anyhow::Result<()> {
    let plan = read("6-reservations.json")?;
    let days = plan["days"]
        .as_i64()
        .context("`days` of 6-reservations.json")?;
    let booked_to = state.number(BOOKED_TO).unwrap_or(i64::MIN);
    let today = date::today();
    let mut booked = 0;
    for day in (0..days).filter(|day| today + day > booked_to) {
        for entry in entries(&plan["reservations"]) {
            let number = |name: &str| {
                entry[name]
                    .as_i64()
                    .with_context(|| format!("`{name}` of a reservation"))
            };
            if (day + number("offset")?) % number("every")?.max(1) != 0 {
                continue;
            }
            let mut body = entry["body"].clone();
            body["date"] = json!(date::text(today + day));
            let path = format!("{MOUNT}/restaurants/{id}/reservations");
            let answer = api.as_admin("POST", &path, body.to_string().as_bytes())?;
            // A full house, a closed day, or an hour that has passed.
            if ![409, 422].contains(&answer.status) {
                answer.check(201)?;
                booked += 1;
            }
        }
    }
    state.set(BOOKED_TO, today + days - 1);
    state.save()?;
    if booked > 0 {
        println!("{booked} reservations in the next {days} days");
    }
    Ok(())
}

fn read(file: &str) -> anyhow::Result<Value> {
    let path = crate::root()
        .join("plugins")
        .join(PLUGIN)
        .join("demo")
        .join(file);
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

fn entries(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}
