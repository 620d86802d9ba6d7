//! The demo data fits the API, in the order that `demo/README.md` tells.

use super::*;

fn read(text: &str) -> Value {
    gantry_sdk::serde_json::from_str(text).unwrap()
}

fn list(text: &str) -> Vec<Value> {
    read(text).as_array().unwrap().clone()
}

#[test]
fn a_week_of_reservations_can_be_made_of_the_files() {
    let app = House::open(&[]).app;
    let restaurant = read(include_str!("../../demo/1-restaurant.json"));
    let id = text(
        &expect(201, &app.post_json("/restaurants", &restaurant)),
        "/id",
    );
    let path = |below: &str| format!("/restaurants/{id}/{below}");
    let settings = read(include_str!("../../demo/2-settings.json"));
    expect(200, &app.put_json(&path("settings"), &settings));
    let hours = read(include_str!("../../demo/3-hours.json"));
    expect(200, &app.put_json(&path("hours"), &hours));
    for table in list(include_str!("../../demo/4-tables.json")) {
        expect(201, &app.post_json(&path("tables"), &table));
    }
    for section in list(include_str!("../../demo/5-menu.json")) {
        let category = app.post_json(&path("menu/categories"), &section["category"]);
        let category = expect(201, &category)["id"].clone();
        for mut item in section["items"].as_array().unwrap().clone() {
            item["category_id"] = category.clone();
            expect(201, &app.post_json(&path("menu/items"), &item));
        }
    }

    let week = read(include_str!("../../demo/6-reservations.json"));
    let today = Millis::now();
    let today = Zone::find("Europe/Paris").unwrap().local(today).day();
    let mut booked = 0;
    for day in 0..week["days"].as_i64().unwrap() {
        for entry in week["reservations"].as_array().unwrap() {
            let number = |key: &str| entry[key].as_i64().unwrap();
            if (day + number("offset")) % number("every") != 0 {
                continue;
            }
            let mut body = entry["body"].clone();
            body["date"] = json!(today.plus(day));
            let response = app.post_json(&path("reservations"), &body);
            // A closed day may lie in this week.
            assert!(
                [201, 422].contains(&response.status()),
                "{body}: {}",
                response.text()
            );
            booked += i32::from(response.status() == 201);
        }
    }
    assert!(booked >= 35, "{booked}");
}
