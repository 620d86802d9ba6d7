//! Can a plugin hurt the host or its neighbour? Each hostile guest has its test, and after each the neighbour answers.

use std::time::{Duration, Instant};

use gantry::plugins::{DeployError, GrantMode};
use gantry_harness::{TestHost, guests::guest};
use serde_json::Value;

use super::{beside, neighbour_is_healthy};
use crate::manifests;

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_stopped_by_its_processor_time() {
    let host = beside("loop-handler", "[limits]\ncpu = \"100ms\"").await;
    let began = Instant::now();
    host.get("/loop-handler/")
        .await
        .assert_problem(504, "plugin.cpu_exceeded");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_before_the_handler_is_stopped_too() {
    let host = beside("loop-start", "[limits]\ncpu = \"100ms\"").await;
    host.get("/loop-start/")
        .await
        .assert_problem(504, "plugin.cpu_exceeded");
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_endless_loops_at_once_leave_the_neighbour_alone() {
    let host = beside("loop-handler", "[limits]\ncpu = \"300ms\"\nconcurrency = 8").await;
    let loops: Vec<_> = (0..16)
        .map(|_| {
            let client = (*host).clone();
            tokio::spawn(async move { client.get("/loop-handler/").await.status.as_u16() })
        })
        .collect();
    for _ in 0..20 {
        neighbour_is_healthy(&host).await;
    }
    for answer in loops {
        let status = answer.await.unwrap();
        assert!(matches!(status, 503 | 504), "{status}");
    }
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_waits_is_stopped_by_its_wall_time() {
    let host = beside("slow", "[limits]\nwall = \"200ms\"").await;
    let began = Instant::now();
    host.get("/slow/?ms=60000")
        .await
        .assert_problem(504, "plugin.deadline_exceeded");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    host.get("/slow/?ms=1").await.assert_status(200);
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_bomb_ends_at_its_limit() {
    let host = beside("memory-bomb", "[limits]\nmemory = \"16MiB\"\ncpu = \"5s\"").await;
    host.get("/memory-bomb/")
        .await
        .assert_problem(502, "plugin.memory_exceeded");
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_abnormally_costs_only_its_own_request() {
    for name in ["trap", "panic", "deep-recursion"] {
        let host = beside(name, "[limits]\ncpu = \"5s\"").await;
        for _ in 0..3 {
            host.get(&format!("/{name}/"))
                .await
                .assert_problem(502, "plugin.trapped");
        }
        neighbour_is_healthy(&host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_finds_in_the_log_why_a_call_was_ended() {
    for (name, path, reason) in [
        ("trap", "/", "stopped with a trap"),
        ("loop-handler", "/", "processor time"),
        ("slow", "/?ms=60000", "ran longer than"),
        (
            "header-bomb",
            "/status-99",
            "its status is not between 200 and 599",
        ),
    ] {
        let host = beside(name, "[limits]\ncpu = \"100ms\"\nwall = \"300ms\"").await;
        let answer = host.get(&format!("/{name}{path}")).await;
        host.app().logs.flush().await;
        let id = answer.header("x-request-id").unwrap().parse().unwrap();
        let filter = gantry::services::log::Filter {
            request_id: Some(id),
            ..Default::default()
        };
        let page = host
            .app()
            .logs
            .query(&name.parse().unwrap(), &filter)
            .await
            .unwrap();
        let is_told = page
            .entries
            .iter()
            .any(|entry| entry.message.contains(reason));
        assert!(is_told, "{name}: {:?}", page.entries);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_body_is_not_passed_on() {
    let host = beside("giant-body", "[limits]\nmemory = \"256MiB\"\ncpu = \"5s\"").await;
    host.get("/giant-body/")
        .await
        .assert_problem(502, "plugin.invalid_response");
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_no_server_should_pass_on_are_not_passed_on() {
    let host = beside("header-bomb", "[limits]\nmemory = \"128MiB\"\ncpu = \"5s\"").await;
    for bomb in [
        "many",
        "huge",
        "name",
        "value",
        "empty",
        "status-99",
        "status-101",
        "status-1000",
    ] {
        host.get(&format!("/header-bomb/{bomb}"))
            .await
            .assert_problem(502, "plugin.invalid_response");
    }
    let answer = host.get("/header-bomb/hop").await.assert_status(200);
    for header in ["connection", "transfer-encoding", "upgrade"] {
        assert_eq!(answer.header(header), None, "{header}");
    }
    let answer = host.get("/header-bomb/length").await.assert_status(200);
    assert_eq!(
        answer.header("content-length"),
        Some("2"),
        "the host counts by itself"
    );
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_flood_is_cut_and_cannot_forge_lines() {
    let host = beside("log-flood", "[limits]\ncpu = \"5s\"\nlog_bytes = \"16KiB\"").await;
    for path in ["", "long", "stderr", "breaks"] {
        host.get(&format!("/log-flood/{path}"))
            .await
            .assert_status(200);
    }
    host.app().logs.flush().await;
    let filter = gantry::services::log::Filter {
        limit: Some(1000),
        ..Default::default()
    };
    let page = host
        .app()
        .logs
        .query(&"log-flood".parse().unwrap(), &filter)
        .await
        .unwrap();
    let bytes: usize = page.entries.iter().map(|entry| entry.message.len()).sum();
    assert!(bytes < 4 * (16 << 10), "{bytes} bytes were kept");
    let is_cut =
        |entry: &&gantry::services::log::Entry| entry.message.contains("as much as it may");
    assert_eq!(
        page.entries.iter().filter(is_cut).count(),
        3,
        "each cut is told once"
    );
    assert!(
        page.entries
            .iter()
            .all(|entry| !entry.message.contains(['\u{1b}', '\0']))
    );
    neighbour_is_healthy(&host).await;
}

const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);";

async fn with_notes(name: &str, more: &str) -> TestHost {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let sql = "[capabilities]\nsql = [{ label = \"main\", migrations = \"migrations/\" }]\n";
    let manifest = manifests::with(name, &format!("{sql}{more}"));
    let files = [("migrations/0001_notes.sql", NOTES.as_bytes())];
    host.deploy_with(&manifest, guest(name), &files).await;
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_never_closed_is_rolled_back_and_holds_nobody_up() {
    let limits = "[limits]\ncpu = \"200ms\"\nwall = \"1s\"";
    let host = with_notes("open-transaction", limits).await;
    let outcomes = [("", 200), ("loop", 504), ("sleep", 504), ("panic", 502)];
    for (path, status) in outcomes {
        let answer = host
            .get(&format!("/open-transaction/{path}"))
            .await
            .assert_status(status);
        if status == 200 {
            assert_eq!(
                answer.json::<Value>(),
                1,
                "only the row of this very transaction"
            );
        }
    }
    // A second transaction inside of the first waits for itself, until the deadline.
    let answer = host.get("/open-transaction/again").await;
    assert!(
        matches!(answer.status.as_u16(), 503 | 504),
        "{}",
        answer.text()
    );
    let answer = host.get("/open-transaction/").await.assert_status(200);
    assert_eq!(answer.json::<Value>(), 1, "nothing of the others was kept");
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_does_not_lead_out_of_the_plugins_own_database() {
    let host = with_notes("sql-abuse", "[limits]\ncpu = \"2s\"\nwall = \"3s\"").await;
    for statement in [
        "ATTACH DATABASE '/tmp/other.db' AS other",
        "PRAGMA journal_mode = DELETE",
        "VACUUM INTO '/tmp/copy.db'",
        "BEGIN",
        "COMMIT",
        "SELECT 1; SELECT 2",
        "SELECT load_extension('x')",
        "/* a comment */ ATTACH 'x' AS y",
        "CREATE TABLE other (id INTEGER)",
    ] {
        for query in [
            "/sql-abuse/",
            "/sql-abuse/execute",
            "/sql-abuse/?in_transaction=true",
        ] {
            let request = host
                .request(http::Method::POST, query)
                .body(statement.to_owned());
            let answer = host.send(request).await.assert_status(200).json::<Value>();
            assert!(
                answer["code"].is_string(),
                "{statement} on {query}: {answer}"
            );
            assert!(
                !answer.to_string().contains("/data/"),
                "no path of the host: {answer}"
            );
        }
    }
    for (path, code) in [
        ("long", "sql.timeout"),
        ("rows", "sql.rows"),
        ("bytes", "sql.bytes"),
    ] {
        let answer = host.get(&format!("/sql-abuse/{path}")).await;
        let is_stopped = answer.status == 504;
        if !is_stopped {
            let answer = answer.json::<Value>();
            assert!(
                answer["code"].is_string(),
                "{path} should be refused like {code}: {answer}"
            );
        }
        neighbour_is_healthy(&host).await;
    }
    let label = host.get("/sql-abuse/?label=other").await.json::<Value>();
    assert_eq!(label["code"], "capability.not_granted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_computes_ends_with_the_processor_time_of_its_call() {
    let host = with_notes("sql-abuse", "[limits]\ncpu = \"200ms\"\nwall = \"10s\"").await;
    for path in ["/sql-abuse/long", "/sql-abuse/long?in_transaction=true"] {
        let began = Instant::now();
        host.get(path)
            .await
            .assert_problem(504, "plugin.cpu_exceeded");
        let elapsed = began.elapsed();
        assert!(elapsed < Duration::from_secs(4), "{path}: {elapsed:?}");
        neighbour_is_healthy(&host).await;
    }
    let usage = host.admin().get("/metrics").await.text();
    let of_plugin = usage.lines().filter(|line| {
        line.starts_with("gantry_invocation_cpu_seconds_total") && line.contains("sql-abuse")
    });
    let seconds: f64 = of_plugin
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!(seconds >= 0.4, "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_sorts_more_than_it_may_fails_alone() {
    let host = TestHost::build()
        .with(|config| config.services.sql.temp_bytes_per_plugin_max = 1 << 20)
        .start()
        .await;
    let sql = "[capabilities]\nsql = [{ label = \"main\" }]\n[limits]\ncpu = \"5s\"\nwall = \"9s\"";
    for name in ["sorter", "neighbour"] {
        host.deploy(&manifests::with(name, sql), guest("sql-abuse"))
            .await;
    }
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)";
    for (statement, is_too_much) in [
        (
            "SELECT hex(randomblob(60)) AS h FROM n ORDER BY h LIMIT 1 OFFSET 99999",
            true,
        ),
        ("SELECT count(DISTINCT hex(randomblob(60))) FROM n", true),
        ("SELECT i FROM n WHERE i <= 3 ORDER BY -i", false),
    ] {
        let ask = async |name: &str| {
            let request = host.request(http::Method::POST, &format!("/{name}/"));
            let request = request.body(format!("{numbers} {statement}"));
            host.send(request).await.assert_status(200).json::<Value>()
        };
        let answer = ask("sorter").await;
        assert_eq!(
            answer["code"] == "sql.temp_full",
            is_too_much,
            "{statement}: {answer}"
        );
    }
    let request = host.request(http::Method::POST, "/neighbour/");
    let request = request.body("SELECT 1 ORDER BY 1");
    assert_eq!(host.send(request).await.json::<Value>()["rows"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_writes_does_not_keep_the_neighbour_from_writing() {
    let host = TestHost::start().await;
    let kv = "[capabilities]\nkv = [\"data\"]\n[limits]\ncpu = \"5s\"\nwall = \"20s\"";
    for name in ["flood", "neighbour"] {
        host.deploy(&manifests::with(name, kv), guest("kv-abuse"))
            .await;
    }
    let flood: Vec<_> = (0..32)
        .map(|_| {
            let client = (*host).clone();
            tokio::spawn(async move { client.get("/flood/entries?count=60&bytes=1000").await })
        })
        .collect();
    for _ in 0..10 {
        let began = Instant::now();
        let answer = host.get("/neighbour/value?bytes=10").await;
        assert!(answer.json::<Value>()["ok"].is_number());
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
    assert!(
        flood.iter().any(|call| !call.is_finished()),
        "the flood went on meanwhile"
    );
    for call in flood {
        call.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_finds_no_files_no_environment_and_no_sockets() {
    let host = beside("sandbox", "").await;
    let found = host
        .get("/sandbox/")
        .await
        .assert_status(200)
        .json::<Value>();
    for way in ["passwd", "root", "write", "socket"] {
        assert!(found[way]["error"].is_string(), "{way}: {found}");
    }
    assert_eq!(
        (&found["environment"], &found["arguments"]),
        (&Value::from(0), &Value::from(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_gives_no_more_than_its_limits_and_no_label_that_was_not_granted() {
    let host = beside(
        "kv-abuse",
        "[capabilities]\nkv = [\"data\"]\n[limits]\ncpu = \"5s\"",
    )
    .await;
    for (path, code) in [
        ("key?bytes=513", "kv.key_invalid"),
        ("key?bytes=0", "kv.key_invalid"),
        ("value?bytes=1048577", "kv.value_too_large"),
        ("many?count=101", "kv.too_many_keys"),
        ("page?count=1001", "kv.page_size_invalid"),
        ("cursor", "kv.cursor_invalid"),
        ("read?label=other", "capability.not_granted"),
    ] {
        let answer = host
            .get(&format!("/kv-abuse/{path}"))
            .await
            .assert_status(200)
            .json::<Value>();
        assert!(
            answer["code"].is_string(),
            "{path} should be refused like {code}: {answer}"
        );
    }
    let answer = host
        .get("/kv-abuse/value?bytes=1048576")
        .await
        .json::<Value>();
    assert!(answer["ok"].is_number(), "the limit itself fits: {answer}");
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_without_end_cost_only_the_request_that_takes_them() {
    let host = beside(
        "kv-abuse",
        "[capabilities]\nkv = [\"data\"]\n[limits]\ncpu = \"5s\"",
    )
    .await;
    let answer = host.get("/kv-abuse/handles?count=1000000").await;
    assert!(
        answer.status.as_u16() >= 500 || answer.json::<Value>()["code"].is_string(),
        "{}",
        answer.text()
    );
    neighbour_is_healthy(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_imports_what_it_may_not_is_refused_with_the_line_to_add() {
    let host = TestHost::start().await;
    for (name, needles) in [
        ("undeclared-kv", ["gantry:kv/store", "[capabilities]"]),
        (
            "undeclared-import",
            ["evil:corp/backdoor", "evil:corp/backdoor"],
        ),
    ] {
        let manifest = manifests::open(name);
        let refused = host
            .try_deploy(&manifest, guest(name), GrantMode::AllAsked)
            .await;
        let mistakes = mistakes(refused);
        assert!(
            needles.iter().all(|needle| mistakes.contains(needle)),
            "{mistakes}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_broken_is_refused_and_the_host_lives_on() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let whole = guest("hello-v1");
    let mut broken = whole.to_vec();
    for byte in broken.iter_mut().skip(2000).take(400) {
        *byte ^= 0x55;
    }
    let cases: [(&str, bytes::Bytes); 5] = [
        ("empty", bytes::Bytes::new()),
        (
            "no WebAssembly",
            bytes::Bytes::from_static(b"#!/bin/sh\necho hello\n"),
        ),
        ("truncated", whole.slice(..whole.len() / 2)),
        ("altered", broken.into()),
        (
            "a core module",
            bytes::Bytes::from_static(b"\0asm\x01\0\0\0"),
        ),
    ];
    for (what, component) in cases {
        let refused = host
            .try_deploy(&manifests::open("broken"), component, GrantMode::AllAsked)
            .await;
        assert!(refused.is_err(), "{what} was deployed");
        host.get("/broken/")
            .await
            .assert_problem(404, "route.not_found");
        neighbour_is_healthy(&host).await;
    }
}

fn mistakes<T: std::fmt::Debug>(result: Result<T, DeployError>) -> String {
    match result {
        Err(DeployError::Mistakes(mistakes)) => mistakes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
        other => panic!("expected mistakes, got {other:?}"),
    }
}
