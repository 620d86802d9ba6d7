//! Changing, moving on, cancelling, and what is written down about it.

use super::*;

fn booked(house: &House, time: &str) -> String {
    text(&expect(201, &house.book(time, 2)), "/id")
}

#[test]
fn a_reservation_moves_only_where_it_may() {
    let allowed = [
        ("pending", vec!["confirmed", "seated", "cancelled"]),
        ("confirmed", vec!["seated", "cancelled", "no_show"]),
        ("seated", vec!["completed"]),
        ("completed", vec![]),
        ("cancelled", vec![]),
        ("no_show", vec![]),
    ];
    let statuses = allowed.each_ref().map(|(status, _)| *status);
    for (from, allowed) in &allowed {
        for to in statuses {
            let house = House::open(&[(1, 2)]);
            let id = booked(&house, "19:30");
            let db = crate::database().unwrap();
            db.execute("UPDATE reservations SET status = $1", params![*from])
                .unwrap();

            let response = house.set_status(&id, to);

            if allowed.contains(&to) {
                assert_eq!(expect(200, &response)["status"], to);
            } else {
                assert_eq!(
                    refused(&response),
                    (409, "reservation.transition".into()),
                    "{from} to {to}"
                );
            }
        }
    }
}

#[test]
fn a_table_is_free_again_when_the_party_does_not_come_or_has_left() {
    for way in [&["cancelled"][..], &["no_show"], &["seated", "completed"]] {
        let house = House::open(&[(1, 2)]);
        let id = booked(&house, "19:30");
        for status in way {
            assert_eq!(house.book("19:30", 2).status(), 409);
            expect(200, &house.set_status(&id, status));
        }
        expect(201, &house.book("19:30", 2));
    }
}

#[test]
fn a_cancelled_reservation_is_still_in_the_books() {
    let house = House::open(&[(1, 2)]);
    let id = booked(&house, "19:30");

    assert_eq!(
        expect(200, &house.app.delete(&format!("/reservations/{id}")))["status"],
        "cancelled"
    );

    assert_eq!(
        expect(200, &house.app.get(&format!("/reservations/{id}")))["status"],
        "cancelled"
    );
    let again = house.app.delete(&format!("/reservations/{id}"));
    assert_eq!(refused(&again), (409, "reservation.transition".into()));
    let change = house
        .app
        .put_json(&format!("/reservations/{id}"), &json!({ "party_size": 1 }));
    assert_eq!(refused(&change), (409, "reservation.not_changeable".into()));
}

#[test]
fn another_time_is_checked_and_the_old_one_is_free() {
    let house = House::open(&[(1, 2), (1, 8)]);
    let id = booked(&house, "19:30");
    let path = format!("/reservations/{id}");

    // Half an hour later overlaps with nothing but itself, and the party keeps its table.
    let moved = expect(200, &house.app.put_json(&path, &json!({ "time": "20:00" })));
    assert_eq!(
        (&moved["time"], &moved["table"]["name"]),
        (&json!("20:00"), &json!("T1"))
    );

    let grown = expect(200, &house.app.put_json(&path, &json!({ "party_size": 6 })));
    assert_eq!(
        (&grown["table"]["name"], &grown["duration_minutes"]),
        (&json!("T2"), &json!(120))
    );
    expect(201, &house.book("20:00", 2));

    let mut wish = house.wish("18:00", 6);
    wish["guest"]["name"] = json!("Cleo");
    expect(201, &house.app.post_json("/reservations", &wish));
    let clash = house.app.put_json(&path, &json!({ "time": "19:30" }));
    assert_eq!(refused(&clash), (409, "reservation.no_table".into()));
    assert_eq!(
        expect(200, &house.app.get(&path))["time"],
        "20:00",
        "and nothing has changed"
    );
    assert_eq!(house.free_times(wednesday(), 6).len(), 0);
}

#[test]
fn a_change_without_another_time_needs_no_table() {
    let house = House::open(&[(1, 2)]);
    let id = booked(&house, "19:30");
    let change = json!({ "special_requests": "A cake", "guest": { "name": "Bob" } });

    let changed = expect(
        200,
        &house.app.put_json(&format!("/reservations/{id}"), &change),
    );

    assert_eq!(changed["special_requests"], "A cake");
    assert_eq!(
        changed["guest"],
        json!({ "name": "Bob", "email": "", "phone": "" })
    );
    assert_eq!(
        house.book("19:30", 2).status(),
        409,
        "the table is still taken"
    );
}

