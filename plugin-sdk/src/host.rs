//! The one place that knows where the host is: the imports of the component, or, in native tests, `testing`.

#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::module::{
    gantry::blobs::store as blobs,
    gantry::cache::{purge, store as cache},
    gantry::context::{identity, invocation},
    gantry::http::request_headers,
    gantry::kv::store as kv,
    gantry::secrets::{reveal, store as secrets},
    gantry::sql::client as sql,
    gantry::tokens::tokens,
    wasi::config::store as config,
    wasi::logging::logging,
};
#[cfg(target_family = "wasm")]
pub(crate) use crate::outbound::wasi as outbound;

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::host::{
    blobs, cache, config, identity, invocation, kv, logging, outbound, purge, request_headers,
    reveal, secrets, sql, tokens,
};
