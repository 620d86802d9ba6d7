//! TechPlus on a whole host: what a restaurant must be able to rely on.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use gantry::plugins::{GrantMode, Mount};
use gantry_harness::{Client, TestHost, guests, pack};
use serde_json::{Value, json};

/// A restaurant in UTC that is open all day, with its tables.
struct House {
    host: TestHost,
    staff: Client,
    id: String,
    tables: Vec<String>,
}

impl House {
    async fn open(tables: u32) -> Self {
        let host = TestHost::start().await;
        deploy(&host).await;
        let staff = host.admin();
        let restaurant = json!({ "name": "Chez Ann", "time_zone": "UTC" });
        let answer = staff
            .post("/api/restaurants", &restaurant)
            .await
            .assert_status(201);
        let id = text(&answer.json(), "id");
        let days = [
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
        ];
        let period = |day| json!({ "weekday": day, "opens": "10:00", "closes": "23:00" });
        let hours = json!({ "weekly": days.map(period) });
        staff
            .put(&format!("/api/restaurants/{id}/hours"), &hours)
            .await
            .assert_status(200);
        let mut ids = Vec::new();
        for number in 1..=tables {
            let table = json!({ "name": format!("T{number}"), "capacity_max": 4 });
            let answer = staff
                .post(&format!("/api/restaurants/{id}/tables"), &table)
                .await;
            ids.push(text(&answer.assert_status(201).json(), "id"));
        }
        Self {
            host,
            staff,
            id,
            tables: ids,
        }
    }

    fn wish(&self, time: &str) -> Value {
        json!({
            "restaurant_id": self.id, "date": date(10), "time": time, "party_size": 2,
            "guest": { "name": "Bob", "email": "bob@example.com" },
        })
    }
}

/// The plugin as it stands in this repository, on `/api`.
async fn deploy(host: &TestHost) {
    let folder = guests::root().join("plugins/techplus");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let manifest = read("plugin.toml").replace(
        "../../target/wasm32-wasip2/guest/techplus.wasm",
        "plugin.wasm",
    );
    let names = [
        "migrations/0001_restaurants.sql",
        "migrations/0002_reservations.sql",
    ];
    let migrations = names.map(|name| (name, read(name)));
    let files = migrations
        .each_ref()
        .map(|(name, sql)| (*name, sql.as_bytes()));
    let bundle = pack(&manifest, &guests::component("techplus"), &files);
    let mount = Mount::new(None, "/api").unwrap();
    host.upload(bundle, GrantMode::AllAsked, Some(mount))
        .await
        .unwrap();
}

/// So many days from today.
fn date(days: u64) -> String {
    let now = SystemTime::now() + Duration::from_secs(days * 24 * 3600);
    let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    jiff::Timestamp::from_second(now.try_into().unwrap())
        .unwrap()
        .strftime("%F")
        .to_string()
}

fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no `{field}`: {value}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_who_want_one_table_at_once_one_gets_it() {
    let house = House::open(2).await;
    let mut wish = house.wish("19:30");
    wish["table_id"] = json!(house.tables[0]);
    let path = format!("/api/restaurants/{}/reservations", house.id);

    let begin = Instant::now();
    let answers = join_all((0..200).map(|_| house.staff.post(&path, &wish))).await;

    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    let mut won = 0;
    for answer in answers {
        if answer.status == 201 {
            won += 1;
        } else {
            answer.assert_problem(409, "reservation.table_taken");
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_is_full_however_many_come_at_once() {
    let house = House::open(5).await;
    let path = format!("/api/restaurants/{}/reservations", house.id);
    let wish = house.wish("19:30");

    let answers = join_all((0..60).map(|_| house.staff.post(&path, &wish))).await;

    let mut tables = Vec::new();
    for answer in answers {
        if answer.status == 201 {
            tables.push(
                answer.json::<Value>()["table"]["id"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            );
        } else {
            answer.assert_problem(409, "reservation.no_table");
        }
    }
    tables.sort();
    let mut all = house.tables.clone();
    all.sort();
    assert_eq!(tables, all, "each table once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_finds_a_time_books_comes_back_and_cancels() {
    let house = House::open(1).await;
    let guest = &house.host;
    let path = format!(
        "/api/restaurants/{}/availability?date={}&party_size=2",
        house.id,
        date(10)
    );
    let free = guest.get(&path).await.assert_status(200).json::<Value>();
    let time = text(&free["slots"][3], "time");

    let booked = guest
        .post("/api/reservations", &house.wish(&time))
        .await
        .assert_status(201);
    let booked = booked.json::<Value>();

    let taken = guest.get(&path).await.assert_status(200).json::<Value>();
    assert_eq!(taken["slots"][3]["is_available"], false);
    let manage = format!("/api/reservations/manage/{}", text(&booked, "manage_token"));
    let seen = guest.get(&manage).await.assert_status(200).json::<Value>();
    assert_eq!(
        (&seen["id"], &seen["can_change"]),
        (&booked["id"], &json!(true))
    );
    guest
        .put(&manage, &json!({ "party_size": 3 }))
        .await
        .assert_status(200);
    guest.delete(&manage).await.assert_status(200);
    guest
        .delete(&manage)
        .await
        .assert_problem(409, "reservation.transition");
    let forged = format!("{manage}x");
    guest
        .get(&forged)
        .await
        .assert_problem(403, "token.invalid");

    let history = format!("/api/reservations/{}/history", text(&booked, "id"));
    let history = house
        .staff
        .get(&history)
        .await
        .assert_status(200)
        .json::<Value>();
    assert_eq!(history.as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_staff_sees_who_comes() {
    let house = House::open(1).await;
    let stranger = house.host.user("eve@example.com", &[]).await;
    for path in [
        "/api/reservations",
        "/api/reservations/export.csv",
        "/api/reservations/x/notes",
    ] {
        house.host.get(path).await.assert_status(401);
        stranger.get(path).await.assert_status(403);
    }
    let restaurant = json!({ "name": "Mine", "time_zone": "UTC" });
    house
        .host
        .post("/api/restaurants", &restaurant)
        .await
        .assert_status(401);
    stranger
        .post("/api/restaurants", &restaurant)
        .await
        .assert_status(403);

    house
        .host
        .post("/api/reservations", &house.wish("12:00"))
        .await
        .assert_status(201);
    let listed = house
        .staff
        .get("/api/reservations?q=bob")
        .await
        .assert_status(200);
    assert_eq!(listed.json::<Value>()["items"].as_array().unwrap().len(), 1);
    let csv = house
        .staff
        .get("/api/reservations/export.csv")
        .await
        .assert_status(200);
    assert_eq!(csv.text().lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_books_all_day_long() {
    let house = House::open(1).await;
    let wish = json!({});
    for _ in 0..100 {
        house
            .host
            .post("/api/reservations", &wish)
            .await
            .assert_status(422);
    }
    house
        .host
        .post("/api/reservations", &wish)
        .await
        .assert_status(429);
    // The staff has no such limit.
    let path = format!("/api/restaurants/{}/reservations", house.id);
    house
        .staff
        .post(&path, &house.wish("12:00"))
        .await
        .assert_status(201);
}
