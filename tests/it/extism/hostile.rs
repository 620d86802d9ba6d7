//! Can a module of Extism hurt the host or its neighbour? After each attempt the neighbour answers.

use std::time::{Duration, Instant};

use gantry_harness::{Answer, TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use super::{hostile, manifest};
use crate::manifests;
use crate::services::remote::Remote;

/// A host with the hostile module beside a friendly plugin.
async fn beside(host: TestHost, more: &str) -> TestHost {
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let (module, exports) = hostile();
    host.deploy(&manifest("hostile", &exports, more), module)
        .await;
    host
}

async fn call(host: &TestHost, export: &str, input: impl Into<Vec<u8>>) -> Answer {
    let path = format!("/hostile/{export}");
    let request = host.request(Method::POST, &path).body(input.into());
    let began = Instant::now();
    let answer = host.send(request).await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{export} took {:?}",
        began.elapsed()
    );
    host.get("/neighbour/").await.assert_status(200);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn loops_end_at_their_processor_time() {
    let host = beside(TestHost::start().await, "[limits]\ncpu = \"100ms\"").await;
    for export in ["spin", "spin_in_the_host"] {
        call(&host, export, "")
            .await
            .assert_problem(504, "plugin.cpu_exceeded");
    }
    assert_eq!(call(&host, "echo", "still here").await.text(), "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_ends_at_its_limit_wherever_it_is_held() {
    let limits = "[limits]\nmemory = \"8MiB\"\ncpu = \"5s\"";
    let host = beside(TestHost::start().await, limits).await;
    for export in [
        "grow",
        "large_blocks",
        "small_blocks",
        "absurd_block",
        "many_variables",
        "output_of_20_mb",
    ] {
        let answer = call(&host, export, "").await;
        assert_eq!(answer.code(), "plugin.memory_exceeded", "{export}");
        assert_eq!(answer.status, 502, "{export}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_ends_at_the_size_of_a_response() {
    let limits = "[limits]\nmemory = \"64MiB\"\ncpu = \"5s\"";
    let host = beside(TestHost::start().await, limits).await;
    call(&host, "output_of_20_mb", "")
        .await
        .assert_problem(502, "plugin.invalid_response");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_costs_only_its_own_call() {
    let host = beside(TestHost::start().await, "[limits]\ncpu = \"5s\"").await;
    for export in [
        "stop",
        "recurse",
        "handle_of_config",
        "handle_of_variable",
        "handle_of_log",
        "handle_of_request",
        "handle_given_away_twice",
    ] {
        let answer = call(&host, export, "some input").await;
        assert_eq!(
            answer.code(),
            "plugin.trapped",
            "{export}: {}",
            answer.text()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_lead_into_blocks_of_this_call_or_nowhere() {
    let host = beside(TestHost::start().await, "").await;
    for export in ["outside", "echo", "echo_in_place"] {
        let answer = call(&host, export, "a secret of this call").await;
        assert_eq!(answer.assert_status(200).text(), "a secret of this call");
    }
    assert_eq!(call(&host, "echo", "").await.assert_status(200).text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_files() {
    let host = beside(TestHost::start().await, "").await;
    call(&host, "open_a_file", "").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_ends_at_its_size() {
    let limits = "[limits]\nlog_bytes = \"16KiB\"\ncpu = \"5s\"";
    let host = beside(TestHost::start().await, limits).await;
    for export in ["flood_the_log", "flood_standard_output"] {
        let answer = call(&host, export, "").await.assert_status(200);
        host.app().logs.flush().await;
        let id = answer.header("x-request-id").unwrap();
        let path = format!("/_gantry/api/v1/plugins/hostile/logs?limit=200&request_id={id}");
        let page: Value = host.admin().get(&path).await.assert_status(200).json();
        let lines = page["items"].as_array().unwrap();
        assert!((1..30).contains(&lines.len()), "{export}: {}", lines.len());
        let is_said = |line: &Value| {
            line["message"]
                .as_str()
                .unwrap()
                .contains("the rest is left out")
        };
        assert!(lines.iter().any(is_said), "{export}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_where_was_granted_and_nowhere_else() {
    let (remote, other) = (Remote::start().await, Remote::start().await);
    let allowed = vec![remote.address, other.address];
    let host = TestHost::build()
        .with(|config| config.services.outbound.allow_private = allowed)
        .start()
        .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\", methods = [\"GET\"] }}]",
        remote.address
    );
    let host = beside(host, &http).await;

    let answer = call(
        &host,
        "fetch",
        json!({ "url": remote.url("/x") }).to_string(),
    )
    .await;
    assert_eq!(answer.assert_status(200).text(), "hello from afar");
    let record =
        json!({ "url": remote.url("/y"), "method": "get", "header": { "X-From": "Extism" } });
    call(&host, "fetch", record.to_string())
        .await
        .assert_status(200);
    assert!(
        remote.heads()[1].contains("x-from: extism"),
        "{:?}",
        remote.heads()
    );

    for (record, reason) in [
        (
            json!({ "url": other.url("/") }),
            "outbound.host_not_granted",
        ),
        (
            json!({ "url": "http://169.254.169.254/latest/meta-data/" }),
            "outbound.host_not_granted",
        ),
        (
            json!({ "url": remote.url("/"), "method": "POST" }),
            "outbound.method_not_granted",
        ),
        (
            json!({ "url": remote.url(&format!("/go={}", other.url("/"))) }),
            "outbound.host_not_granted",
        ),
        (json!({ "url": "file:///etc/passwd" }), "cannot be read"),
        (json!({ "url": "" }), "cannot be read"),
        (
            json!({ "url": remote.url("/"), "headers": { "a": "b\r\nc: d" } }),
            "not allowed",
        ),
        (json!("no record"), "its record is not JSON"),
    ] {
        let answer = call(&host, "fetch", record.to_string()).await;
        assert_eq!(
            answer.code(),
            "plugin.trapped",
            "{record}: {}",
            answer.text()
        );
        let log = log_of(&host, &answer).await;
        assert!(log.contains(reason), "{record}: {log}");
    }
    assert!(other.heads().is_empty(), "{:?}", other.heads());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_end_at_their_number_and_bytes_and_at_the_size_of_their_record() {
    let remote = Remote::start().await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]\n",
        remote.address
    );
    let http = format!("{http}[limits]\nmemory = \"16MiB\"\ncpu = \"5s\"\nwall = \"9s\"");
    type Change = fn(&mut gantry::services::outbound::Config);
    let cases: [(Change, &str, usize); 4] = [
        (
            |config| config.requests_per_call_max = 3,
            "outbound.budget_exhausted",
            3,
        ),
        // "hello from afar" has 15 bytes.
        (
            |config| config.response_bytes_per_call_max = 29,
            "outbound.budget_exhausted",
            2,
        ),
        (
            |config| config.requests_per_minute_max = 2,
            "outbound.rate_exceeded",
            2,
        ),
        (
            |config| config.bytes_per_minute_max = 1000,
            "outbound.rate_exceeded",
            0,
        ),
    ];
    for (change, reason, requests) in cases {
        let before = remote.heads().len();
        let allowed = vec![remote.address];
        let host = TestHost::build()
            .with(|config| {
                config.services.outbound.allow_private = allowed;
                change(&mut config.services.outbound);
            })
            .start()
            .await;
        let host = beside(host, &http).await;
        let record = json!({ "url": remote.url("/") }).to_string();
        let answer = call(&host, "fetch_for_ever", record).await;
        answer.clone().assert_problem(502, "plugin.trapped");
        let log = log_of(&host, &answer).await;
        assert!(log.contains(reason), "{log}");
        let sent = remote.heads().len() - before;
        assert!(requests == 0 || sent == requests, "{reason}: {sent}");
        let long = json!({ "url": remote.url("/"), "headers": { "a": "y".repeat(140_000) } });
        let answer = call(&host, "fetch", long.to_string()).await;
        answer.clone().assert_problem(502, "plugin.trapped");
        let log = log_of(&host, &answer).await;
        assert!(log.contains("its record is too large"), "{log}");
    }
}

/// What its author finds of this call.
async fn log_of(host: &TestHost, answer: &Answer) -> String {
    host.app().logs.flush().await;
    let id = answer.header("x-request-id").unwrap();
    let path = format!("/_gantry/api/v1/plugins/hostile/logs?request_id={id}");
    host.admin().get(&path).await.assert_status(200).text()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_begins_with_too_much_memory_is_refused_or_stopped() {
    let host = TestHost::start().await;
    let module = |pages: u32| {
        let text = format!("(module (memory (export \"memory\") {pages}) (func (export \"f\")))");
        wat::parse_str(text).unwrap().into()
    };
    // More than an instance of this host can have.
    let refused = host
        .try_deploy(
            &manifest("large", &["f"], ""),
            module(8192),
            gantry::plugins::GrantMode::AllAsked,
        )
        .await;
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    // More than this plugin may have.
    let limits = "[limits]\nmemory = \"1MiB\"";
    host.deploy(&manifest("large", &["f"], limits), module(17))
        .await;
    host.post("/large/f", &Value::Null)
        .await
        .assert_problem(502, "plugin.memory_exceeded");
    host.deploy(&manifest("large", &["f"], limits), module(16))
        .await;
    host.post("/large/f", &Value::Null).await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_fit_is_refused_before_it_is_compiled() {
    let host = TestHost::start().await;
    let module = wat::parse_str(
        "(module
            (import \"extism:host/user\" \"mine\" (func))
            (import \"extism:host/env\" \"memory\" (memory 1))
            (func (export \"two\") (param i32)))",
    );
    let refused = host
        .try_deploy(
            &manifest("unfit", &["two"], ""),
            module.unwrap().into(),
            gantry::plugins::GrantMode::AllAsked,
        )
        .await;
    let Err(gantry::plugins::DeployError::Mistakes(mistakes)) = refused else {
        panic!("{refused:?}");
    };
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    for expected in [
        "`mine` of `extism:host/user`",
        "only functions",
        "no function `two`",
    ] {
        assert!(told.iter().any(|line| line.contains(expected)), "{told:?}");
    }
}
