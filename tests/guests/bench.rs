//! The guest of the benchmarks: the same JSON handler that the native servers have, and host calls to be counted.

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Greet {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    message: String,
    len: usize,
}

#[derive(Deserialize)]
struct Calls {
    count: u32,
}

#[gantry_sdk::main]
fn app() -> Router {
    Router::new()
        .post("/greet", greet)
        .post("/echo", echo)
        .get("/calls", calls)
}

/// Gives the body back.
fn echo(body: Vec<u8>) -> Response {
    Response::bytes("application/octet-stream", body)
}

fn greet(Json(greet): Json<Greet>) -> Json<Greeting> {
    let message = format!("Hello, {}!", greet.name);
    Json(Greeting {
        len: message.len(),
        message,
    })
}

/// Asks the host for something small, so often.
fn calls(Query(calls): Query<Calls>) -> Json<u64> {
    Json(
        (0..calls.count)
            .map(|_| u64::from(context::attempt()))
            .sum(),
    )
}
