//! Which code is live: what an author asks for, whether it may have it, where the bytes and the rows are. It leaves
//! running the code to `runtime`.

pub mod manifest;
mod mistake;

pub use mistake::{Location, Mistake};
