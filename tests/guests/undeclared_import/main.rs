//! Imports an interface that does not exist here; deploying it must fail before anything of it runs.

#[allow(unsafe_code, unreachable_pub, clippy::all, clippy::restriction, reason = "generated")]
#[rustfmt::skip]
mod bindings;

#[gantry_sdk::handler]
fn enter() -> String {
    bindings::evil::corp::backdoor::open("front")
}
