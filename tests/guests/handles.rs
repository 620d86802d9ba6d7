//! Opens buckets and lets go of them in the order that it is told, and tells which numbers their handles had.

use gantry_sdk::prelude::*;

#[derive(Deserialize)]
struct Ask {
    open: usize,
    /// Places in the list of those still open, one after the other.
    #[serde(default)]
    close: String,
    /// How many to leave open in a way that nobody closes.
    #[serde(default)]
    forget: usize,
}

#[gantry_sdk::handler]
fn handles(Query(ask): Query<Ask>) -> Result<Json<Vec<u32>>> {
    let mut open = Vec::new();
    for _ in 0..ask.open {
        open.push(kv::open("state")?);
    }
    let numbers = open.iter().map(number).collect();
    for place in ask.close.bytes() {
        let place = usize::from(place.saturating_sub(b'0'));
        if place < open.len() {
            drop(open.remove(place));
        }
    }
    for bucket in open.drain(..ask.forget.min(open.len())) {
        std::mem::forget(bucket);
    }
    Ok(Json(numbers))
}

/// The number of the handle, which is all that there is in it.
#[expect(unsafe_code, reason = "the SDK does not tell the number of a handle")]
fn number<T>(bucket: &T) -> u32 {
    assert!(size_of::<T>() >= 4, "a handle is a number");
    // SAFETY: it begins with the number, which has four bytes.
    unsafe { std::ptr::from_ref(bucket).cast::<u32>().read_unaligned() }
}
