//! Accounts of people over HTTP: logging in, staying logged in, and what others try with it.

mod hashing;
mod issuers;
mod mail;
mod nodes;
mod pages;
mod providers;
mod recovery;
mod registration;
mod sessions;
mod token_keys;
mod totp;

use gantry_harness::{Answer, Client, TestHost};
use serde_json::{Value, json};

/// Of every account that the harness makes.
const PASSWORD: &str = "correct horse battery";

/// Logs in; the whole body.
async fn log_in(host: &TestHost, email: &str, password: &str) -> Value {
    let login = json!({ "email": email, "password": password });
    let answer = host.post("/api/auth/login", &login).await;
    let answer = answer.assert_status(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

async fn refresh(client: &Client, refresh_token: &Value) -> Answer {
    let body = json!({ "refresh_token": refresh_token });
    client.post("/api/auth/refresh", &body).await
}

/// A client with the access token of such a body.
fn with(host: &TestHost, tokens: &Value) -> Client {
    host.with_token(tokens["access_token"].as_str().unwrap())
}
