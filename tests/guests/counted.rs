//! Counts its calls, and answers as the query tells: after a while, with these headers (`name:value|name:value`) and so
//! many bytes, or not at all. `/calls` tells the count, `/mode` decides whether all else fails from now on.

use std::time::Duration;

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    ms: u64,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    headers: String,
    #[serde(default)]
    bytes: usize,
    #[serde(default)]
    fail: String,
}

#[gantry_sdk::handler]
fn counted(Query(wish): Query<Wish>, request: Request) -> Result<Response> {
    let counts = kv::open("counts")?;
    if request.path == "/calls" {
        return Ok(Response::text(counts.increment("calls", 0)?.to_string()));
    }
    if request.path == "/mode" {
        counts.put("mode", wish.fail.as_bytes())?;
        return Ok(Response::no_content());
    }
    let call = counts.increment("calls", 1)?;
    std::thread::sleep(Duration::from_millis(wish.ms));
    let mode = counts.get("mode")?.unwrap_or_default();
    match if wish.fail.is_empty() {
        mode.as_slice()
    } else {
        wish.fail.as_bytes()
    } {
        b"" => {}
        b"conflict" => return Err(Error::conflict("counted.conflict", "as was asked for")),
        b"trap" => panic!("as was asked for"),
        _ => return Err(Error::internal("as was asked for")),
    }
    let who = identity::current().map_or("nobody".to_owned(), |who| who.id().to_owned());
    let seen = |name| request.header(name).unwrap_or_default();
    let mut answer = Response::text(format!(
        "call {call} for {who} {} {} {}",
        seen("x-vary"),
        seen("x-in"),
        seen("x-forwarded-host"),
    ));
    if wish.bytes > 0 {
        answer = answer.with_body(vec![b'x'; wish.bytes]);
    }
    if wish.status > 0 {
        answer.status = wish.status;
    }
    for header in wish.headers.split('|').filter(|header| !header.is_empty()) {
        let (name, value) = header.split_once(':').unwrap_or((header, ""));
        answer = answer.with_added_header(name, value);
    }
    Ok(answer)
}
