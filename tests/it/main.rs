//! One binary with all tests that need more than one crate.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by failing")]
#![expect(
    clippy::disallowed_methods,
    reason = "tasks of a test end with the test"
)]

mod accounting;
mod accounts;
mod admin;
mod app;
mod audit;
mod auth;
mod breaker;
mod browsers;
mod cache;
mod cli;
mod cluster;
mod components;
mod connections;
mod documentation;
mod examples;
mod extism;
mod files;
mod filters;
mod fuzz;
mod gateway;
mod golden;
mod hostile;
mod idempotency;
mod keys;
mod languages;
mod limits;
mod logs;
mod manifests;
mod operators;
mod plugins;
mod policy;
mod postgres;
mod random;
mod registry;
mod restore;
mod scale;
mod security;
mod services;
mod soak;
mod streams;
mod techplus;
mod tidy;
mod told;
mod trust;
mod validation;
mod versions;
