//! Tries to remember, in every place that Rust code can reach, what a request brought, and to find what earlier ones
//! brought: in a static, on the heap, on the stack, and by reading all of its memory.

use std::{
    cell::RefCell,
    hint::black_box,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use gantry_sdk::prelude::*;

static CALLS: AtomicU64 = AtomicU64::new(0);
static FIRST: OnceLock<Vec<u8>> = OnceLock::new();
static HOARD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

thread_local! {
    static LOCAL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Deserialize)]
struct Ask {
    /// To be remembered.
    token: String,
    /// What to look for, each byte inverted, so that the question is not found itself.
    wanted: Vec<u8>,
}

#[derive(Serialize)]
struct Found {
    calls: u64,
    kept: usize,
    first: String,
    in_memory: usize,
}

#[gantry_sdk::handler]
fn hoard(Json(ask): Json<Ask>) -> Json<Found> {
    let in_memory = look_for(&ask.wanted);
    let kept = LOCAL.with_borrow(Vec::len) + HOARD.lock().map_or(0, |hoard| hoard.len());
    let token = ask.token.into_bytes();
    let first = FIRST.get_or_init(|| token.clone());
    let found = Found {
        calls: CALLS.fetch_add(1, Relaxed) + 1,
        kept,
        first: String::from_utf8_lossy(first).into_owned(),
        in_memory,
    };
    LOCAL.with_borrow_mut(|local| local.push(token.clone()));
    if let Ok(mut hoard) = HOARD.lock() {
        hoard.push(token.clone());
    }
    Box::leak(token.clone().into_boxed_slice());
    leave_on_the_stack(&token, 100);
    Json(found)
}

/// How often the bytes are anywhere in the linear memory.
#[cfg(target_arch = "wasm32")]
fn look_for(inverted: &[u8]) -> usize {
    let length = core::arch::wasm32::memory_size(0) * 65_536;
    #[expect(
        unsafe_code,
        reason = "reading what nobody gave it is what this guest is for"
    )]
    // SAFETY: all of a linear memory can be read.
    let memory = |at: usize| unsafe { std::ptr::read_volatile(at as *const u8) };
    (1..length.saturating_sub(inverted.len()))
        .filter(|at| (0..inverted.len()).all(|i| memory(at + i) == !inverted[i]))
        .count()
}

#[cfg(not(target_arch = "wasm32"))]
fn look_for(_: &[u8]) -> usize {
    0
}

fn leave_on_the_stack(token: &[u8], depth: u32) {
    let mut frame = [0_u8; 128];
    for (place, byte) in frame.iter_mut().zip(token) {
        *place = *byte;
    }
    if depth > 0 {
        leave_on_the_stack(token, depth - 1);
    }
    black_box(&frame);
}
