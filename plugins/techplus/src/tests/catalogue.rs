//! Restaurants, tables, hours, menus and settings.

use super::*;

#[test]
fn a_restaurant_is_made_changed_and_removed() {
    let house = House::open(&[]);
    let path = format!("/restaurants/{}", house.id);
    let profile = json!({
        "name": "Chez Élodie", "time_zone": "Europe/Paris", "phone": "01 23 45 67 89", "email": "Table@Example.com",
        "website": "https://example.com", "address": "1 rue de la Paix, Paris", "description": "Small and loud.",
    });

    let changed = expect(200, &house.app.put_json(&path, &profile));

    assert_eq!(
        (&changed["phone"], &changed["email"]),
        (&json!("0123456789"), &json!("table@example.com"))
    );
    assert_eq!(expect(200, &house.app.get(&path)), changed);
    expect(204, &house.app.delete(&path));
    for response in [
        house.app.get(&path),
        house.app.delete(&path),
        house.app.put_json(&path, &profile),
    ] {
        assert_eq!(refused(&response), (404, "restaurant.not_found".into()));
    }
}

#[test]
fn a_restaurant_that_cannot_be_is_refused() {
    let house = House::open(&[]);
    for (profile, place) in [
        (json!({ "time_zone": "UTC" }), "/name"),
        (json!({ "name": "A" }), "/time_zone"),
        (json!({ "name": "A", "time_zone": "Paris" }), "/time_zone"),
        (
            json!({ "name": "A", "time_zone": "UTC", "website": "javascript:alert(1)" }),
            "/website",
        ),
        (
            json!({ "name": "A", "time_zone": "UTC", "email": "x" }),
            "/email",
        ),
    ] {
        let problem = expect(422, &house.app.post_json("/restaurants", &profile));
        assert_eq!(text(&problem, "/errors/0/at"), place, "{profile}");
    }
}

#[test]
fn what_has_reservations_cannot_be_removed() {
    let house = House::open(&[(1, 2), (3, 4)]);
    expect(201, &house.book("19:30", 2));
    let table = |name| house.path(&format!("tables/{}", house.table_id(name)));

    assert_eq!(
        refused(&house.app.delete(&table("T1"))),
        (409, "table.in_use".into())
    );
    let restaurant = house.app.delete(&format!("/restaurants/{}", house.id));
    assert_eq!(refused(&restaurant), (409, "restaurant.in_use".into()));
    expect(204, &house.app.delete(&table("T2")));
}

#[test]
fn tables_have_names_of_their_own_and_sizes_that_can_be() {
    let house = House::open(&[(1, 2)]);
    let path = house.path("tables");
    let again = json!({ "name": "T1", "capacity_max": 2 });
    assert_eq!(
        refused(&house.app.post_json(&path, &again)),
        (409, "table.name_taken".into())
    );
    for (table, place) in [
        (
            json!({ "name": "A", "capacity_min": 3, "capacity_max": 2 }),
            "/capacity_min",
        ),
        (json!({ "name": "A", "capacity_max": 0 }), "/capacity_max"),
        (json!({ "name": "", "capacity_max": 2 }), "/name"),
    ] {
        let problem = expect(422, &house.app.post_json(&path, &table));
        assert_eq!(text(&problem, "/errors/0/at"), place, "{table}");
    }
    expect(
        201,
        &house
            .app
            .post_json(&path, &json!({ "name": "Bar", "capacity_max": 2 })),
    );
    let first = expect(200, &house.app.get(&format!("{path}?limit=1")));
    assert_eq!(first["items"][0]["name"], "Bar");
    let second = format!("{path}?limit=1&cursor={}", text(&first, "/next_cursor"));
    let second = expect(200, &house.app.get(&second));
    assert_eq!(second["items"][0]["name"], "T1");
    assert_eq!(second["next_cursor"], Value::Null);
    let elsewhere = house.app.get("/restaurants/nowhere/tables");
    assert_eq!(refused(&elsewhere), (404, "restaurant.not_found".into()));
    let stranger = house.app.get(&format!(
        "/restaurants/nowhere/tables/{}",
        house.table_id("T1")
    ));
    assert_eq!(refused(&stranger), (404, "table.not_found".into()));
}

#[test]
fn hours_come_back_in_order_and_do_not_overlap() {
    let house = House::open(&[]);
    let path = house.path("hours");
    let period = |day: &str, opens: &str, closes: &str| json!({ "weekday": day, "opens": opens, "closes": closes });
    let hours = json!({
        "weekly": [period("friday", "19:00", "00:00"), period("monday", "18:00", "22:00"), period("monday", "12:00", "14:30")],
        "closed_days": [{ "date": "2026-12-25", "reason": "Christmas" }, { "date": "2026-12-24" }],
    });
    expect(200, &house.app.put_json(&path, &hours));

    let read = expect(200, &house.app.get(&path));

    assert_eq!(
        read["weekly"],
        json!([
            period("monday", "12:00", "14:30"),
            period("monday", "18:00", "22:00"),
            period("friday", "19:00", "00:00"),
        ])
    );
    assert_eq!(
        read["closed_days"][0],
        json!({ "date": "2026-12-24", "reason": "" })
    );

    for (weekly, closed_days, place) in [
        (
            json!([
                period("monday", "12:00", "15:00"),
                period("monday", "14:00", "16:00")
            ]),
            json!([]),
            "/weekly/1",
        ),
        (
            json!([
                period("monday", "18:00", "02:00"),
                period("monday", "23:00", "23:30")
            ]),
            json!([]),
            "/weekly/1",
        ),
        (
            json!([]),
            json!([{ "date": "2026-12-25" }, { "date": "2026-12-25" }]),
            "/closed_days/1/date",
        ),
    ] {
        let hours = json!({ "weekly": weekly, "closed_days": closed_days });
        let problem = expect(422, &house.app.put_json(&path, &hours));
        assert_eq!(text(&problem, "/errors/0/at"), place);
    }
    let noon = json!({ "weekly": [period("monday", "noon", "22:00")] });
    assert_eq!(
        refused(&house.app.put_json(&path, &noon)),
        (422, "request.invalid_body".into())
    );
}

