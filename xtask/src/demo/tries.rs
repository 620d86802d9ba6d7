//! Requests for the reader to try, as lines for `curl`, and the same requests made here to see that they do what is said.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::api::Api;
use super::state::State;
use super::{MOUNT, accounts, date, restaurant};

/// One request and what is expected of it.
pub(super) struct Try {
    pub(super) about: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Value>,
    /// A file of the repository as the body.
    file: Option<&'static str>,
    status: u16,
    /// How a secret header is written for the reader's shell.
    shown: Option<String>,
}

impl Try {
    fn get(about: &'static str, path: impl Into<String>, status: u16) -> Self {
        let path = path.into();
        Self {
            about,
            method: "GET",
            path,
            headers: Vec::new(),
            body: None,
            file: None,
            status,
            shown: None,
        }
    }

    fn post(about: &'static str, path: impl Into<String>, body: Value, status: u16) -> Self {
        Self {
            method: "POST",
            body: Some(body),
            ..Self::get(about, path, status)
        }
    }

    fn send(about: &'static str, path: impl Into<String>, file: &'static str, status: u16) -> Self {
        Self {
            method: "POST",
            file: Some(file),
            ..Self::get(about, path, status)
        }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The line to paste.
    pub(super) fn as_curl(&self, url: &str) -> String {
        let mut line = "curl -s".to_owned();
        if let Some(shown) = &self.shown {
            line.push_str(&format!(" -H {shown}"));
        } else {
            for (name, value) in &self.headers {
                line.push_str(&format!(" -H '{name}: {value}'"));
            }
        }
        if let Some(body) = &self.body {
            let body = body.to_string().replace('\'', "'\\''");
            line.push_str(&format!(" -H 'content-type: application/json' -d '{body}'"));
        }
        if let Some(file) = self.file {
            line.push_str(&format!(" --data-binary @{file}"));
        }
        format!("{line} '{url}{}'", self.path)
    }

    /// Makes the request and fails if the answer is another one than expected.
    pub(super) fn check(&self, api: &Api) -> anyhow::Result<()> {
        let body = self.body.as_ref().map(Value::to_string);
        let body = match self.file {
            Some(file) => fs::read(crate::root().join(file))?,
            None => body.unwrap_or_default().into_bytes(),
        };
        let answer = if self.shown.is_some() {
            api.as_admin(self.method, &self.path, &body)?
        } else {
            api.send(self.method, &self.path, &self.headers, &body)?
        };
        answer.check(self.status)
    }
}

/// What can be tried now.
pub(super) fn list(api: &Api, state: &State, data: &Path) -> anyhow::Result<Vec<Try>> {
    let id = state
        .text(restaurant::ID)
        .context("the restaurant has an id")?;
    let key = accounts::staff_key(state).context("the staff has a key")?;
    let (email, _, _) = accounts::ACCOUNTS[1];
    let password = state
        .text(&accounts::password_of(email))
        .unwrap_or_default();
    let (day, time) = free_slot(api, &id)?;
    let availability = format!("{MOUNT}/restaurants/{id}/availability?date={day}&party_size=2");
    let booking = json!({
        "restaurant_id": id, "date": day, "time": time, "party_size": 2,
        "guest": { "name": "Bob Martin", "email": "bob@example.com", "phone": "+33 6 12 34 56 78" },
    });
    let reservations = format!("{MOUNT}/reservations?restaurant_id={id}&date={day}");
    let key_file = data.join("admin.key");
    let shown = format!("\"authorization: Bearer $(cat '{}')\"", key_file.display());
    let as_operator = |about, path: &str| Try {
        shown: Some(shown.clone()),
        ..Try::get(about, path, 200)
    };
    let operator = as_operator(
        "what is deployed (whoever can read the data may ask)",
        "/_gantry/api/v1/plugins",
    );
    Ok(vec![
        Try::get(
            "the restaurants, for everybody",
            format!("{MOUNT}/restaurants"),
            200,
        ),
        Try::get("when two people can come", availability, 200),
        Try::post(
            "book a table as a guest; the answer has a link to come back with",
            format!("{MOUNT}/reservations"),
            booking,
            201,
        ),
        Try::get(
            "the reservations are not for everybody: 401",
            reservations.clone(),
            401,
        ),
        Try::get(
            "what the code of that answer means",
            "/_gantry/errors/auth.required",
            200,
        ),
        Try::get("they are for the staff", reservations, 200).with("x-api-key", key.clone()),
        Try::send(
            "send a photo of a dish; the answer says where it is, and where its smaller versions are",
            format!("{MOUNT}/photos?filename=soup.jpg"),
            "plugins/techplus/demo/soup.jpg",
            201,
        )
        .with("content-type", "image/jpeg")
        .with("x-api-key", key),
        Try::get(
            "which photos there are, for everybody",
            format!("{MOUNT}/photos"),
            200,
        ),
        Try::post(
            "log in as one of the staff",
            "/api/auth/login",
            json!({ "email": email, "password": password }),
            200,
        ),
        operator,
        Try::get(
            "the admin API, as OpenAPI",
            "/_gantry/api/v1/openapi.json",
            200,
        ),
        as_operator("what a Prometheus would read", "/metrics"),
    ])
}

/// A day and a time at which a table for two is free, tomorrow or as soon as there is one.
fn free_slot(api: &Api, id: &str) -> anyhow::Result<(String, String)> {
    let today = date::today();
    for day in (1..60).map(|after| date::text(today + after)) {
        let path = format!("{MOUNT}/restaurants/{id}/availability?date={day}&party_size=2");
        let answer = api.send("GET", &path, &[], b"")?.expect(200)?;
        let slots = answer["slots"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let free = slots.iter().find(|slot| slot["is_available"] == true);
        if let Some(time) = free.and_then(|slot| slot["time"].as_str()) {
            return Ok((day, time.to_owned()));
        }
    }
    anyhow::bail!("no table for two is free in the next two months")
}
