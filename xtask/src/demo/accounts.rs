//! Three people and a key: an administrator, one of the staff, a guest with an account.

use anyhow::{Context, bail};
use serde_json::json;

use super::PLUGIN;
use super::api::Api;
use super::state::{State, new_password};

const ROLE: &str = "staff";
const KEY: &str = "staff-key";

/// The address, the roles, and what this is for.
pub(super) const ACCOUNTS: [(&str, &[&str], &str); 3] = [
    ("admin@example.com", &["admin"], "may do everything"),
    ("staff@example.com", &[ROLE], "runs the restaurant"),
    ("guest@example.com", &[], "has an account and no rights"),
];

/// The name of an account's password in the state.
pub(super) fn password_of(email: &str) -> String {
    format!("password of {email}")
}

/// The key of the staff.
pub(super) fn staff_key(state: &State) -> Option<String> {
    state.text(KEY)
}

/// Creates what is not there yet.
pub(super) fn ensure(api: &Api, state: &mut State) -> anyhow::Result<()> {
    let role = json!({ "name": ROLE, "permissions": [format!("{PLUGIN}:*")] });
    let made = api.admin("POST", "/roles", role.to_string().as_bytes())?;
    if made.status != 409 {
        made.check(201)?;
    }
    for (email, roles, _) in ACCOUNTS {
        let name = password_of(email);
        if state.text(&name).is_some() {
            continue;
        }
        let password = new_password()?;
        let user = json!({ "email": email, "password": password, "roles": roles });
        let made = api.admin("POST", "/users", user.to_string().as_bytes())?;
        if made.status == 409 {
            bail!(
                "the account {email} exists and demo.json, which had its password, is gone; remove the data folder"
            );
        }
        made.check(201)?;
        state.set(&name, password);
        state.save()?;
    }
    if staff_key(state).is_none() {
        let key = json!({ "name": "demo", "roles": [ROLE] });
        let made = api
            .admin("POST", "/api-keys", key.to_string().as_bytes())?
            .expect(201)?;
        state.set(
            KEY,
            made["token"]
                .as_str()
                .context("a new API key has a token")?,
        );
        state.save()?;
    }
    Ok(())
}

pub(super) fn print(state: &State) {
    println!();
    for (email, _, about) in ACCOUNTS {
        let password = state.text(&password_of(email)).unwrap_or_default();
        println!("  {email}  password {password}  {about}");
    }
}
