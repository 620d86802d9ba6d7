//! Making reservations.

use super::*;

#[test]
fn a_guest_books_without_an_account() {
    let house = House::open(&[(1, 2)]);
    logout();
    let mut wish = house.wish("19:30", 2);
    wish["special_requests"] = json!(" By the window ");

    let response = house.app.post_json("/reservations", &wish);
    let booked = expect(201, &response);

    let id = text(&booked, "/id");
    assert_eq!(
        response.header("location"),
        Some(format!("reservations/{id}").as_str())
    );
    assert_eq!(booked["status"], "confirmed");
    assert_eq!(booked["time"], "19:30");
    assert_eq!(booked["duration_minutes"], 90);
    assert_eq!(booked["table"]["name"], "T1");
    assert_eq!(booked["guest"]["phone"], "+33612345678");
    assert_eq!(booked["special_requests"], "By the window");
    assert_eq!(booked["source"], "guest");
    let token = text(&booked, "/manage_token");
    assert_eq!(
        text(&booked, "/manage_url"),
        format!("https://example.com/r/{token}")
    );
    let starts = format!(
        "{}T{}:30:00Z",
        wednesday(),
        if booked["starts_at"].to_string().contains("T17") {
            17
        } else {
            18
        }
    );
    assert_eq!(
        booked["starts_at"], starts,
        "Paris is one or two hours ahead"
    );
}

#[test]
fn a_party_gets_the_smallest_table_that_fits_and_then_the_next() {
    let house = House::open(&[(1, 6), (1, 2), (1, 4)]);
    let tables = [2, 2, 2, 2].map(|size| house.book("19:00", size));

    let names = tables[..3]
        .iter()
        .map(|response| text(&expect(201, response), "/table/name"));
    assert_eq!(names.collect::<Vec<_>>(), ["T2", "T3", "T1"]);
    assert_eq!(refused(&tables[3]), (409, "reservation.no_table".into()));
}

#[test]
fn a_table_is_never_given_away_twice() {
    let house = House::open(&[(1, 4), (1, 4)]);
    let table = house.table_id("T2");
    let on_table = |time: &str| {
        let mut wish = house.wish(time, 2);
        wish["table_id"] = json!(table);
        house.app.post_json("/reservations", &wish)
    };
    expect(201, &on_table("19:30"));

    for time in ["18:30", "19:00", "19:30", "20:00", "20:30"] {
        assert_eq!(
            refused(&on_table(time)),
            (409, "reservation.table_taken".into()),
            "{time}"
        );
    }
    expect(201, &on_table("18:00"));
    expect(201, &on_table("21:00"));
    assert_eq!(expect(201, &house.book("19:30", 2))["table"]["name"], "T1");
}

#[test]
fn the_database_itself_refuses_a_second_party_at_a_table() {
    let house = House::open(&[(1, 4)]);
    let booked = expect(201, &house.book("19:30", 2));
    let db = crate::database().unwrap();
    let slot: i64 = db
        .query_one("SELECT MIN(slot) FROM table_slots", params![])
        .unwrap();

    let error = db
        .execute(
            "INSERT INTO table_slots (table_id, slot, reservation_id) VALUES ($1, $2, $3)",
            params![house.table_id("T1"), slot, text(&booked, "/id")],
        )
        .unwrap_err();

    assert_eq!(error.code(), "sql.unique_violation");
}

#[test]
fn a_booking_that_is_refused_leaves_nothing_behind() {
    let house = House::open(&[(1, 2)]);
    expect(201, &house.book("19:30", 2));
    assert_eq!(house.book("19:30", 2).status(), 409);

    let db = crate::database().unwrap();
    for (table, wanted) in [
        ("reservations", 1),
        ("table_slots", 6),
        ("reservation_history", 1),
        ("guests", 1),
    ] {
        let count: i64 = db
            .query_one(&format!("SELECT count(*) FROM {table}"), params![])
            .unwrap();
        assert_eq!(count, wanted, "{table}");
    }
}

#[test]
fn the_rules_of_the_house_hold_for_guests() {
    let house = House::open(&[(1, 20)]);
    let (past, far) = (later(wednesday(), -14), later(wednesday(), 200));
    let cases = [
        (wednesday(), "17:30", 2, "reservation.closed"),
        (wednesday(), "22:00", 2, "reservation.closed"),
        (wednesday(), "19:15", 2, "reservation.off_grid"),
        (wednesday(), "19:00", 13, "reservation.party_too_large"),
        (past, "19:00", 2, "reservation.in_past"),
        (far, "19:00", 2, "reservation.too_far_ahead"),
    ];
    for (date, time, party_size, code) in cases {
        let mut wish = house.wish(time, party_size);
        wish["date"] = json!(date);
        let response = house.app.post_json("/reservations", &wish);
        assert_eq!(
            refused(&response),
            (422, code.into()),
            "{date} {time} {party_size}"
        );
    }
}

