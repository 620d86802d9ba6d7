//! Answers, but never gets done with what it leaves behind: `/value` loops while it drops a value of its own, `/bucket`
//! while it opens and drops handles of the host.

use std::hint::black_box;

use gantry_sdk::prelude::*;

struct Sticky;

impl Drop for Sticky {
    fn drop(&mut self) {
        while black_box(true) {}
    }
}

#[gantry_sdk::handler]
fn never(request: Request) -> Result<Response> {
    if request.path == "/value" {
        let _sticky = black_box(Sticky);
        return Ok(Response::no_content());
    }
    loop {
        drop(black_box(kv::open("data")?));
    }
}
