//! Which code is live: what an author asks for, whether it may have it, where the bytes and the rows are. It leaves
//! running the code to `runtime`.

pub mod artifact;
pub mod bundle;
pub mod manifest;
mod mistake;
mod mount;
pub mod store;
pub mod validate;

pub use mistake::{Location, Mistake};
pub use mount::{InvalidMount, Mount};
