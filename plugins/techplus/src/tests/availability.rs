//! When a party can come.

use super::*;

fn times(free: &[(String, u64)]) -> Vec<&str> {
    free.iter().map(|(time, _)| time.as_str()).collect()
}

#[test]
fn a_party_can_come_as_long_as_it_is_gone_before_the_door_closes() {
    let house = House::open(&[(1, 2), (2, 8)]);
    let all = [
        "18:00", "18:30", "19:00", "19:30", "20:00", "20:30", "21:00", "21:30",
    ];
    for (party_size, wanted) in [
        (1, &all[..]),
        (2, &all[..]),
        (3, &all[..7]),
        (8, &all[..7]),
        (9, &[]),
    ] {
        let free = house.free_times(wednesday(), party_size);
        assert_eq!(times(&free), wanted, "{party_size}");
    }
}

#[test]
fn a_taken_table_is_missing_as_long_as_the_party_stays() {
    let house = House::open(&[(1, 2), (1, 4)]);
    expect(201, &house.book("19:30", 2));

    let free = house.free_times(wednesday(), 2);

    let counts: Vec<u64> = free.iter().map(|(_, count)| *count).collect();
    // 18:00 still ends before 19:30, and 21:00 begins after.
    assert_eq!(counts, [2, 1, 1, 1, 1, 1, 2, 2]);
}

#[test]
fn a_night_that_ends_after_midnight_reaches_into_the_next_date() {
    let house = House::open(&[(1, 4)]);
    let friday = next(5);

    let on_friday = house.free_times(friday, 2);
    let on_saturday = house.free_times(later(friday, 1), 2);

    assert_eq!(times(&on_friday).last(), Some(&"23:30"));
    assert_eq!(times(&on_saturday)[..3], ["00:00", "00:30", "18:00"]);

    let mut wish = house.wish("23:30", 2);
    wish["date"] = json!(friday);
    expect(201, &house.app.post_json("/reservations", &wish));
    let on_saturday = house.free_times(later(friday, 1), 2);
    assert_eq!(
        times(&on_saturday)[..1],
        ["18:00"],
        "the table is taken until 01:00"
    );
}

#[test]
fn nobody_can_come_on_a_closed_day() {
    let house = House::open(&[(1, 4)]);
    let friday = next(5);
    house.set_hours(&json!([{ "date": friday, "reason": "Holiday" }]));

    assert_eq!(house.free_times(friday, 2), []);
    let saturday = house.free_times(later(friday, 1), 2);
    assert_eq!(
        times(&saturday)[..1],
        ["18:00"],
        "the night of Friday does not take place either"
    );
    let mut wish = house.wish("19:00", 2);
    wish["date"] = json!(friday);
    assert_eq!(
        refused(&house.app.post_json("/reservations", &wish)),
        (422, "reservation.closed".into())
    );
}

#[test]
fn the_pause_after_a_party_counts() {
    let house = House::open(&[(1, 4)]);
    let settings = json!({ "booking": { "buffer_minutes": 30 } });
    expect(200, &house.app.put_json(&house.path("settings"), &settings));
    expect(201, &house.book("18:00", 2));

    assert_eq!(times(&house.free_times(wednesday(), 2))[..1], ["20:00"]);
}

#[test]
fn the_past_and_the_far_future_cannot_be_had() {
    let house = House::open(&[(1, 4)]);
    let far = later(wednesday(), 90);

    assert_eq!(house.free_times(later(wednesday(), -30), 2), []);
    assert_eq!(house.free_times(far, 2), []);
}

#[test]
fn a_wrong_question_is_answered_with_what_is_wrong() {
    let house = House::open(&[]);
    for query in [
        "",
        "?date=2026-12-01",
        "?date=tomorrow&party_size=2",
        "?date=2026-12-01&party_size=-2",
    ] {
        let answer = house.app.get(&house.path(&format!("availability{query}")));
        assert_eq!(
            refused(&answer),
            (400, "request.invalid_query".into()),
            "{query}"
        );
    }
    let elsewhere = house
        .app
        .get("/restaurants/nowhere/availability?date=2026-12-01&party_size=2");
    assert_eq!(refused(&elsewhere), (404, "restaurant.not_found".into()));
}