#[test]
fn a_menu_is_read_by_category() {
    let house = House::open(&[]);
    let category = |name: &str, position: u32| {
        let body = json!({ "name": name, "position": position });
        text(
            &expect(
                201,
                &house.app.post_json(&house.path("menu/categories"), &body),
            ),
            "/id",
        )
    };
    let (desserts, starters) = (category("Desserts", 2), category("Starters", 1));
    let item = json!({
        "category_id": starters, "name": "Soup", "price_cents": 850, "allergens": ["milk", "celery", "milk"],
    });
    let soup = expect(201, &house.app.post_json(&house.path("menu/items"), &item));
    assert_eq!(soup["allergens"], json!(["celery", "milk"]));

    let menu = expect(200, &house.app.get(&house.path("menu")));

    assert_eq!(menu["currency"], "EUR");
    assert_eq!(
        (
            &menu["categories"][0]["name"],
            &menu["categories"][0]["items"][0]
        ),
        (&json!("Starters"), &soup)
    );
    assert_eq!(menu["categories"][1]["items"], json!([]));

    let path = house.path(&format!("menu/items/{}", text(&soup, "/id")));
    let moved = json!({ "category_id": desserts, "name": "Sorbet", "price_cents": 600, "is_available": false });
    assert_eq!(
        expect(200, &house.app.put_json(&path, &moved))["name"],
        "Sorbet"
    );
    expect(
        204,
        &house
            .app
            .delete(&house.path(&format!("menu/categories/{desserts}"))),
    );
    assert_eq!(
        refused(&house.app.delete(&path)),
        (404, "menu.item_not_found".into())
    );
}

#[test]
fn an_item_belongs_to_a_category_of_its_restaurant() {
    let house = House::open(&[]);
    let other = json!({ "name": "Elsewhere", "time_zone": "UTC" });
    let other = text(
        &expect(201, &house.app.post_json("/restaurants", &other)),
        "/id",
    );
    let category = json!({ "name": "Theirs" });
    let category = expect(
        201,
        &house
            .app
            .post_json(&format!("/restaurants/{other}/menu/categories"), &category),
    );
    let item = json!({ "category_id": category["id"], "name": "Soup", "price_cents": 1 });

    let problem = expect(422, &house.app.post_json(&house.path("menu/items"), &item));

    assert_eq!(text(&problem, "/errors/0/at"), "/category_id");
    let mustard =
        json!({ "category_id": "x", "name": "Soup", "price_cents": 1, "allergens": ["hay"] });
    let response = house.app.post_json(&house.path("menu/items"), &mustard);
    assert_eq!(refused(&response), (422, "request.invalid_body".into()));
}

#[test]
fn settings_show_what_was_set_and_what_holds() {
    let house = House::open(&[]);
    let path = house.path("settings");
    let settings = json!({
        "general": { "currency": "CHF" },
        "booking": { "slot_minutes": 15, "durations": [{ "up_to": 4, "minutes": 60 }] },
        "policies": { "cancellation_hours": 2, "text": "No dogs." },
    });
    expect(200, &house.app.put_json(&path, &settings));

    let read = expect(200, &house.app.get(&path));

    assert_eq!(read["booking"]["buffer_minutes"], Value::Null);
    assert_eq!(read["effective"]["buffer_minutes"], 0);
    assert_eq!(
        (
            &read["effective"]["slot_minutes"],
            &read["effective"]["cancellation_hours"]
        ),
        (&json!(15), &json!(2))
    );
    for (settings, place) in [
        (
            json!({ "general": { "currency": "euro" } }),
            "/general/currency",
        ),
        (
            json!({ "booking": { "slot_minutes": 7 } }),
            "/booking/slot_minutes",
        ),
        (
            json!({ "booking": { "durations": [] } }),
            "/booking/durations",
        ),
        (
            json!({ "booking": { "durations": [{ "up_to": 2, "minutes": 50 }] } }),
            "/booking/durations/0/minutes",
        ),
        (
            json!({ "policies": { "cancellation_hours": 1000 } }),
            "/policies/cancellation_hours",
        ),
    ] {
        let problem = expect(422, &house.app.put_json(&path, &settings));
        assert_eq!(text(&problem, "/errors/0/at"), place, "{settings}");
    }
}
