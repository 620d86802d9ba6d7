//! TechPlus on a whole host: what a restaurant must be able to rely on.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use gantry_harness::{Answer, Client, TestHost};
use http::{HeaderValue, Method};
use serde_json::{Value, json};

/// A restaurant in UTC that is open all week, with its tables.
struct House {
    host: TestHost,
    staff: Client,
    id: String,
    tables: Vec<String>,
}

impl House {
    async fn open(tables: u32) -> Self {
        let host = TestHost::start().await;
        host.deploy_folder("plugins/techplus", "/api").await;
        let staff = host.admin();
        let restaurant = json!({ "name": "Chez Ann", "time_zone": "UTC" });
        let answer = staff.post("/api/restaurants", &restaurant).await;
        let id = text(&answer.assert_status(201).json(), "id");
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

    /// Where the staff books.
    fn book(&self) -> String {
        format!("/api/restaurants/{}/reservations", self.id)
    }

    /// What somebody wants who books for two.
    fn wish(&self, day: u64, time: &str) -> Value {
        json!({
            "date": date(day), "time": time, "party_size": 2,
            "guest": { "name": "Bob", "email": "bob@example.com" },
        })
    }

    fn wish_for_table(&self, day: u64, time: &str, table: usize) -> Value {
        let mut wish = self.wish(day, time);
        wish["table_id"] = json!(self.tables[table]);
        wish
    }

    /// What a guest sends, who has no account.
    fn wish_of_guest(&self, day: u64, time: &str) -> Value {
        let mut wish = self.wish(day, time);
        wish["restaurant_id"] = json!(self.id);
        wish
    }

    /// How many tables are free for two.
    async fn free(&self, day: u64, time: &str) -> u64 {
        let path = format!(
            "/api/restaurants/{}/availability?date={}&party_size=2",
            self.id,
            date(day)
        );
        let slots = self
            .host
            .get(&path)
            .await
            .assert_status(200)
            .json::<Value>()["slots"]
            .clone();
        let slot = slots
            .as_array()
            .unwrap()
            .iter()
            .find(|slot| slot["time"] == time);
        let slot = slot.unwrap_or_else(|| panic!("{time} is not in {slots}"));
        let free = slot["tables_free"].as_u64().unwrap();
        assert_eq!(slot["is_available"], free > 0, "{slot}");
        free
    }

    /// Two hundred ask for one table and time at once. How long it took.
    async fn rush(&self, day: u64, time: &str, table: usize) -> Duration {
        let wish = self.wish_for_table(day, time, table);
        let path = self.book();
        let began = Instant::now();
        let answers = join_all((0..200).map(|_| self.staff.post(&path, &wish))).await;
        let took = began.elapsed();
        let (won, lost): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!(won.len(), 1);
        assert_eq!(lost.len(), 199);
        for answer in lost {
            answer.assert_problem(409, "reservation.table_taken");
        }
        took
    }
}

/// So many days from today.
fn date(days: u64) -> String {
    let now = SystemTime::now() + Duration::from_secs(days * 24 * 3600);
    let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = jiff::Timestamp::from_second(now.try_into().unwrap()).unwrap();
    now.strftime("%F").to_string()
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
    assert_eq!(house.free(10, "19:30").await, 2);
    let took = house.rush(10, "19:30", 0).await;
    println!("200 who want one table on a fresh database: {took:?}");
    assert_eq!(house.free(10, "19:30").await, 1);
    assert_eq!(house.free(11, "19:30").await, 2, "the next day is free");
    let overlapping = house.wish_for_table(10, "20:00", 0);
    house
        .staff
        .post(&house.book(), &overlapping)
        .await
        .assert_problem(409, "reservation.table_taken");
    let listed = house
        .staff
        .get(&format!("/api/reservations?date={}", date(10)))
        .await;
    assert_eq!(
        listed.assert_status(200).json::<Value>()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_busy_evening_too_of_two_hundred_one_gets_the_table() {
    let house = House::open(10).await;
    for day in 10..20 {
        let wishes = ["11:00", "13:00", "15:00"].iter().flat_map(|time| {
            (0..10)
                .map(|table| house.wish_for_table(day, time, table))
                .collect::<Vec<_>>()
        });
        let (staff, path) = (&house.staff, &house.book());
        let booked =
            join_all(wishes.map(|wish| async move { staff.post(path, &wish).await })).await;
        assert_eq!(
            booked.iter().filter(|answer| answer.status == 201).count(),
            30
        );
    }
    let is_over = AtomicBool::new(false);
    let readers = join_all((0..4).map(|_| async {
        let mut asked = 0;
        while !is_over.load(Relaxed) {
            house.free(12, "19:30").await;
            let listed = house
                .staff
                .get(&format!("/api/reservations?date={}", date(12)))
                .await;
            listed.assert_status(200);
            asked += 1;
        }
        asked
    }));
    let rushes = async {
        let took = [
            house.rush(12, "19:30", 3).await,
            house.rush(12, "19:30", 4).await,
        ];
        is_over.store(true, Relaxed);
        took
    };
    let (asked, took) = tokio::join!(readers, rushes);
    println!("200 who want one table among 300 reservations, {asked:?} reads beside: {took:?}");
    assert!(asked.iter().all(|asked| *asked > 0), "{asked:?}");
    assert_eq!(house.free(12, "19:30").await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_house_is_full_however_many_come_at_once() {
    let house = House::open(5).await;
    let (path, wish) = (house.book(), house.wish(10, "19:30"));
    let answers = join_all((0..60).map(|_| house.staff.post(&path, &wish))).await;
    let mut tables = Vec::new();
    for answer in answers {
        if answer.status == 201 {
            tables.push(text(&answer.json::<Value>()["table"], "id"));
        } else {
            answer.assert_problem(409, "reservation.no_table");
        }
    }
    tables.sort();
    let mut all = house.tables.clone();
    all.sort();
    assert_eq!(tables, all, "each table once");
    assert_eq!(house.free(10, "19:30").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_finds_a_time_books_comes_back_and_cancels() {
    let house = House::open(1).await;
    let guest = &house.host;
    assert_eq!(house.free(10, "12:00").await, 1);
    let booked = guest
        .post("/api/reservations", &house.wish_of_guest(10, "12:00"))
        .await;
    let booked = booked.assert_status(201).json::<Value>();
    assert_eq!(house.free(10, "12:00").await, 0);

    let manage = |token: &str| format!("/api/reservations/manage/{token}");
    let first = manage(&text(&booked, "manage_token"));
    let seen = guest.get(&first).await.assert_status(200).json::<Value>();
    assert_eq!(
        (&seen["id"], &seen["can_change"]),
        (&booked["id"], &json!(true))
    );
    let changed = guest
        .put(&first, &json!({ "time": "18:00", "party_size": 3 }))
        .await;
    let changed = changed.assert_status(200).json::<Value>();
    assert_eq!(
        house.free(10, "12:00").await,
        1,
        "the old time is free again"
    );
    assert_eq!(house.free(10, "18:00").await, 0);
    let second = manage(&text(&changed, "manage_token"));
    guest
        .get(&format!("{second}x"))
        .await
        .assert_problem(403, "token.invalid");
    let host = house.host;
    let host = host.restart().await;
    host.get(&second).await.assert_status(200);
    host.delete(&second).await.assert_status(200);
    host.delete(&second)
        .await
        .assert_problem(409, "reservation.transition");

    let history = format!("/api/reservations/{}/history", text(&booked, "id"));
    let history = host
        .admin()
        .get(&history)
        .await
        .assert_status(200)
        .json::<Value>();
    assert_eq!(history["items"].as_array().unwrap().len(), 3, "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_staff_sees_who_comes() {
    let house = House::open(1).await;
    let host = &house.host;
    let role = json!({ "name": "waiter", "permissions": ["techplus:reservations.read"] });
    house
        .staff
        .post("/_gantry/api/v1/roles", &role)
        .await
        .assert_status(201);
    let waiter = host.user("waiter@example.com", &["waiter"]).await;
    let stranger = host.user("eve@example.com", &[]).await;
    for path in [
        "/api/reservations",
        "/api/reservations/export.csv",
        "/api/reservations/x/notes",
    ] {
        host.get(path).await.assert_problem(401, "auth.required");
        stranger
            .get(path)
            .await
            .assert_problem(403, "auth.permission_missing");
    }
    let restaurant = json!({ "name": "Mine", "time_zone": "UTC" });
    host.post("/api/restaurants", &restaurant)
        .await
        .assert_status(401);
    for client in [&stranger, &waiter] {
        client
            .post("/api/restaurants", &restaurant)
            .await
            .assert_status(403);
        client
            .post(&house.book(), &house.wish(10, "12:00"))
            .await
            .assert_status(403);
    }
    host.post("/api/reservations", &house.wish_of_guest(10, "12:00"))
        .await
        .assert_status(201);
    for client in [&house.staff, &waiter] {
        let listed = client
            .get("/api/reservations?q=bob")
            .await
            .assert_status(200);
        assert_eq!(listed.json::<Value>()["items"].as_array().unwrap().len(), 1);
        let csv = client
            .get("/api/reservations/export.csv")
            .await
            .assert_status(200);
        assert_eq!(csv.text().lines().count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_books_all_day_long() {
    let house = House::open(1).await;
    for _ in 0..100 {
        house
            .host
            .post("/api/reservations", &json!({}))
            .await
            .assert_status(422);
    }
    house
        .host
        .post("/api/reservations", &json!({}))
        .await
        .assert_status(429);
    // The staff has no such limit.
    house
        .staff
        .post(&house.book(), &house.wish(10, "12:00"))
        .await
        .assert_status(201);
}

/// What the answer says of the cache.
fn cached(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_guests_read_is_kept_and_what_the_staff_changes_is_there_at_once() {
    let house = House::open(1).await;
    let (guest, staff) = (&house.host, &house.staff);
    let here = format!("/api/restaurants/{}", house.id);
    let at = |path: &str| format!("{here}{path}");
    let reads = [
        "/api/restaurants".to_owned(),
        here.clone(),
        at("/settings"),
        at("/hours"),
        at("/menu"),
    ];
    // Keeps everything, and sees that it is kept.
    let read_all = async || {
        for path in &reads {
            guest.get(path).await.assert_status(200);
            let again = guest.get(path).await.assert_status(200);
            assert!(cached(&again).contains("hit"), "{path}: {}", cached(&again));
        }
    };
    let made_anew = async |path: &str, text: &str| {
        let answer = guest.get(path).await.assert_status(200);
        assert!(!cached(&answer).contains("hit"), "{path} is the old one");
        assert!(answer.text().contains(text), "{path}: {}", answer.text());
    };

    read_all().await;
    let category = json!({ "name": "Soups", "position": 1 });
    let category = staff.post(&at("/menu/categories"), &category).await;
    let category = text(&category.assert_status(201).json(), "id");
    made_anew(&at("/menu"), "Soups").await;

    let mut item = json!({ "category_id": category, "name": "Bouillabaisse", "price_cents": 1900 });
    let made = staff.post(&at("/menu/items"), &item).await;
    let id = text(&made.assert_status(201).json(), "id");
    made_anew(&at("/menu"), "Bouillabaisse").await;
    guest.get(&at("/menu")).await;
    item["price_cents"] = json!(2100);
    let items = format!("{here}/menu/items/{id}");
    staff.put(&items, &item).await.assert_status(200);
    made_anew(&at("/menu"), "2100").await;
    guest.get(&at("/menu")).await;
    staff.delete(&items).await.assert_status(204);
    made_anew(&at("/menu"), "\"items\":[]").await;

    read_all().await;
    let settings = json!({ "general": { "currency": "CHF" } });
    staff
        .put(&at("/settings"), &settings)
        .await
        .assert_status(200);
    made_anew(&at("/settings"), "CHF").await;
    made_anew(&at("/menu"), "CHF").await;

    read_all().await;
    let hours = json!({ "weekly": [], "closed_days": [{ "date": date(3), "reason": "Repairs" }] });
    staff.put(&at("/hours"), &hours).await.assert_status(200);
    made_anew(&at("/hours"), "Repairs").await;

    read_all().await;
    let profile = json!({ "name": "Chez Anne", "time_zone": "UTC" });
    staff.put(&here, &profile).await.assert_status(200);
    made_anew(&here, "Chez Anne").await;
    made_anew("/api/restaurants", "Chez Anne").await;

    read_all().await;
    staff.delete(&here).await.assert_status(204);
    for path in &reads[1..] {
        guest.get(path).await.assert_status(404);
    }
    made_anew("/api/restaurants", "\"items\":[]").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_that_is_sent_again_with_its_key_is_one_reservation() {
    let house = House::open(2).await;
    let send = async |client: &Client, path: &str, wish: &Value| {
        let request = client.request(Method::POST, path).json(wish);
        client.send(request.header("idempotency-key", "one")).await
    };
    let of_guest = house.wish_of_guest(10, "12:00");
    let wish = house.wish(11, "12:00");
    let book = house.book();
    for (client, path, wish) in [
        (&*house.host, "/api/reservations", &of_guest),
        (&house.staff, &*book, &wish),
    ] {
        let first = send(client, path, wish).await.assert_status(201);
        let again = send(client, path, wish).await.assert_status(201);
        assert_eq!(first.header("idempotency-replayed"), None);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.text(), first.text());
        let mut other = wish.clone();
        other["party_size"] = json!(3);
        send(client, path, &other)
            .await
            .assert_problem(422, "idempotency.key_reused");
    }
    assert_eq!(house.free(10, "12:00").await, 1, "one table is taken");
    assert_eq!(house.free(11, "12:00").await, 1);
    // Without a key each is done.
    for free in [1, 0] {
        house
            .host
            .post("/api/reservations", &house.wish_of_guest(12, "12:00"))
            .await
            .assert_status(201);
        assert_eq!(house.free(12, "12:00").await, free);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_name_of_availability_still_answers_and_says_that_it_ends() {
    let house = House::open(1).await;
    let path = |name: &str| {
        let (id, day) = (&house.id, date(10));
        format!("/api/restaurants/{id}/{name}?date={day}&party_size=2")
    };
    let old = house.host.get(&path("slots")).await.assert_status(200);
    let new = house
        .host
        .get(&path("availability"))
        .await
        .assert_status(200);
    assert_eq!(old.text(), new.text());
    assert!(old.header("deprecation").is_some() && old.header("sunset").is_some());
    let links: Vec<_> = old.headers.get_all("link").iter().collect();
    let names_it = |link: &&HeaderValue| link.to_str().unwrap().contains("successor-version");
    assert!(links.iter().any(names_it), "{links:?}");
    assert_eq!(new.header("deprecation"), None);
}
