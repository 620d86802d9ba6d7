//! Guests that want the host to keep things for them.

use gantry::config::Config;
use gantry_harness::{TestHost, guests::guest};
use http::Method;
use serde_json::Value;

use super::{is_idle, neighbour_is_healthy};
use crate::manifests;
use crate::services::remote::Remote;

const GRANTS: &str =
    "[capabilities]\nkv = [\"data\"]\nsql = [{ label = \"main\", migrations = \"migrations/\" }]\n";
const LIMITS: &str = "[limits]\ncpu = \"5s\"\nwall = \"8s\"\nmemory = \"128MiB\"\n";
const TABLE: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);";

async fn host(name: &str, change: impl FnOnce(&mut Config)) -> TestHost {
    let host = TestHost::build().with(change).start().await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    host.deploy_with(
        &manifests::with(name, &format!("{GRANTS}{LIMITS}")),
        guest(name),
        &[("migrations/0001_notes.sql", TABLE.as_bytes())],
    )
    .await;
    host
}

/// The error that the guest was told; after that the neighbour is well and nothing is left.
async fn told(host: &TestHost, path: &str) -> String {
    let answer = host.get(path).await;
    neighbour_is_healthy(host).await;
    is_idle(host).await;
    match answer.status.as_u16() {
        200 => code(&answer.json()),
        _ => answer.code(),
    }
}

fn code(answer: &Value) -> String {
    answer["code"].as_str().unwrap_or_default().to_owned()
}

