//! The raw contract, generated from `wit/` by `cargo xtask bindings`. Plugins use the modules above it instead.
#![allow(
    unsafe_code,
    unreachable_pub,
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    clippy::str_to_string,
    clippy::uninlined_format_args,
    clippy::unwrap_used,
    rustdoc::all,
    reason = "generated code"
)]

#[rustfmt::skip] // likewise
pub mod filtering_requests;
#[rustfmt::skip] // likewise
pub mod filtering_responses;
#[rustfmt::skip] // as the generator writes it, so that `cargo xtask bindings --check` can compare
pub mod checked;
#[rustfmt::skip] // likewise
pub mod migrating;
#[rustfmt::skip] // likewise
pub mod module;
#[rustfmt::skip] // likewise
pub mod transformation;
