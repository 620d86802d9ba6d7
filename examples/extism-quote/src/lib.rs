//! A handler of requests in a module of Extism: the request comes as JSON, the response goes as JSON.
#![cfg(target_family = "wasm")]

use std::collections::BTreeMap;

use extism_pdk::*;
use serde::{Deserialize, Serialize};

/// The parts of a request that this plugin reads.
#[derive(FromBytes, Deserialize)]
#[encoding(Json)]
struct Request {
    params: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

#[derive(ToBytes, Serialize)]
#[encoding(Json)]
struct Response {
    status: u16,
    headers: BTreeMap<&'static str, &'static str>,
    body: String,
}

#[plugin_fn]
pub fn quote(request: Request) -> FnResult<Response> {
    let author = request.params.get("author").map_or("", String::as_str);
    let language = request.headers.get("accept-language");
    let is_german = language.is_some_and(|language| language.starts_with("de"));
    let quote = match (author, is_german) {
        ("dijkstra", false) => "Simplicity is prerequisite for reliability.",
        ("dijkstra", true) => "Einfachheit ist Voraussetzung für Zuverlässigkeit.",
        // The number is the status, the text is for the client.
        _ => {
            return Err(WithReturnCode::new(
                Error::msg("nobody of this name was quoted"),
                404,
            ))
        }
    };
    Ok(Response {
        status: 200,
        headers: BTreeMap::from([("content-type", "text/plain; charset=utf-8")]),
        body: quote.to_owned(),
    })
}
