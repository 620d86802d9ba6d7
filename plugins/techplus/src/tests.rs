//! The plugin as its clients see it, on a real SQLite database.

mod availability;
mod booking;
mod catalogue;
mod changing;
mod demo;
mod finding;
mod manage;
mod manifest;

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;
use gantry_sdk::testing::{self, TestApp, TestPrincipal, TestResponse};

use crate::time::{Day, Millis};
use crate::zone::Zone;

/// A restaurant in Paris that is open from 18:00 to 23:00, on Fridays until 02:00.
struct House {
    app: TestApp,
    id: String,
}

impl House {
    /// With a table for each pair of least and most people: `T1`, `T2`, ….
    fn open(tables: &[(u32, u32)]) -> Self {
        let app = TestApp::new(crate::app())
            .config("slot_minutes", 30)
            .config(
                "durations",
                json!([{ "up_to": 2, "minutes": 90 }, { "up_to": 8, "minutes": 120 }]),
            )
            .config("buffer_minutes", 0)
            .config("advance_days_max", 90)
            .config("party_size_max", 12)
            .config("cancellation_hours", 24)
            .config("confirmation", "automatic")
            .config("manage_url", "https://example.com/r/{token}");
        testing::migrate("main", include_str!("../migrations/0001_restaurants.sql"));
        testing::migrate("main", include_str!("../migrations/0002_reservations.sql"));
        login("Ann");
        let restaurant = json!({ "name": "Chez Ann", "time_zone": "Europe/Paris" });
        let id = text(
            &expect(201, &app.post_json("/restaurants", &restaurant)),
            "/id",
        );
        let house = Self { app, id };
        house.set_hours(&json!([]));
        for (number, (min, max)) in (1..).zip(tables) {
            let table =
                json!({ "name": format!("T{number}"), "capacity_min": min, "capacity_max": max });
            expect(201, &house.app.post_json(&house.path("tables"), &table));
        }
        house
    }

    fn set_hours(&self, closed_days: &Value) {
        let days = [
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
        ];
        let period = |day: &str| {
            let closes = if day == "friday" { "02:00" } else { "23:00" };
            json!({ "weekday": day, "opens": "18:00", "closes": closes })
        };
        let hours = json!({ "weekly": days.map(period), "closed_days": closed_days });
        expect(200, &self.app.put_json(&self.path("hours"), &hours));
    }

    fn path(&self, below: &str) -> String {
        format!("/restaurants/{}/{below}", self.id)
    }

    /// The body of a booking: next Wednesday at a time.
    fn wish(&self, time: &str, party_size: u32) -> Value {
        json!({
            "restaurant_id": self.id,
            "date": wednesday(),
            "time": time,
            "party_size": party_size,
            "guest": { "name": "Bob Martin", "email": "bob@example.com", "phone": "+33 6 12 34 56 78" },
        })
    }

    fn book(&self, time: &str, party_size: u32) -> TestResponse {
        self.app
            .post_json("/reservations", &self.wish(time, party_size))
    }

    fn table_id(&self, name: &str) -> String {
        let tables = expect(200, &self.app.get(&self.path("tables")));
        let table = tables["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|table| table["name"] == name);
        text(table.unwrap(), "/id")
    }

    /// The times of a date that can be had, with the number of free tables.
    fn free_times(&self, date: Day, party_size: u32) -> Vec<(String, u64)> {
        let path = self.path(&format!("availability?date={date}&party_size={party_size}"));
        let answer = expect(200, &self.app.get(&path));
        let slots = answer["slots"].as_array().unwrap().iter();
        let free = slots.filter(|slot| slot["is_available"] == true);
        free.map(|slot| (text(slot, "/time"), slot["tables_free"].as_u64().unwrap()))
            .collect()
    }

    fn set_status(&self, id: &str, status: &str) -> TestResponse {
        self.app.post_json(
            &format!("/reservations/{id}/status"),
            &json!({ "status": status }),
        )
    }
}

/// The next day of this ISO number that is at least two days away.
fn next(weekday: i64) -> Day {
    let today = Zone::find("Europe/Paris")
        .unwrap()
        .local(Millis::now())
        .day();
    let mut ahead = (2..9).map(|days| later(today, days));
    ahead.find(|day| day.weekday() == weekday).unwrap()
}

fn wednesday() -> Day {
    next(3)
}

fn later(day: Day, days: i64) -> Day {
    day.plus(days)
}

fn login(name: &str) {
    testing::with(|host| host.principal = Some(TestPrincipal::user(name, &["reservations.write"])));
}

fn logout() {
    testing::with(|host| host.principal = None);
}

#[track_caller]
fn expect(status: u16, response: &TestResponse) -> Value {
    assert_eq!(response.status(), status, "{}", response.text());
    if response.text().is_empty() {
        Value::Null
    } else {
        response.json()
    }
}

#[track_caller]
fn refused(response: &TestResponse) -> (u16, String) {
    (response.status(), response.code())
}

#[track_caller]
fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .expect(pointer)
        .to_owned()
}
