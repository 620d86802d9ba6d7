//! A route that keeps crashing has a rest: for the clients that make it crash, and for everybody only if it crashes for
//! many of them.

use std::time::{Duration, Instant};

use gantry::config::Config;
use gantry_harness::{Answer, TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use crate::manifests;

/// A host that believes what a client on this machine says about its address, with a plugin that crashes on demand.
async fn host(change: impl FnOnce(&mut Config)) -> TestHost {
    let host = TestHost::build()
        .with(|config| {
            config.gateway.trusted_proxies = serde_json::from_value(json!(["127.0.0.1"])).unwrap();
            change(config);
        })
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    host.deploy(&manifests::open("fickle"), guest("fickle"))
        .await;
    host
}

async fn from(host: &TestHost, client: u8, path: &str) -> Answer {
    let request = host.request(Method::GET, path);
    let request = request.header("x-forwarded-for", format!("192.0.2.{client}"));
    host.send(request).await
}

async fn crash(host: &TestHost, client: u8) -> Answer {
    from(host, client, "/fickle/?crash=true").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_a_plugin_crash_on_purpose_is_kept_away_and_the_others_are_not() {
    let host = host(|_| {}).await;
    for _ in 0..20 {
        crash(&host, 66).await.assert_problem(502, "plugin.trapped");
    }
    // As often as they like: the calls do not reach the plugin, and nobody else notices.
    for _ in 0..50 {
        let answer = crash(&host, 66)
            .await
            .assert_problem(503, "plugin.held_off");
        let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&retry), "{retry}");
        from(&host, 1, "/fickle/").await.assert_status(200);
        from(&host, 1, "/neighbour/").await.assert_status(200);
    }
    let admin = host.admin();
    let plugin: Value = admin
        .get("/_gantry/api/v1/plugins/fickle")
        .await
        .assert_status(200)
        .json();
    let held = &plugin["held_routes"][0];
    assert_eq!((&held["route"], &held["clients"]), (&json!("/"), &json!(1)));
    assert_eq!(held["is_for_everybody"], false);
    let ready: Value = admin.get("/readyz").await.assert_status(200).json();
    assert!(ready.get("held_routes").is_none(), "{ready}");
    let metrics = admin.get("/metrics").await.text();
    let line = |name: &str, scope: &str| {
        let lines = metrics.lines().filter(|line| {
            line.starts_with(name) && line.contains("plugin=\"fickle\"") && line.contains(scope)
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum::<u64>()
    };
    assert_eq!(line("gantry_route_holds_total", "scope=\"client\""), 1);
    assert_eq!(line("gantry_route_holds_total", "scope=\"everybody\""), 0);
    assert_eq!(line("gantry_route_kept_away_total", ""), 50);
    // Another route of the same plugin is another matter.
    from(&host, 66, "/fickle/elsewhere")
        .await
        .assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_crashes_for_many_has_a_rest_and_comes_back_with_one_answer() {
    let host = host(|config| config.plugins.breaker.hold_ms = 400).await;
    for round in 0..5 {
        for client in 1..=4 {
            let answer = crash(&host, client).await;
            assert_eq!(answer.code(), "plugin.trapped", "{round}");
        }
    }
    // Those to whom it happened wait, with one that works, too.
    from(&host, 1, "/fickle/")
        .await
        .assert_problem(503, "plugin.held_off");
    from(&host, 1, "/neighbour/").await.assert_status(200);
    let operator: Value = host.admin().get("/readyz").await.assert_status(200).json();
    assert_eq!(
        operator["held_routes"][0],
        "fickle GET,POST,PUT,PATCH,DELETE /"
    );
    let stranger: Value = host.get("/readyz").await.assert_status(200).json();
    assert!(stranger.get("held_routes").is_none(), "{stranger}");
    // After the rest one more crash makes the next one longer, and an answer ends it.
    tokio::time::sleep(Duration::from_millis(450)).await;
    let began = Instant::now();
    assert_eq!(crash(&host, 1).await.code(), "plugin.trapped");
    from(&host, 2, "/fickle/")
        .await
        .assert_problem(503, "plugin.held_off");
    let answers = async || loop {
        let answer = from(&host, 2, "/fickle/").await;
        if answer.status == 200 {
            break began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let rest = answers().await;
    assert!(rest >= Duration::from_millis(750), "{rest:?}");
    for client in 1..=4 {
        from(&host, client, "/fickle/").await.assert_status(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_deployment_begins_anew() {
    let host = host(|_| {}).await;
    for _ in 0..20 {
        crash(&host, 1).await;
    }
    from(&host, 1, "/fickle/")
        .await
        .assert_problem(503, "plugin.held_off");
    host.deploy(
        &manifests::with("fickle", "[limits]\ncpu = \"400ms\""),
        guest("fickle"),
    )
    .await;
    from(&host, 1, "/fickle/").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_runs_out_is_a_crash_and_an_error_of_the_plugins_own_is_none() {
    let host = host(|config| config.plugins.breaker.crashes_min = 3).await;
    let short = "[limits]\nwall = \"50ms\"\ncpu = \"50ms\"";
    for name in ["slow", "loop-handler", "header-bomb"] {
        host.deploy(&manifests::with(name, short), guest(name))
            .await;
    }
    for path in ["/slow/?ms=5000", "/loop-handler/"] {
        for _ in 0..3 {
            host.get(path).await.assert_status(504);
        }
        host.get(path).await.assert_problem(503, "plugin.held_off");
    }
    for _ in 0..6 {
        host.get("/header-bomb/status-99")
            .await
            .assert_problem(502, "plugin.invalid_response");
    }
}
