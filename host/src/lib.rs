//! Gantry: a server that hosts sandboxed WebAssembly plugins. `ARCHITECTURE.md` has the map; a module imports only
//! from rows below its own.

// Whether a call may move between threads is asked of all types of the HTTP client inside it, and they are deep.
#![recursion_limit = "256"]

pub mod address;
pub mod admin;
pub mod app;
pub mod audit;
pub mod auth;
pub mod bindings;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod condition;
pub mod config;
pub mod db;
pub mod gateway;
pub mod http;
pub mod idempotency;
pub mod ids;
pub mod ledger;
pub mod limits;
pub mod mail;
pub mod openapi;
pub mod pattern;
pub mod plugins;
pub mod runtime;
pub mod seal;
pub mod services;
pub mod telemetry;
