//! Answers exactly what the body of the request tells, however wrong.

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Wish {
    status: u16,
    headers: Vec<(String, String)>,
    body_bytes: usize,
}

#[gantry_sdk::handler]
fn answer(Json(wish): Json<Wish>) -> Response {
    Response {
        status: wish.status,
        headers: wish.headers,
        body: vec![b'x'; wish.body_bytes],
    }
}
