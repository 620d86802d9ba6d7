//! Keeps and reads entries with `wasi:keyvalue`, and asks for settings and logs with `wasi:config` and `wasi:logging`: a
//! component that knows only the standards.
#![cfg(target_family = "wasm")]

use std::io::Write as _;

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::{atomics, batch, store};
use bindings::wasi::logging::logging;

#[allow(unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated")]
#[rustfmt::skip]
mod bindings;

struct Component;

wasip2::http::proxy::export!(Component);

impl wasip2::exports::http::incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let text = match answer(&path) {
            Ok(text) => text,
            Err(error) => format!("{error:?}"),
        };
        logging::log(logging::Level::Info, "standards", &text);
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("a new response has its body");
        ResponseOutparam::set(outparam, Ok(response));
        if let Ok(mut out) = body.write() {
            let _ = out.write_all(text.as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

fn answer(path: &str) -> Result<String, store::Error> {
    let text =
        |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
    if path == "/config" {
        return Ok(format!("{:?}", config::get("greeting")));
    }
    if let Some(label) = path.strip_prefix("/open/") {
        return store::open(label).map(|_| "opened".to_owned());
    }
    let bucket = store::open("main")?;
    match path {
        "/one" => {
            bucket.set("a", b"1")?;
            let (value, exists) = (text(bucket.get("a")?), bucket.exists("a")?);
            bucket.delete("a")?;
            bucket.delete("a")?;
            let after = (text(bucket.get("a")?), bucket.exists("a")?);
            Ok(format!("{value:?} {exists} {after:?}"))
        }
        "/count" => {
            atomics::increment(&bucket, "n", 2)?;
            let sum = atomics::increment(&bucket, "n", 3)?;
            let refused = atomics::increment(&bucket, "n", u64::MAX).is_err();
            Ok(format!("{sum} {refused}"))
        }
        "/many" => {
            let pair = |key: &str| (key.to_owned(), key.as_bytes().to_vec());
            batch::set_many(&bucket, &[pair("x"), pair("y")])?;
            let keys = ["y", "z", "x"].map(str::to_owned);
            let got = batch::get_many(&bucket, &keys)?;
            batch::delete_many(&bucket, &["x".to_owned(), "y".to_owned()])?;
            let got: Vec<_> = got
                .into_iter()
                .map(|pair| pair.map(|(key, value)| (key, text(Some(value)))))
                .collect();
            let too_many = vec!["k".to_owned(); 101];
            let refused = batch::delete_many(&bucket, &too_many).is_err();
            Ok(format!("{got:?} {refused}"))
        }
        "/pages" => {
            for first in 0..25 {
                let keys: Vec<_> = (0..100)
                    .map(|n| (format!("k{first:02}{n:02}"), Vec::new()))
                    .collect();
                batch::set_many(&bucket, &keys)?;
            }
            let (mut all, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = bucket.list_keys(cursor)?;
                all.extend(page.keys);
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            // Another handle does not know where a page ended.
            let middle = store::open("main")?.list_keys(Some(1500))?;
            let is_sorted = all.is_sorted();
            let (keys, first) = (all.len(), middle.keys.first());
            Ok(format!(
                "{keys} {pages} {is_sorted} {}",
                first == all.get(1500)
            ))
        }
        other => Ok(format!("there is no {other}")),
    }
}