#[test]
fn the_history_says_what_was_done_and_by_whom() {
    let house = House::open(&[(1, 2), (1, 2)]);
    logout();
    let id = booked(&house, "19:30");
    login("Ann");
    let path = format!("/reservations/{id}");
    expect(200, &house.app.put_json(&path, &json!({ "time": "20:00" })));
    expect(200, &house.app.put_json(&path, &json!({ "time": "20:00" })));
    let cancel = json!({ "status": "cancelled", "reason": "Ill" });
    expect(
        200,
        &house.app.post_json(&format!("{path}/status"), &cancel),
    );

    let history = expect(200, &house.app.get(&format!("{path}/history")));

    let first = expect(200, &house.app.get(&format!("{path}/history?limit=1")));
    assert_eq!(first["items"][0], history["items"][0]);
    let rest = format!("{path}/history?cursor={}", text(&first, "/next_cursor"));
    let rest = expect(200, &house.app.get(&rest));
    assert_eq!(rest["items"][0], history["items"][1]);
    assert_eq!(rest["next_cursor"], Value::Null);
    let entries: Vec<_> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (
                text(entry, "/actor/kind"),
                text(entry, "/actor/name"),
                text(entry, "/action"),
                entry["changes"].clone(),
            )
        })
        .collect();
    let entry = |kind: &str, name: &str, action: &str, changes: Value| {
        (kind.to_owned(), name.to_owned(), action.to_owned(), changes)
    };
    let moved = json!([{ "field": "time", "from": "19:30", "to": "20:00" }]);
    let cancelled = json!([
        { "field": "status", "from": "confirmed", "to": "cancelled" },
        { "field": "reason", "from": "", "to": "Ill" },
    ]);
    let wanted = [
        entry("guest", "Bob Martin", "created", json!([])),
        entry("user", "Ann", "updated", moved),
        entry("user", "Ann", "status_changed", cancelled),
    ];
    assert_eq!(
        entries, wanted,
        "and a change that changes nothing is not told"
    );
}

#[test]
fn notes_are_kept_with_their_author() {
    let house = House::open(&[(1, 2)]);
    let id = booked(&house, "19:30");
    let path = format!("/reservations/{id}/notes");
    let none = json!({ "items": [], "next_cursor": null });
    assert_eq!(expect(200, &house.app.get(&path)), none);

    expect(
        201,
        &house
            .app
            .post_json(&path, &json!({ "text": "Likes the corner" })),
    );

    let notes = expect(200, &house.app.get(&path));
    assert_eq!(notes["items"][0]["text"], "Likes the corner");
    assert_eq!(
        notes["items"][0]["author"],
        json!({ "id": "user-Ann", "name": "Ann" })
    );
    assert_eq!(
        house.app.post_json(&path, &json!({ "text": " " })).status(),
        422
    );
    assert_eq!(
        refused(&house.app.get("/reservations/nowhere/notes")),
        (404, "reservation.not_found".into())
    );
}

#[test]
fn many_are_moved_at_once_and_each_says_how_it_went() {
    let house = House::open(&[(1, 2), (1, 2)]);
    let (one, two) = (booked(&house, "19:30"), booked(&house, "19:30"));
    expect(200, &house.set_status(&one, "seated"));
    let bulk = json!({ "ids": [one, two, "nowhere"], "status": "cancelled" });

    let outcome = expect(200, &house.app.post_json("/reservations/bulk", &bulk));

    assert_eq!(
        (&outcome["succeeded"], &outcome["failed"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        outcome["results"][0]["error"]["code"],
        "reservation.transition"
    );
    assert_eq!(outcome["results"][1]["status"], "cancelled");
    assert_eq!(
        outcome["results"][2]["error"]["code"],
        "reservation.not_found"
    );
    assert_eq!(
        expect(200, &house.app.get(&format!("/reservations/{two}")))["status"],
        "cancelled"
    );

    for ids in [vec![], vec!["x"; 101]] {
        let bulk = json!({ "ids": ids, "status": "cancelled" });
        assert_eq!(
            house.app.post_json("/reservations/bulk", &bulk).status(),
            422
        );
    }
}

#[test]
fn one_id_twice_is_moved_once() {
    let house = House::open(&[(1, 2)]);
    let id = booked(&house, "19:30");
    let bulk = json!({ "ids": [id, id], "status": "seated" });

    let outcome = expect(200, &house.app.post_json("/reservations/bulk", &bulk));

    assert_eq!(
        (&outcome["succeeded"], &outcome["failed"]),
        (&json!(1), &json!(1))
    );
}
