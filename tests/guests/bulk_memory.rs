//! Keeps the processor busy with instructions that each move megabytes: `/fill`, else copies back and forth.

use std::hint::black_box;

use gantry_sdk::prelude::*;

const BYTES: usize = 8 << 20;

#[gantry_sdk::handler]
fn never(request: Request) -> Response {
    let mut from = vec![1u8; BYTES];
    let mut to = vec![0u8; BYTES];
    while black_box(true) {
        if request.path == "/fill" {
            black_box(&mut to).fill(black_box(7));
        } else {
            black_box(&mut to).copy_from_slice(black_box(&from));
            std::mem::swap(&mut from, &mut to);
        }
    }
    Response::no_content()
}
