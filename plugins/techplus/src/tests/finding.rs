//! Lists, filters, pages and the export.

use super::*;

fn names(answer: &Value) -> Vec<String> {
    answer["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| text(item, "/guest/name"))
        .collect()
}

/// Three evenings with one guest each, on tables of their own.
fn house_with_guests() -> House {
    let house = House::open(&[(1, 2), (1, 2), (1, 2)]);
    for (days, time, name) in [
        (1, "19:00", "Cleo_"),
        (0, "20:00", "Bob"),
        (0, "19:00", "Ann 100%"),
    ] {
        let mut wish = house.wish(time, 2);
        wish["date"] = json!(later(wednesday(), days));
        wish["guest"]["name"] = json!(name);
        expect(201, &house.app.post_json("/reservations", &wish));
    }
    house
}

#[test]
fn reservations_are_found_by_all_that_is_asked() {
    let house = house_with_guests();
    let (day, next) = (wednesday(), later(wednesday(), 1));
    let cleo = text(
        &expect(200, &house.app.get("/reservations?q=cleo")),
        "/items/0/id",
    );
    expect(200, &house.set_status(&cleo, "cancelled"));
    let table = house.table_id("T1");
    let id = &house.id;
    let everybody = vec!["Ann 100%", "Bob", "Cleo_"];
    let cases: Vec<(String, Vec<&str>)> = vec![
        (String::new(), everybody.clone()),
        (format!("restaurant_id={id}"), everybody.clone()),
        ("restaurant_id=nowhere".into(), vec![]),
        (format!("date={day}"), vec!["Ann 100%", "Bob"]),
        (format!("from={next}"), vec!["Cleo_"]),
        (format!("to={day}"), vec!["Ann 100%", "Bob"]),
        (format!("from={day}&to={next}"), everybody.clone()),
        ("status=confirmed".into(), vec!["Ann 100%", "Bob"]),
        (
            "status=confirmed&status=cancelled".into(),
            everybody.clone(),
        ),
        ("status=no_show".into(), vec![]),
        (format!("table_id={table}&date={next}"), vec!["Cleo_"]),
        ("q=BOB%20b".into(), vec!["Bob"]),
        ("q=bob@example".into(), everybody.clone()),
        ("q=33612".into(), everybody.clone()),
        // Not the signs of LIKE.
        ("q=%25".into(), vec!["Ann 100%"]),
        ("q=_".into(), vec!["Cleo_"]),
        ("q='%20OR%201=1".into(), vec![]),
        (format!("q=bob&status=confirmed&date={next}"), vec![]),
    ];
    for (query, wanted) in cases {
        let answer = expect(200, &house.app.get(&format!("/reservations?{query}")));
        assert_eq!(names(&answer), wanted, "{query}");
    }
}

#[test]
fn pages_follow_one_another_without_gaps() {
    let house = house_with_guests();
    let mut seen = Vec::new();
    let mut path = "/reservations?limit=1".to_owned();
    loop {
        let page = expect(200, &house.app.get(&path));
        seen.extend(names(&page));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/reservations?limit=1&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["Ann 100%", "Bob", "Cleo_"]);
    for query in [
        "limit=0",
        "limit=101",
        "cursor=x",
        "cursor=a~b~c",
        "status=gone",
        "date=x",
    ] {
        assert_eq!(
            house.app.get(&format!("/reservations?{query}")).status(),
            400,
            "{query}"
        );
    }
}

#[test]
fn the_export_has_the_rows_of_the_list() {
    let house = house_with_guests();
    let response = house
        .app
        .get(&format!("/reservations/export.csv?date={}", wednesday()));

    assert_eq!(
        response.header("content-type"),
        Some("text/csv; charset=utf-8")
    );
    let lines: Vec<&str> = response.text().split("\r\n").collect();
    assert_eq!(lines.len(), 4, "a header, two rows, and the end");
    assert!(lines[1].contains(",19:00,90,"), "{}", lines[1]);
    assert!(
        lines[1].contains(
            ",confirmed,2,\"T2\",\"Ann 100%\",\"bob@example.com\",\"'+33612345678\",\"\",guest,"
        ),
        "{}",
        lines[1]
    );
}

#[test]
fn restaurants_are_listed_by_name() {
    let house = House::open(&[]);
    for name in ["Zoé", "Bistro"] {
        let restaurant = json!({ "name": name, "time_zone": "UTC" });
        expect(201, &house.app.post_json("/restaurants", &restaurant));
    }
    let first = expect(200, &house.app.get("/restaurants?limit=2"));
    let cursor = text(&first, "/next_cursor").replace(' ', "%20");
    let second = expect(
        200,
        &house
            .app
            .get(&format!("/restaurants?limit=2&cursor={cursor}")),
    );

    assert_eq!(
        (&first["items"][0]["name"], &first["items"][1]["name"]),
        (&json!("Bistro"), &json!("Chez Ann"))
    );
    assert_eq!(second["items"][0]["name"], "Zoé");
    assert_eq!(second["next_cursor"], Value::Null);
}
