//! The contract in `wit/` as Rust types: the one place where bindings are generated.
//!
//! Services see the Wasm side only through what is re-exported here.

pub use wasmtime::{
    Result,
    component::{HasData, Resource, ResourceTable},
};

#[allow(
    unreachable_pub,
    clippy::all,
    clippy::str_to_string,
    clippy::needless_pass_by_value,
    clippy::uninlined_format_args,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod generated {
    wasmtime::component::bindgen!({
        path: [
            "../wit/deps/wasi-io",
            "../wit/deps/wasi-clocks",
            "../wit/deps/wasi-random",
            "../wit/deps/wasi-filesystem",
            "../wit/deps/wasi-sockets",
            "../wit/deps/wasi-cli",
            "../wit/deps/wasi-http",
            "../wit/deps/wasi-config",
            "../wit/deps/wasi-keyvalue",
            "../wit/deps/wasi-logging",
            "../wit/types",
            "../wit/context",
            "../wit/http",
            "../wit/kv",
            "../wit/cache",
            "../wit/blobs",
            "../wit/sql",
            "../wit/secrets",
            "../wit/tokens",
            "../wit/transform",
            "../wit/worlds",
        ],
        world: "gantry:worlds/host",
        imports: {
            "gantry:kv/store": async | trappable,
            "gantry:cache/store": async | trappable,
            "gantry:cache/purge": async | trappable,
            "gantry:blobs/store": async | trappable,
            "wasi:keyvalue/store": async | trappable,
            "wasi:keyvalue/atomics": async | trappable,
            "wasi:keyvalue/batch": async | trappable,
            "gantry:sql/client": async | trappable,
            "gantry:secrets/store": async | trappable,
            "gantry:secrets/reveal": async | trappable,
            "gantry:context/identity": trappable,
        },
        require_store_data_send: true,
    });
}

pub use generated::{gantry, wasi};

/// The messages of `gantry:http` and `gantry:transform/transform`, as the host gives and takes them. Written by
/// hand, because the host lends what it passes down and takes bodies without copying them again.
pub mod messages {
    use bytes::Bytes;
    use wasmtime::component::{ComponentType, Lift, Lower};

    /// `gantry:http/types.request`.
    #[derive(ComponentType, Lower, Clone, Copy, Debug)]
    #[component(record)]
    pub struct Request<'a> {
        pub method: &'a str,
        pub path: &'a str,
        pub query: &'a str,
        pub body: &'a [u8],
    }

    /// `gantry:http/types.response`.
    #[derive(ComponentType, Lift, Clone, Debug)]
    #[component(record)]
    pub struct Response {
        pub status: u16,
        pub headers: Vec<(String, String)>,
        pub body: Bytes,
    }

    /// `gantry:http/types.response`, going in.
    #[derive(ComponentType, Lower, Clone, Debug)]
    #[component(record)]
    pub struct Answer<'a> {
        pub status: u16,
        pub headers: Vec<(&'a str, &'a str)>,
        pub body: &'a [u8],
    }

    /// `gantry:http/filter.header-change`.
    #[derive(ComponentType, Lift, Clone, Debug)]
    #[component(variant)]
    pub enum HeaderChange {
        #[component(name = "set")]
        Set((String, String)),
        #[component(name = "add")]
        Add((String, String)),
        #[component(name = "remove")]
        Remove(String),
    }

    /// `gantry:http/filter.changes`.
    #[derive(ComponentType, Lift, Clone, Debug)]
    #[component(record)]
    pub struct Changes {
        pub headers: Vec<HeaderChange>,
        pub body: Option<Bytes>,
    }

    /// `gantry:http/filter.verdict`.
    #[derive(ComponentType, Lift, Clone, Debug)]
    #[component(variant)]
    pub enum Verdict {
        #[component(name = "next")]
        Next(Changes),
        #[component(name = "respond")]
        Respond(Response),
    }

    /// `gantry:transform/transform.document`, going in.
    #[derive(ComponentType, Lower, Clone, Copy, Debug)]
    #[component(record)]
    pub struct Input<'a> {
        pub body: &'a [u8],
        #[component(name = "content-type")]
        pub content_type: &'a str,
    }

    /// `gantry:transform/transform.document`, coming out.
    #[derive(ComponentType, Lift, Clone, Debug)]
    #[component(record)]
    pub struct Output {
        pub body: Bytes,
        #[component(name = "content-type")]
        pub content_type: String,
    }
}
