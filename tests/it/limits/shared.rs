//! Rate limits of several hosts on one server: as one, and what becomes of them without it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gantry_harness::{RedisServer, TestHost, guests::guest};
use http::Method;
use serde_json::Value;

use super::{let_through, manifest, passes, route};
use gantry::limits::Store;

const PATIENCE: Duration = Duration::from_secs(20);

async fn host_on(server: &RedisServer, routes: &str) -> TestHost {
    let host = TestHost::build().with(|config| {
        server.serve(config);
        // The machine may be busy.
        config.cluster.command_timeout_ms = 5_000;
        config.limits.store = Store::Shared;
    });
    let host = host.start().await;
    host.deploy(&manifest(routes), guest("echo")).await;
    host
}

async fn until_cluster_is(host: &TestHost, word: &str) {
    let began = Instant::now();
    while host.get("/readyz").await.json::<Value>()["cluster"] != word {
        assert!(began.elapsed() < PATIENCE, "the server is not {word}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_on_one_server_count_as_one() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let algorithms = ["token-bucket", "fixed-window", "sliding-window"];
    let routes = algorithms.map(|name| {
        let limits = format!(
            "{{ name = \"{name}\", limit = 10, window = \"24h\", key = \"route\", algorithm = \"{name}\" }}, \
             {{ name = \"mine-{name}\", limit = 100, window = \"24h\" }}"
        );
        route(&format!("/{name}"), &limits)
    });
    let routes = routes.concat();
    let hosts = [
        host_on(&server, &routes).await,
        host_on(&server, &routes).await,
    ];
    for name in algorithms {
        let path = format!("/echo/{name}");
        let requests = (0..40).map(|number| hosts[number % 2].get(&path));
        let answers = join_all(requests).await;
        let passed = answers.into_iter().map(passes).filter(|passed| *passed);
        assert_eq!(passed.count(), 10, "{name}");
        for host in &hosts {
            let refused = host.get(&path).await.assert_status(429);
            // What was refused was charged nowhere.
            let left = refused.header("ratelimit").unwrap().to_owned();
            assert!(left.contains(&format!("\"{name}\";r=0")), "{left}");
            assert!(left.contains(&format!("\"mine-{name}\";r=90")), "{left}");
        }
    }
    // Whatever is on the server ends by itself, and is of one part of a cluster.
    let keys = server.run(&["KEYS", "*"]).await;
    let keys: Vec<&str> = keys.lines().filter(|line| line.contains(':')).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("gantry:{limits}:plugin echo:"), "{key}");
        let ttl = server.run(&["PTTL", key.trim()]).await;
        let ttl: i64 = ttl.trim().trim_start_matches(':').parse().unwrap();
        assert!(ttl > 0, "{key} {ttl}");
    }
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_server_in_the_middle_of_traffic_is_met_as_each_limit_says() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    let limits = ["open", "closed", "local"].map(|fail| {
        let limit =
            format!("{{ limit = 4, window = \"24h\", key = \"route\", fail = \"{fail}\" }}");
        route(&format!("/{fail}"), &limit)
    });
    let host = host_on(&server, &limits.concat()).await;
    let [open, closed, local] = ["/echo/open", "/echo/closed", "/echo/local"];
    for path in [open, closed, local] {
        assert_eq!(let_through(&host, path, 2).await, 2, "{path}");
    }
    server.die().await;
    // Nobody waits, and nothing is an error of the host.
    assert_eq!(let_through(&host, open, 19).await, 19);
    let uncounted = host.get(open).await.assert_status(200);
    assert_eq!(uncounted.header("ratelimit"), None);
    for _ in 0..5 {
        let refused = host.get(closed).await;
        let refused = refused.assert_problem(503, "limit.uncounted");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(let_through(&host, local, 20).await, 4);
    let metrics = host.admin().get("/metrics").await.text();
    for (fail, count) in [("open", 20), ("closed", 5), ("local", 20)] {
        let line = format!("gantry_limits_without_shared_total{{fail=\"{fail}\"}} {count}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }

    server.go_on().await;
    until_cluster_is(&host, "ok").await;
    for path in [open, closed, local] {
        assert_eq!(let_through(&host, path, 9).await, 4, "{path}");
    }
    server.flush_all().await;
    for path in [open, closed, local] {
        assert_eq!(let_through(&host, path, 9).await, 4, "{path}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_progress_on_one_host_count_on_the_other() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let manifest = "schema = 1\n[plugin]\nname = \"stream-02\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                    [[route]]\nmethod = \"GET\"\npath = \"/{*rest}\"\nauth = \"public\"\n\
                    limits = [{ concurrent = 1, key = \"route\" }]\n";
    let other = route("/x", "");
    let hosts = [
        host_on(&server, &other).await,
        host_on(&server, &other).await,
    ];
    for host in &hosts {
        host.deploy(manifest, guest("stream-02")).await;
    }
    let request = hosts[0].request(Method::GET, "/stream-02/events?n=100000");
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(let_through(&hosts[1], "/stream-02/x", 3).await, 0);
    drop(answer);
    let began = Instant::now();
    while !passes(hosts[1].get("/stream-02/x").await) {
        assert!(began.elapsed() < PATIENCE, "no place is free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_limited_over_all_hosts() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let build = || {
        TestHost::build().with(|config| {
            server.serve(config);
            config.cluster.command_timeout_ms = 5_000;
            config.limits.store = Store::Shared;
            config.gateway.login_limit.limit = 4;
        })
    };
    let hosts = [build().start().await, build().start().await];
    let login = serde_json::json!({ "email": "ann@example.com", "password": "wrong" });
    let mut refused = 0;
    for number in 0..8 {
        let answer = hosts[number % 2].post("/api/auth/login", &login).await;
        refused += usize::from(answer.text().contains("limit.quota_exceeded"));
    }
    assert_eq!(refused, 4);
    for host in hosts {
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_while_the_server_decides_leaves_no_place_taken() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let limit = "{ concurrent = 2, key = \"route\" }";
    let host = host_on(&server, &route("/x", limit)).await;
    assert_eq!(let_through(&host, "/echo/x", 1).await, 1);
    server.hang().await;
    let requests = (0..8).map(|_| {
        let request = host.request(Method::GET, "/echo/x").send();
        tokio::time::timeout(Duration::from_millis(300), request)
    });
    for answer in join_all(requests).await {
        assert!(answer.is_err(), "nobody has decided");
    }
    server.wake().await;
    // Long before a lease would end by itself.
    let began = Instant::now();
    while let_through(&host, "/echo/x", 1).await == 0 {
        assert!(began.elapsed() < PATIENCE, "no place is free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_with_a_longer_window_than_before_holds_nobody_for_longer_than_that() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let host = host_on(&server, &route("/x", "")).await;
    for algorithm in ["fixed-window", "sliding-window", "token-bucket"] {
        let deploy = async |limit: u32, window: &str| {
            let limits = format!(
                "{{ limit = {limit}, window = \"{window}\", key = \"route\", algorithm = \"{algorithm}\" }}"
            );
            let manifest = manifest(&route(&format!("/{algorithm}"), &limits));
            host.deploy(&manifest, guest("echo")).await;
        };
        let path = format!("/echo/{algorithm}");
        let wait_s = async || {
            let answer = host.get(&path).await;
            let told = answer.header("ratelimit").unwrap().to_owned();
            let (_, seconds) = told.rsplit_once("t=").unwrap();
            seconds.parse::<u64>().unwrap()
        };
        deploy(100, "1m").await;
        wait_s().await;
        deploy(3, "24h").await;
        for _ in 0..5 {
            let seconds = wait_s().await;
            assert!(seconds <= 86_400 + 86_400 / 8, "{algorithm}: {seconds}");
        }
        deploy(100, "1m").await;
        let seconds = wait_s().await;
        assert!(seconds <= 60 + 60 / 8, "{algorithm}: {seconds}");
        let began = Instant::now();
        while !passes(host.get(&path).await) {
            assert!(
                began.elapsed() < PATIENCE,
                "{algorithm}: nobody is let through"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    host.stop().await;
}