async fn statement(host: &TestHost, path: &str, statement: &str) -> String {
    let request = host.request(Method::POST, path).body(statement.to_owned());
    let answer = host.send(request).await;
    neighbour_is_healthy(host).await;
    match answer.status.as_u16() {
        200 => code(&answer.json()),
        _ => answer.code(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_keeps_for_a_call_and_for_a_plugin_is_bounded() {
    let of_call = host("kv-abuse", |config| {
        config.runtime.held_bytes_per_call_max = 300 << 10;
    })
    .await;
    let path = "/kv-abuse/value?bytes=500000";
    assert_eq!(told(&of_call, path).await, "limit.call_memory_exceeded");
    assert_eq!(told(&of_call, "/kv-abuse/value?bytes=1000").await, "");
    let of_plugin = host("kv-abuse", |config| {
        config.runtime.held_bytes_per_plugin_max = 300 << 10;
    })
    .await;
    assert_eq!(told(&of_plugin, path).await, "host.memory_short");
    assert_eq!(told(&of_plugin, "/kv-abuse/value?bytes=1000").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_keeps_for_all_is_bounded_and_free_again_when_a_call_ends() {
    let remote = Remote::start().await;
    let allowed = vec![remote.address];
    let host = host("kv-abuse", |config| {
        config.runtime.held_bytes_max = 600 << 10;
        config.services.outbound.allow_private = allowed;
        config.services.outbound.first_byte_ms_max = 1500;
    })
    .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]\n",
        remote.address
    );
    let manifest = manifests::with("egress", &format!("{http}{LIMITS}"));
    host.deploy(&manifest, guest("egress")).await;
    // Half of what there is, for a request that nobody answers.
    let hoarder = {
        let path = format!("/egress/?method=POST&url={}", remote.url("/silent"));
        let request = host
            .request(Method::POST, &path)
            .body(vec![b'x'; 250 << 10]);
        let client = (*host).clone();
        tokio::spawn(async move { client.send(request).await })
    };
    while remote.heads().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let ask = async |bytes: usize| {
        let path = format!("/kv-abuse/value?bytes={bytes}");
        code(&host.get(&path).await.assert_status(200).json())
    };
    assert_eq!(ask(200 << 10).await, "host.memory_short");
    assert_eq!(ask(1000).await, "", "what is left is for everybody");
    neighbour_is_healthy(&host).await;
    hoarder.await.unwrap().assert_status(200);
    is_idle(&host).await;
    assert_eq!(ask(200 << 10).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_writes_into_heads_and_takes_at_random_is_bounded() {
    let host = TestHost::build()
        .with(|config| {
            config.runtime.header_bytes_max = 10_000;
            config.runtime.random_bytes_max = 10_000;
        })
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    for name in ["stream-02", "stream-03"] {
        // Only the one of 0.3 can send requests.
        let http = "[capabilities]\nhttp = [{ host = \"api.example.com\" }]\n";
        let http = if name == "stream-03" { http } else { "" };
        let limits = "[limits]\nmemory = \"128MiB\"\ncpu = \"5s\"";
        host.deploy(
            &manifests::with(name, &format!("{http}{limits}")),
            guest(name),
        )
        .await;
        let ask = async |what: &str, number: u64| {
            let answer = host.get(&format!("/{name}/{what}?n={number}")).await;
            match answer.status.as_u16() {
                200 => answer.text().trim().to_owned(),
                _ => answer.code(),
            }
        };
        assert_eq!(ask("head", 10_000).await, "true true", "{name}");
        assert_eq!(ask("head", 10_001).await, "false false", "{name}");
        assert_eq!(ask("head", 20_000_000).await, "false false", "{name}");
        assert_eq!(ask("random", 10_000).await, "10000", "{name}");
        // A header takes more than its letters.
        assert_eq!(ask("header", 9000).await, "true", "{name}");
        // WASI 0.2 has no word for a header that is too long, and none for random bytes that are too many.
        let too_much = match name {
            "stream-02" => ["plugin.trapped"; 2],
            _ => ["false", "10000"],
        };
        assert_eq!(ask("header", 10_000).await, too_much[0], "{name}");
        assert_eq!(ask("random", 10_001).await, too_much[1], "{name}");
        neighbour_is_healthy(&host).await;
        is_idle(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_between_guest_and_host_at_once_is_bounded() {
    let host = host("kv-abuse", |config| {
        config.runtime.transfer_bytes_max = 200 << 10;
        config.runtime.response_body_bytes_max = 100 << 10;
    })
    .await;
    let path = "/kv-abuse/value?bytes=900000";
    assert_eq!(told(&host, path).await, "plugin.invalid_response");
    assert_eq!(told(&host, "/kv-abuse/value?bytes=1000").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full_takes_no_more() {
    let host = host("kv-abuse", |config| {
        config.services.kv.entries_max = 10;
        config.services.kv.total_bytes_max = 50_000;
        config.services.kv.get_many_bytes_max = 30_000;
    })
    .await;
    for (path, expected) in [
        ("entries?count=11&bytes=1", "kv.full"),
        ("entries?count=10&bytes=1", ""),
        ("entries?count=9&bytes=6000", "kv.full"),
        ("value?bytes=50000", "kv.full"),
        ("many?count=8", "kv.values_too_large"),
    ] {
        let found = told(&host, &format!("/kv-abuse/{path}")).await;
        assert_eq!(found, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_gives_no_more_than_its_limits() {
    let host = host("sql-abuse", |config| {
        let sql = &mut config.services.sql;
        sql.statement_bytes_max = 4096;
        sql.value_bytes_max = 100_000;
        sql.params_max = 10;
        sql.rows_max = 100;
        sql.result_bytes_max = 200_000;
        sql.statement_ms_max = 400;
        sql.database_bytes_max = 200_000;
    })
    .await;
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60) \
                INSERT INTO notes (text) SELECT hex(zeroblob(4000)) FROM n";
    let long = format!("SELECT 1 -- {}", "x".repeat(5000));
    for (path, text, expected) in [
        ("/", long.as_str(), "sql.statement_too_long"),
        ("/", "SELECT 1 /* \0 for ever", "sql.statement_invalid"),
        ("/", "SELECT $1", "sql.params_mismatch"),
        ("/?params=10", "SELECT 1", "sql.params_mismatch"),
        ("/?params=11", "SELECT 1", "sql.too_many_params"),
        ("/?params=100000", "SELECT 1", "sql.too_many_params"),
        ("/rows", "", "sql.too_many_rows"),
        ("/long", "", "sql.timeout"),
        ("/execute", fill, "sql.database_full"),
        ("/execute", "INSERT INTO notes (text) VALUES ('a')", ""),
    ] {
        let found = statement(&host, &format!("/sql-abuse{path}"), text).await;
        assert_eq!(found, expected, "{path}: {text}");
    }
    let wide = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50) \
                SELECT hex(zeroblob(4000)) FROM n";
    let found = statement(&host, "/sql-abuse/", wide).await;
    assert_eq!(found, "sql.result_too_large");
    let value = statement(&host, "/sql-abuse/", "SELECT zeroblob(1000000)").await;
    assert!(value.starts_with("sql."), "{value}");
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_too_long_makes_way_for_others() {
    let host = host("open-transaction", |config| {
        config.services.sql.transaction_ms_max = 300;
        config.services.sql.wait_ms = 3000;
    })
    .await;
    let sleeper = {
        let client = (*host).clone();
        tokio::spawn(async move { client.get("/open-transaction/sleep").await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    host.get("/open-transaction/").await.assert_status(200);
    assert!(
        !sleeper.is_finished(),
        "it sleeps on, without its transaction"
    );
    neighbour_is_healthy(&host).await;
    sleeper
        .await
        .unwrap()
        .assert_problem(504, "plugin.deadline_exceeded");
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_are_open_are_counted_for_each_plugin() {
    let host = TestHost::build()
        .with(|config| {
            config.services.sql.databases_per_plugin_max = 1;
            config.services.sql.statements_per_plugin_max = 1;
        })
        .start()
        .await;
    for name in ["hoarder", "neighbour"] {
        let sql = format!("[capabilities]\nsql = [\"main\", \"other\"]\n{LIMITS}");
        host.deploy(&manifests::with(name, &sql), guest("sql-abuse"))
            .await;
    }
    let long = {
        let client = (*host).clone();
        tokio::spawn(async move { client.get("/hoarder/long").await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let ask = async |path: &str| {
        let request = host.request(Method::POST, path).body("SELECT 1");
        host.send(request).await.assert_status(200).json::<Value>()
    };
    let second = ask("/hoarder/?label=other").await;
    assert_eq!(code(&second), "sql.too_many_open", "{second}");
    assert_eq!(ask("/neighbour/?label=other").await["rows"], 1);
    long.await.unwrap();
    assert_eq!(ask("/hoarder/?label=other").await["rows"], 1);
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_its_limit_does_not_reach_the_plugin() {
    let host = TestHost::build()
        .with(|config| config.plugins.defaults.body_bytes_max = 10_000)
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let send = async |bytes: usize| {
        let request = host.request(Method::POST, "/echo/");
        host.send(request.body(vec![b'x'; bytes])).await
    };
    send(10_000).await.assert_status(200);
    send(10_001)
        .await
        .assert_problem(413, "request.body_too_large");
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_gives_no_more_than_its_limits_and_what_is_too_much_is_the_plugins_own() {
    let host = TestHost::build()
        .with(|config| {
            config.cache.bytes_max = 4 << 20;
            config.cache.bytes_per_plugin_max = 1 << 20;
            config.cache.entry_bytes_max = 64 << 10;
        })
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let more = "[capabilities]\ncache = [\"data\"]\n[limits]\ncpu = \"5s\"\nwall = \"20s\"";
    for name in ["cache-abuse", "kept"] {
        host.deploy(&manifests::with(name, more), guest("cache-abuse"))
            .await;
    }
    let ask = async |plugin: &str, path: &str| -> Value {
        let answer = host.get(&format!("/{plugin}/{path}")).await;
        answer.assert_status(200).json()
    };
    assert!(ask("kept", "value?bytes=100").await["ok"].is_null());
    for (path, code) in [
        ("key?bytes=513", "cache.key_invalid"),
        ("key?bytes=0", "cache.key_invalid"),
        ("value?bytes=65537", "cache.value_too_large"),
        ("tag?tag=a%20b", "cache.tag_invalid"),
        ("tags?count=33", "cache.too_many_tags"),
        ("route?bytes=4097", "cache.route_invalid"),
        ("read?label=other", "capability.not_granted"),
    ] {
        assert_eq!(ask("cache-abuse", path).await["code"], code, "{path}");
    }
    // It fills what it has, and pushes out what is its own.
    assert_eq!(
        ask("cache-abuse", "fill?count=200&bytes=60000").await["ok"],
        200
    );
    let figures = host.app().cache.figures();
    let of = |name: &str| {
        figures
            .iter()
            .find(|of| of.plugin.as_str() == name)
            .cloned()
    };
    let own = of("cache-abuse").unwrap();
    assert!(own.bytes <= 1 << 20 && own.evictions > 0, "{own:?}");
    assert_eq!(ask("kept", "read").await["ok"], 100, "nobody else's");
    // It purges without end, and what others keep stays and can be added to.
    assert_eq!(ask("cache-abuse", "purge?count=2000").await["ok"], 2000);
    assert_eq!(ask("kept", "read").await["ok"], 100);
    assert!(ask("kept", "value?bytes=200").await["ok"].is_null());
    assert_eq!(ask("kept", "read").await["ok"], 200);
    let handles = host.get("/cache-abuse/handles?count=1000000").await;
    assert!(handles.status.as_u16() >= 500 || handles.json::<Value>()["code"].is_string());
    neighbour_is_healthy(&host).await;
}
