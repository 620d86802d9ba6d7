//! What a guest does with the key of a reservation.

use std::time::Duration;

use super::*;

fn booked(house: &House) -> String {
    logout();
    let booked = expect(201, &house.book("19:30", 2));
    format!("/reservations/manage/{}", text(&booked, "/manage_token"))
}

#[test]
fn a_guest_sees_changes_and_cancels() {
    let house = House::open(&[(1, 2)]);
    // The last two-day-away Wednesday may be less than 48 hours ahead, never less than 24.
    let path = booked(&house);

    let seen = expect(200, &house.app.get(&path));
    assert_eq!(
        (&seen["can_change"], &seen["restaurant_name"]),
        (&json!(true), &json!("Chez Ann"))
    );
    assert_eq!(seen["manage_token"], Value::Null);

    let change = json!({ "time": "20:00", "guest": { "name": "Bob", "email": "bob@example.com" } });
    let changed = expect(200, &house.app.put_json(&path, &change));
    assert_eq!(
        (&changed["time"], &changed["guest"]["name"]),
        (&json!("20:00"), &json!("Bob"))
    );
    let path = format!("/reservations/manage/{}", text(&changed, "/manage_token"));

    let cancelled = expect(200, &house.app.delete(&path));
    assert_eq!(
        (&cancelled["status"], &cancelled["can_change"]),
        (&json!("cancelled"), &json!(false))
    );
    let again = house.app.put_json(&path, &json!({ "time": "19:00" }));
    assert_eq!(refused(&again), (409, "reservation.not_changeable".into()));
    assert_eq!(
        refused(&house.app.delete(&path)),
        (409, "reservation.transition".into())
    );
    assert_eq!(
        house.free_times(wednesday(), 2).len(),
        8,
        "the table is free again"
    );
}

#[test]
fn the_rules_for_guests_hold_with_a_key_too() {
    let house = House::open(&[(1, 2)]);
    let path = booked(&house);
    for (change, code) in [
        (json!({ "time": "03:00" }), "reservation.closed"),
        (json!({ "date": "2020-01-01" }), "reservation.in_past"),
        (json!({ "party_size": 13 }), "reservation.party_too_large"),
        (json!({ "guest": { "name": "Bob" } }), "request.invalid"),
        (json!({ "status": "seated" }), "request.invalid_body"),
    ] {
        assert_eq!(
            refused(&house.app.put_json(&path, &change)),
            (422, code.into()),
            "{change}"
        );
    }
    let response = house.app.put_json(&path, &json!({ "party_size": 5 }));
    assert_eq!(refused(&response), (409, "reservation.no_table".into()));
}

#[test]
fn it_is_too_late_within_the_hours_of_the_house() {
    let house = House::open(&[(1, 2)]);
    let settings = json!({ "policies": { "cancellation_hours": 720 } });
    expect(200, &house.app.put_json(&house.path("settings"), &settings));
    let path = booked(&house);

    assert_eq!(expect(200, &house.app.get(&path))["can_change"], false);
    let change = house.app.put_json(&path, &json!({ "time": "20:00" }));
    assert_eq!(refused(&change), (409, "reservation.too_late".into()));
    assert_eq!(
        refused(&house.app.delete(&path)),
        (409, "reservation.too_late".into())
    );
}

#[test]
fn only_the_key_opens() {
    let house = House::open(&[(1, 2)]);
    let path = booked(&house);
    for other in ["x", "0~reservation~x"] {
        let response = house.app.get(&format!("/reservations/manage/{other}"));
        assert_eq!(response.status(), 403, "{other}");
        assert!(response.code().starts_with("token."), "{other}");
    }
    testing::with(|host| host.advance(Duration::from_secs(11 * 24 * 3600)));
    for response in [
        house.app.get(&path),
        house.app.delete(&path),
        house.app.put_json(&path, &json!({})),
    ] {
        assert_eq!(refused(&response), (403, "token.expired".into()));
    }
}

#[test]
fn guests_do_not_see_what_the_staff_writes() {
    let house = House::open(&[(1, 2)]);
    let path = booked(&house);
    login("Ann");
    let id = text(&expect(200, &house.app.get(&path)), "/id");
    let note = json!({ "text": "Never pays" });
    expect(
        201,
        &house
            .app
            .post_json(&format!("/reservations/{id}/notes"), &note),
    );
    logout();

    assert!(!house.app.get(&path).text().contains("Never pays"));
}
