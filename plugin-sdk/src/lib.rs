//! Write plugins for Gantry: a router, extractors, errors, and one module for each service of the host.
//!
//! A whole plugin:
//!
//! ```
//! use gantry_sdk::prelude::*;
//!
//! #[derive(Serialize)]
//! struct Greeting {
//!     message: String,
//!     visits: i64,
//! }
//!
//! #[gantry_sdk::main]
//! fn app() -> Router {
//!     Router::new().get("/hello/{name}", hello)
//! }
//!
//! fn hello(Path(name): Path<String>) -> Result<Json<Greeting>> {
//!     let visits = kv::open("counters")?.increment(&name, 1)?;
//!     Ok(Json(Greeting { message: format!("Hello, {name}!"), visits }))
//! }
//! ```
//!
//! Its `Cargo.toml` (serde's derives want the crate itself beside the SDK):
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! gantry-sdk = "0.1"
//! serde = { version = "1", features = ["derive"] }
//! ```
//!
//! Its manifest, `plugin.toml`:
//!
//! ```toml
//! schema = 1
//!
//! [plugin]
//! name = "hello"
//! version = "0.1.0"
//! description = "Greets and counts."
//! license = "Apache-2.0"
//!
//! [component]
//! path = "target/wasm32-wasip2/release/hello.wasm"
//!
//! [[route]]
//! method = "GET"
//! path = "/hello/{name}"
//! auth = "public"
//!
//! [capabilities]
//! kv = ["counters"]
//! ```
//!
//! `cargo build --target wasm32-wasip2 --release` makes the component. `cargo test` runs the same code natively,
//! against the host in memory of [`testing`].
//!
//! # What an instance lives for
//!
//! Each request gets a fresh instance, so a `static` starts anew with each request, and nothing can leak from one
//! caller to another. What should last goes to [`kv`] or [`sql`].
//!
//! # Memory
//!
//! With the feature `arena` (on by default) the SDK sets the global allocator: the first 40 KiB come from a region
//! that is part of the component's initial memory, so that a usual request never grows it. Growing costs the server
//! a system call that all its threads wait for. What does not fit comes from the ordinary allocator behind it, so
//! long runs and large bodies just work. Turn the feature off to set an allocator of your own.

// The attributes and the generated bindings name this crate by one path, also from inside.
extern crate self as gantry_sdk;

#[cfg(any(all(target_family = "wasm", feature = "arena"), test))]
mod arena;
#[doc(hidden)]
pub mod bindings;
pub mod blobs;
pub mod cache;
pub mod config;
pub mod context;
mod error;
mod extract;
pub mod filter;
mod host;
pub mod identity;
pub mod kv;
pub mod log;
pub mod outbound;
mod pairs;
mod request;
mod response;
mod router;
pub mod secrets;
pub mod sql;
#[cfg(target_family = "wasm")]
mod stdio;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod tokens;
mod transform;

pub use error::{Error, ErrorKind, FieldError, OptionExt, Result, ResultExt};
pub use extract::{Bytes, FromRequest, Json, Path, Query};
pub use filter::{Changes, Verdict};
/// Makes a function the plugin: it answers every request itself, without a router.
///
/// The arguments are extractors. [`Path`] gives the parameters of the route in `plugin.toml`.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::handler]
/// fn handle(request: Request) -> Result<Response> {
///     Ok(Response::text(format!("You asked for {}", request.path)))
/// }
/// ```
pub use gantry_sdk_macros::handler;
/// Makes a function the gate of this version: the host calls it before the version goes live.
///
/// An error, a panic or no answer in time refuses the deployment, and what was live stays live. It sees settings,
/// secrets, databases and granted hosts as a request does.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::health]
/// fn health() -> Result<()> {
///     config::get("greeting")?.or_404("the setting `greeting` is missing")?;
///     Ok(())
/// }
/// ```
pub use gantry_sdk_macros::health;
/// Makes a router the plugin: goes on a function without arguments that returns a [`Router`].
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::main]
/// fn app() -> Router {
///     Router::new().get("/ping", || "pong")
/// }
/// ```
pub use gantry_sdk_macros::main;
/// Makes a function the work on data that this version begins with: the host calls it once for each version of the
/// plugin, after the migrations of its databases and before [`health`](macro@health).
///
/// The version before this one is still answering, so only add. Doing it twice must do no harm: if the host dies
/// halfway, it is called again.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::migrate]
/// fn migrate() -> Result<()> {
///     kv::open("counters")?.increment("schema", 1)?;
///     Ok(())
/// }
/// ```
pub use gantry_sdk_macros::migrate;
/// Makes a function a filter of requests: it sees them before the plugins whose routes name it.
///
/// See [`filter`] for what it may return. It may stand beside a [`response_filter`](macro@response_filter).
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::request_filter]
/// fn mark(request: Request) -> Result<Changes> {
///     Ok(Changes::none().set_header("x-original-path", request.path))
/// }
/// # let _ = mark;
/// ```
pub use gantry_sdk_macros::request_filter;
/// Makes a function a filter of responses: it sees the answers of the plugins whose routes name it.
///
/// See [`filter`] for what it may return.
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::response_filter]
/// fn hide(_response: Response) -> Result<Changes> {
///     Ok(Changes::none().remove_header("x-powered-by"))
/// }
/// # let _ = hide;
/// ```
pub use gantry_sdk_macros::response_filter;
/// Makes a function a test of the whole plugin: as a component, on a real host of its own.
///
/// ```
/// use gantry_sdk::prelude::*;
/// use gantry_sdk::testing::{RealHost, TestPrincipal};
///
/// #[gantry_sdk::test]
/// fn only_who_may_forgets_a_page(host: &mut RealHost) {
///     assert_eq!(host.post("/pages/home/visits").status(), 200);
///     assert_eq!(host.delete("/pages/home").code(), "auth.required");
///     host.login(TestPrincipal::user("ann", &["pages.write"]));
///     assert_eq!(host.delete("/pages/home").status(), 204);
/// }
/// ```
///
/// The plugin is the one in the package's folder, or in the folder that is named: `#[gantry_sdk::test("../shop")]`. It is
/// built as `plugin.toml` says. The test needs the executable `gantry`, see [`testing::RealHost::start`].
#[cfg(not(target_family = "wasm"))]
pub use gantry_sdk_macros::test;
/// Makes a function a transformation: one document in, one document out.
///
/// With types, the documents are JSON. A second argument takes the parameters of the step (or of the query).
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[derive(Deserialize)]
/// struct Celsius { celsius: f64 }
/// #[derive(Serialize)]
/// struct Fahrenheit { fahrenheit: f64 }
///
/// #[gantry_sdk::transform]
/// fn convert(input: Celsius) -> Result<Fahrenheit> {
///     Ok(Fahrenheit { fahrenheit: input.celsius * 1.8 + 32.0 })
/// }
/// ```
///
/// With [`Document`], any bytes:
///
/// ```
/// use gantry_sdk::prelude::*;
///
/// #[gantry_sdk::transform]
/// fn shout(input: Document) -> Result<Document> {
///     Ok(Document::new("text/plain", input.text()?.to_uppercase()))
/// }
/// ```
pub use gantry_sdk_macros::transform;
pub use identity::Principal;
pub use request::Request;
pub use response::{IntoResponse, Response};
pub use router::{Handler, Router};
pub use transform::{Document, Transformation};
pub use {serde, serde_json};

