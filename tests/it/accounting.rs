//! What plugins use is written down for each route, and the sum is what the machine has spent.

use std::time::{Duration, Instant};

use gantry_harness::{Client, Process, TestHost, guests::guest, pack};
use http::Method;
use serde_json::Value;

use crate::manifests;
use crate::services::remote::Remote;

async fn usage(client: &Client, plugin: &str) -> Value {
    let path = format!("/_gantry/api/v1/plugins/{plugin}/usage");
    client.get(&path).await.assert_status(200).json()
}

/// The value of a series with all of these labels.
fn series(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let is_it = |line: &&str| {
        let labels = labels.iter().all(|label| line.contains(label));
        line.starts_with(&format!("{name}{{")) && labels
    };
    let values = metrics.lines().filter(is_it);
    values
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// What was asked of a service: calls and microseconds.
fn host_calls(totals: &Value, service: &str) -> (u64, u64) {
    let calls = totals["host_calls"].as_array().unwrap();
    let found = calls.iter().find(|calls| calls["service"] == service);
    found.map_or((0, 0), |calls| {
        let number = |name: &str| calls[name].as_u64().unwrap();
        (number("calls"), number("time_us"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_calls_use_is_booked_on_their_route() {
    let remote = Remote::start().await;
    let allowed = vec![remote.address];
    let host = TestHost::build()
        .with(|config| config.services.outbound.allow_private = allowed)
        .start()
        .await;
    let kv = "[capabilities]\nkv = [\"data\"]";
    host.deploy(&manifests::with("kv-abuse", kv), guest("kv-abuse"))
        .await;
    let notes = "CREATE TABLE notes (id INTEGER PRIMARY KEY);";
    let sql = "[capabilities]\nsql = [{ label = \"main\", migrations = \"migrations/\" }]\n";
    host.deploy_with(
        &manifests::with("sql-abuse", sql),
        guest("sql-abuse"),
        &[("migrations/0001_notes.sql", notes.as_bytes())],
    )
    .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]",
        remote.address
    );
    host.deploy(&manifests::with("egress", &http), guest("egress"))
        .await;
    let admin = host.admin();
    let nothing = usage(&admin, "kv-abuse").await;
    assert_eq!(nothing["total"]["calls"], 0);

    host.get("/kv-abuse/entries?count=5&bytes=10")
        .await
        .assert_status(200);
    let run = async |path: &str, statement: &'static str| {
        let request = host.request(Method::POST, path).body(statement);
        host.send(request).await.assert_status(200);
    };
    let insert = "INSERT INTO notes (id) VALUES (1), (2), (3)";
    run("/sql-abuse/execute", insert).await;
    run("/sql-abuse/", "SELECT id FROM notes WHERE id > 1").await;
    host.get(&format!("/egress/?url={}", remote.url("/")))
        .await
        .assert_status(200);

    let kv = usage(&admin, "kv-abuse").await;
    let (calls, us) = host_calls(&kv["total"], "kv");
    // Opened, five times written, dropped.
    assert!(calls >= 6 && us > 0, "{kv}");
    assert_eq!(kv["total"]["calls"], 1);
    assert!(kv["total"]["memory_peak_bytes"].as_u64().unwrap() > 60_000);
    let of_route = |usage: &Value, route: &str| {
        let routes = usage["routes"].as_array().unwrap();
        routes
            .iter()
            .find(|totals| totals["route"] == route)
            .unwrap()
            .clone()
    };
    assert_eq!(of_route(&kv, "/{*rest}")["calls"], 1);
    assert_eq!(of_route(&kv, "/")["calls"], 0, "nobody called this one");

    let sql = usage(&admin, "sql-abuse").await;
    assert_eq!(of_route(&sql, "/{*rest}")["rows_written"], 3);
    assert_eq!(of_route(&sql, "/")["rows_read"], 2);
    assert!(host_calls(&sql["total"], "sql").0 >= 4, "{sql}");

    let egress = usage(&admin, "egress").await;
    let (sent, received) = (
        egress["total"]["egress_bytes_sent"].as_u64().unwrap(),
        egress["total"]["egress_bytes_received"].as_u64().unwrap(),
    );
    assert!(received >= "hello from afar".len() as u64, "{egress}");
    assert_eq!(host_calls(&egress["total"], "outbound").0, 1);

    // The same figures are in the metrics, whose series end with the plugin.
    let metrics = admin.get("/metrics").await.text();
    let egress_is = |direction| {
        let labels = ["plugin=\"egress\"", direction];
        series(&metrics, "gantry_egress_bytes_total", &labels) as u64
    };
    assert_eq!(egress_is("direction=\"sent\""), sent);
    assert_eq!(egress_is("direction=\"received\""), received);
    let rows = ["plugin=\"sql-abuse\"", "direction=\"written\""];
    assert_eq!(series(&metrics, "gantry_sql_rows_total", &rows), 3.0);
    let kv_calls = ["plugin=\"kv-abuse\"", "service=\"kv\""];
    assert!(series(&metrics, "gantry_host_calls_total", &kv_calls) >= 6.0);
    assert!(series(&metrics, "gantry_host_call_seconds_total", &kv_calls) > 0.0);
    let cpu = series(
        &metrics,
        "gantry_invocation_cpu_seconds_total",
        &kv_calls[..1],
    );
    assert!(cpu > 0.0);
    admin
        .delete("/_gantry/api/v1/plugins/egress")
        .await
        .assert_status(204);
    let metrics = admin.get("/metrics").await.text();
    assert!(!metrics.contains("plugin=\"egress\""), "{metrics}");
    admin
        .get("/_gantry/api/v1/plugins/egress/usage")
        .await
        .assert_problem(404, "plugin.not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_value_statements_are_charged_to_their_call() {
    let host = TestHost::start().await;
    let kv = "[capabilities]\nkv = [\"data\"]\n[limits]\ncpu = \"5s\"\nwall = \"30s\"";
    host.deploy(&manifests::with("kv-abuse", kv), guest("kv-abuse"))
        .await;
    host.get("/kv-abuse/entries?count=1&bytes=10").await;
    let admin = host.admin();
    let cpu_us = async || {
        usage(&admin, "kv-abuse").await["total"]["cpu_us"]
            .as_u64()
            .unwrap()
    };
    // The guest does the same for each; the rest is what the database does with a megabyte.
    let before = cpu_us().await;
    for _ in 0..5 {
        host.get("/kv-abuse/value?bytes=1000000")
            .await
            .assert_status(200);
    }
    let written = cpu_us().await - before;
    let before = cpu_us().await;
    for _ in 0..5 {
        host.get("/kv-abuse/key?bytes=1").await.assert_status(200);
    }
    let small = cpu_us().await - before;
    assert!(written > small + 5 * 500, "{written} µs, {small} µs");
}

/// Processor time of a process so far.
fn process_time(server: &Process) -> Duration {
    let ticks = server.cpu_ticks();
    // The kernel counts hundredths of a second.
    Duration::from_millis(ticks * 10)
}

/// The host's own share is measured by requests to a path that no plugin answers: what the server spends on them is what it
/// spends on any request beside the plugin.
#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_add_up_to_what_the_process_has_used() {
    let server = Process::start("").await;
    let limits = "[limits]\ncpu = \"5s\"\nwall = \"30s\"\n";
    let sql = "[capabilities]\nsql = [\"main\"]\nkv = [\"data\"]\n";
    for name in ["spin", "sql-abuse", "kv-abuse"] {
        let manifest = manifests::with(name, &format!("{sql}{limits}"));
        let bundle = pack(&manifest, &guest(name), &[]);
        server.upload("grant=all", bundle).await.assert_status(201);
    }
    let count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000) \
                 SELECT count(*) FROM n";
    let mix = async |number: u32| match number % 8 {
        0 => {
            let request = server.request(Method::POST, "/sql-abuse/").body(count);
            server.send(request).await.assert_status(200)
        }
        1 => server.get("/kv-abuse/value?bytes=500000").await,
        2 => server.get("/spin/?rounds=30000000").await,
        _ => server.get("/spin/?rounds=200000").await,
    };
    // Once, so that everything is compiled, opened and cached.
    for number in 0..8 {
        mix(number).await.assert_status(200);
    }
    let accounts = async || {
        let mut sum = Duration::ZERO;
        for name in ["spin", "sql-abuse", "kv-abuse"] {
            let usage = usage(&server, name).await;
            sum += Duration::from_micros(usage["total"]["cpu_us"].as_u64().unwrap());
        }
        sum
    };
    let before = process_time(&server);
    let requests = 2000;
    for _ in 0..requests {
        server.get("/nobody-is-here").await.assert_status(404);
    }
    let for_one = (process_time(&server) - before) / requests;

    // A machine that stops threads in the middle blurs one measurement, not three.
    let mut shares = Vec::new();
    for _ in 0..3 {
        let (booked, spent) = (accounts().await, process_time(&server));
        let (began, mut number) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(4) {
            let four = [number, number + 1, number + 2, number + 3].map(&mix);
            for answer in futures_util::future::join_all(four).await {
                answer.assert_status(200);
            }
            number += 4;
        }
        let spent = process_time(&server) - spent;
        let booked = accounts().await - booked;
        let own = for_one * number;
        let share = (booked + own).as_secs_f64() / spent.as_secs_f64();
        if (0.95..1.05).contains(&share) {
            return;
        }
        shares.push(format!(
            "{booked:?} booked and {own:?} of the host's own are {share} of {spent:?}, in {number} requests"
        ));
    }
    panic!("{}", shares.join("\n"));
}
