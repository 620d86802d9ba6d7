//! Guests that no toolchain makes: what they export lies, loops or climbs where the host calls it.

use gantry::plugins::GrantMode;
use gantry_harness::{TestHost, guests::guest};

use super::{is_idle, neighbour_is_healthy, with_neighbour};
use crate::{components, manifests};

/// Answers 204 with an answer that lies in its data.
const HONEST: &str = "(i32.const 1024)";
/// Hands out memory from the second page on.
const REALLOC: &str = "(global.get $next) (global.set $next (i32.add (global.get $next) \
     (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16))))";

/// A module for `gantry:http/handler`, of these bodies, with more beside them.
fn module(handle: &str, realloc: &str, more: &str) -> String {
    format!(
        r#"(module
            {more}
            (memory (export "memory") 4)
            (global $next (mut i32) (i32.const 65536))
            (data (i32.const 1024) "\00\00\00\00\00\00\00\00\cc\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
            (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
            (func (export "gantry:http/handler@0.1.0#handle")
                (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {handle}))"#
    )
}

const LIMITS: &str = "[limits]\nmemory = \"2MiB\"\ncpu = \"100ms\"";

/// What the host answers for a module, after which the neighbour is well and nothing is left.
async fn meets_with(host: &TestHost, module: &str, limits: &str) -> String {
    let manifest = manifests::with("hostile", limits);
    host.deploy(&manifest, components::handler(module)).await;
    let answer = host.get("/hostile/").await;
    neighbour_is_healthy(host).await;
    is_idle(host).await;
    match answer.status.as_u16() {
        204 => "204".to_owned(),
        status => format!("{status} {}", answer.code()),
    }
}

async fn meets(host: &TestHost, module: &str) -> String {
    meets_with(host, module, LIMITS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_function_that_loops_is_stopped() {
    let host = with_neighbour().await;
    let honest = module(HONEST, REALLOC, "");
    assert_eq!(
        meets(&host, &honest).await,
        "204",
        "the module itself is fine"
    );
    let start = "(start $s) (func $s (loop (br 0)))";
    let looping = module(HONEST, REALLOC, start);
    assert_eq!(meets(&host, &looping).await, "504 plugin.cpu_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_after_the_answer_is_stopped() {
    let host = with_neighbour().await;
    let post =
        r#"(func (export "cabi_post_gantry:http/handler@0.1.0#handle") (param i32) (loop (br 0)))"#;
    let module = module(HONEST, REALLOC, post);
    assert_eq!(meets(&host, &module).await, "504 plugin.cpu_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_where_the_host_asks_for_memory_is_stopped() {
    let host = with_neighbour().await;
    let module = module(HONEST, "(loop (br 0)) (i32.const 0)", "");
    assert_eq!(meets(&host, &module).await, "504 plugin.cpu_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_bomb_ends_at_the_memory_limit() {
    let host = with_neighbour().await;
    let grow = "(loop (br_if 1 (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))) (br 0)) unreachable";
    let handle = format!("(block {grow}) unreachable");
    let module = module(&handle, REALLOC, "(table $t 1 funcref)");
    let tight = LIMITS.replace("2MiB", "300KiB");
    let found = meets_with(&host, &module, &tight).await;
    assert_eq!(found, "502 plugin.memory_exceeded");
    // A table has an end of its own, too, where a guest that goes on regardless stops itself.
    assert_eq!(meets(&host, &module).await, "502 plugin.trapped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_ends_at_its_elements_whatever_memory_is_left() {
    let host = TestHost::build()
        .with(|config| config.runtime.table_elements_max = 500)
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let grows_to = |elements: u32| {
        let more = elements - 1;
        let grow = format!("(table.grow $t (ref.null func) (i32.const {more}))");
        let stop = "(then unreachable)";
        let handle = format!("(if (i32.eq {grow} (i32.const -1)) {stop}) {HONEST}");
        module(&handle, REALLOC, "(table $t 1 funcref)")
    };
    assert_eq!(meets(&host, &grows_to(500)).await, "204");
    assert_eq!(meets(&host, &grows_to(501)).await, "502 plugin.trapped");
    // What cannot grow costs nothing: neither a table at its end nor a memory at its own.
    let asks = "(local $n i32) (loop (drop (table.grow $t (ref.null func) (i32.const 1000))) \
                (drop (memory.grow (i32.const 17))) \
                (local.set $n (i32.add (local.get $n) (i32.const 1))) \
                (br_if 0 (i32.lt_u (local.get $n) (i32.const 10000)))) \
                (if (i32.eq (memory.grow (i32.const 10)) (i32.const -1)) (then unreachable))";
    let text = module(&format!("{asks} {HONEST}"), REALLOC, "(table $t 1 funcref)");
    let text = text.replace(
        "(memory (export \"memory\") 4)",
        "(memory (export \"memory\") 4 20)",
    );
    assert_eq!(meets(&host, &text).await, "204");
    // Nor is one deployed that begins with more.
    let large = module(HONEST, REALLOC, "(table 501 funcref)");
    let refused = host
        .try_deploy(
            &manifests::with("hostile", LIMITS),
            components::handler(&large),
            GrantMode::AllAsked,
        )
        .await;
    assert!(refused.is_err());
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion_through_the_host_ends_at_the_stack() {
    let host = with_neighbour().await;
    // The host lowers the request into the guest and asks it for memory; that climbs until there is no stack.
    let climb = "(call $realloc (local.get 0) (local.get 1) (local.get 2) (local.get 3)) (i32.add (i32.const 1))";
    let deep = module(HONEST, climb, "");
    assert_eq!(meets(&host, &deep).await, "502 plugin.trapped");
    // The same, and back into the host from there: an instance that is being entered cannot be left.
    let import =
        r#"(import "gantry:context/invocation@0.1.0" "request-id" (func $id (param i32)))"#;
    let back = module(
        HONEST,
        "(call $id (i32.const 2048)) (i32.const 65536)",
        import,
    );
    assert_eq!(meets(&host, &back).await, "502 plugin.trapped");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_lie_about_memory_lead_nowhere() {
    let host = with_neighbour().await;
    let store = |address: u32, value: &str| {
        format!("(i32.store (i32.const {address}) (i32.const {value})) (i32.const 1024)")
    };
    for (what, handle) in [
        ("an answer outside of memory", "(i32.const 0x7fffff00)".to_owned()),
        ("an answer at an odd address", "(i32.const 1025)".to_owned()),
        ("a case that is none", store(1024, "9")),
        ("a body that is longer than memory", store(1048, "0x7fffffff")),
        ("a body at the end of memory", store(1044, "0xffffffff") + " drop " + &store(1048, "16")),
        ("more headers than memory", store(1040, "0x0fffffff")),
        (
            "a header that is no text",
            "(i32.store (i32.const 1036) (i32.const 3072)) (i32.store (i32.const 1040) (i32.const 1)) \
             (i32.store (i32.const 3072) (i32.const 3100)) (i32.store (i32.const 3076) (i32.const 4)) \
             (i32.store (i32.const 3100) (i32.const -1)) (i32.const 1024)"
                .to_owned(),
        ),
    ] {
        let found = meets(&host, &module(&handle, REALLOC, "")).await;
        assert!(found.starts_with("502 plugin."), "{what}: {found}");
    }
    for address in ["0xfffffff0", "0x7fffffff", "-1"] {
        let module = module(HONEST, &format!("(i32.const {address})"), "");
        assert_eq!(
            meets(&host, &module).await,
            "502 plugin.trapped",
            "{address}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_an_instance_may_be_is_refused_before_it_runs() {
    let host = with_neighbour().await;
    let many = |text: &str, number: usize| text.repeat(number);
    for (what, more) in [
        ("a table", "(table 100000000 funcref)".to_owned()),
        ("tables", many("(table 1 funcref)", 40)),
        ("memories", many("(memory 1)", 8)),
        ("a memory", "(memory 60000)".to_owned()),
    ] {
        // Before the exported one: the first memory is the one that the host uses.
        let text = module(HONEST, REALLOC, "");
        let end = text.rfind(')').unwrap();
        let text = format!("{}{more})", &text[..end]);
        let manifest = manifests::with("hostile", LIMITS);
        let component = components::handler(&text);
        let refused = host
            .try_deploy(&manifest, component, GrantMode::AllAsked)
            .await;
        assert!(refused.is_err(), "{what}");
        neighbour_is_healthy(&host).await;
    }
}