/// Everything a plugin usually needs: `use gantry_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::sql::Executor;
    pub use crate::{
        Bytes, Changes, Document, Error, ErrorKind, FromRequest, IntoResponse, Json, OptionExt,
        Path, Principal, Query, Request, Response, Result, ResultExt, Router, Verdict,
    };
    pub use crate::{config, context, identity, kv, log, outbound, params, secrets, sql, tokens};
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::json;
}

/// What the attributes and the generated code name. Not part of the SDK's promise.
#[doc(hidden)]
pub mod __rt {
    pub use crate::bindings;
    pub use crate::bindings::checked::export_checked;
    pub use crate::bindings::checked::exports::gantry::lifecycle::health::Guest as HealthGuest;
    pub use crate::bindings::filtering_requests::export_filtering_requests;
    pub use crate::bindings::filtering_requests::exports::gantry::http::request_filter::Guest as RequestFilterGuest;
    pub use crate::bindings::filtering_requests::gantry::http::filter::Verdict as WitVerdict;
    pub use crate::bindings::filtering_responses::export_filtering_responses;
    pub use crate::bindings::filtering_responses::exports::gantry::http::response_filter::Guest as ResponseFilterGuest;
    pub use crate::bindings::migrating::export_migrating;
    pub use crate::bindings::migrating::exports::gantry::lifecycle::migrate::Guest as MigrateGuest;
    pub use crate::bindings::module::export_module;
    pub use crate::bindings::module::exports::gantry::http::handler::{
        Guest as HandlerGuest, Request as WitRequest, Response as WitResponse,
    };
    pub use crate::bindings::module::gantry::types::types::Error as WitError;
    pub use crate::bindings::transformation::export_transformation;
    pub use crate::bindings::transformation::exports::gantry::transform::transform::{
        Document as WitDocument, Guest as TransformGuest,
    };
    pub use crate::filter::{after, before};
    pub use crate::transform::transform;

    use crate::{Error, Request, Response, Result};

    /// Does what the host asks for before this version goes live.
    pub fn hook(work: impl FnOnce() -> Result<()>) -> Result<(), WitError> {
        work().map_err(Error::into_wit_for_operators)
    }

    /// Answers one request of the host.
    pub fn serve(
        request: WitRequest,
        answer: impl FnOnce(&mut Request) -> Result<Response>,
    ) -> Result<WitResponse, WitError> {
        let response = answer(&mut Request::of(request))
            .or_else(Error::into_answer)
            .map(Response::into_wit);
        #[cfg(target_family = "wasm")]
        crate::stdio::flush();
        response
    }
}

/// The pages for authors, so that their code is compiled and run.
#[cfg(doctest)]
mod guide {
    macro_rules! pages {
        ($($page:ident => $file:literal),* $(,)?) => {
            $(#[doc = include_str!(concat!("../../docs/guide/", $file))] struct $page;)*
        };
    }
    pages! {
        Config => "config.md",
        Filters => "filters.md",
        Http => "http.md",
        Identity => "identity.md",
        Kv => "kv.md",
        Log => "log.md",
        Outbound => "outbound.md",
        Secrets => "secrets.md",
        Sql => "sql.md",
        Testing => "testing.md",
        Tokens => "tokens.md",
        Transform => "transform.md",
    }
}