#[test]
fn the_staff_books_what_guests_cannot() {
    let house = House::open(&[(1, 20)]);
    let mut wish = house.wish("19:15", 13);
    wish["date"] = json!(later(wednesday(), -14));
    wish["guest"] = json!({ "name": "A walk-in" });

    let booked = expect(
        201,
        &house.app.post_json(&house.path("reservations"), &wish),
    );

    assert_eq!(
        (&booked["source"], &booked["status"]),
        (&json!("staff"), &json!("confirmed"))
    );
    wish["time"] = json!("19:10");
    let response = house.app.post_json(&house.path("reservations"), &wish);
    assert_eq!(refused(&response), (422, "reservation.off_grid".into()));
    wish["time"] = json!("17:00");
    let response = house.app.post_json(&house.path("reservations"), &wish);
    assert_eq!(refused(&response), (422, "reservation.closed".into()));
}

#[test]
fn a_house_that_confirms_itself_gets_pending_bookings_that_hold_the_table() {
    let house = House::open(&[(1, 2)]);
    let settings = json!({ "booking": { "confirmation": "manual" } });
    expect(200, &house.app.put_json(&house.path("settings"), &settings));

    assert_eq!(expect(201, &house.book("19:30", 2))["status"], "pending");
    assert_eq!(house.book("19:30", 2).status(), 409);
}

#[test]
fn every_mistake_of_a_body_is_told_with_its_place() {
    let house = House::open(&[(1, 2)]);
    let wish = json!({
        "restaurant_id": house.id, "date": "1.12.2026", "time": "7pm", "party_size": 0,
        "guest": { "name": " ", "email": "bob", "phone": "12" }, "special_requests": "x".repeat(1001),
    });

    let problem = expect(422, &house.app.post_json("/reservations", &wish));

    let errors = problem["errors"].as_array().unwrap().iter();
    let places: Vec<_> = errors
        .map(|error| (text(error, "/at"), text(error, "/code")))
        .collect();
    let wanted = [
        ("/date", "format"),
        ("/time", "format"),
        ("/party_size", "out_of_range"),
        ("/guest/name", "required"),
        ("/guest/email", "format"),
        ("/guest/phone", "format"),
        ("/special_requests", "too_long"),
    ];
    assert_eq!(
        places,
        wanted.map(|(at, code)| (at.to_owned(), code.to_owned()))
    );
}

#[test]
fn a_table_that_does_not_suit_is_the_clients_mistake() {
    let house = House::open(&[(2, 4), (1, 2)]);
    let other = house.table_id("T2");
    let retired = json!({ "name": "T2", "capacity_max": 2, "is_active": false });
    expect(
        200,
        &house
            .app
            .put_json(&house.path(&format!("tables/{other}")), &retired),
    );
    for (table, size, place) in [
        (house.table_id("T1"), 1, "/party_size"),
        (house.table_id("T1"), 5, "/party_size"),
        (other, 2, "/table_id"),
        ("nowhere".to_owned(), 2, "/table_id"),
    ] {
        let mut wish = house.wish("19:00", size);
        wish["table_id"] = json!(table);
        let problem = expect(422, &house.app.post_json("/reservations", &wish));
        assert_eq!(text(&problem, "/errors/0/at"), place, "{table} {size}");
    }
}

#[test]
fn a_guest_who_comes_again_is_the_same_and_cannot_be_renamed() {
    let house = House::open(&[(1, 2), (1, 2), (1, 2)]);
    expect(201, &house.book("19:30", 2));
    expect(201, &house.book("19:30", 2));
    let mut wish = house.wish("19:30", 2);
    wish["guest"]["name"] = json!("Mallory");
    expect(201, &house.app.post_json("/reservations", &wish));

    let found = expect(200, &house.app.get("/reservations?q=martin"));

    assert_eq!(found["items"].as_array().unwrap().len(), 2);
}

#[test]
fn nobody_books_where_there_is_no_restaurant() {
    let house = House::open(&[]);
    let mut wish = house.wish("19:30", 2);
    wish["restaurant_id"] = json!("nowhere");

    let response = house.app.post_json("/reservations", &wish);

    assert_eq!(refused(&response), (404, "restaurant.not_found".into()));
}
