//! A server that several hosts share: lost, found again, slow, and guarded.

use std::time::{Duration, Instant};

use gantry::cluster::{self, Cluster, Error, Script};
use gantry_harness::{Process, RedisServer, TestHost};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

/// A connection of its own, kept until the token is dropped.
async fn connect(
    change: impl FnOnce(&mut cluster::Config),
) -> (Cluster, tokio_util::sync::DropGuard) {
    let mut config = cluster::Config::default();
    change(&mut config);
    let opened = Cluster::open(&config, &prometheus::Registry::new()).await;
    let cluster = opened.unwrap().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(cluster.clone().run(stop.clone()));
    (cluster, stop.drop_guard())
}

async fn ping(cluster: &Cluster) -> Result<String, Error> {
    cluster.query(&cluster::cmd("PING")).await
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_host_loses_the_shared_server_and_finds_it_again() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    let host = TestHost::build().with(|config| server.serve(config));
    let host = host.start().await;
    let standing = async || {
        let ready = host.get("/readyz").await.assert_status(200);
        ready.json::<Value>()["cluster"].as_str().map(str::to_owned)
    };
    assert_eq!(standing().await.as_deref(), Some("ok"));

    server.die().await;
    until("it is lost", async || {
        standing().await.as_deref() == Some("unreachable")
    })
    .await;

    server.go_on().await;
    until("it is found", async || {
        standing().await.as_deref() == Some("ok")
    })
    .await;
    let metrics = host.admin().get("/metrics").await.text();
    assert!(metrics.contains("gantry_cluster_reachable 1"), "{metrics}");
    assert!(
        metrics.contains("gantry_cluster_connections_total 2"),
        "{metrics}"
    );
    host.stop().await;
}

#[tokio::test]
async fn a_host_starts_without_its_shared_server() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    server.die().await;
    let host = TestHost::build().with(|config| server.serve(config));
    let host = host.start().await;
    let ready = host.get("/readyz").await.assert_status(200);
    assert_eq!(ready.json::<Value>()["cluster"], "unreachable");

    server.go_on().await;
    until("it is found", async || {
        host.get("/readyz").await.json::<Value>()["cluster"] == "ok"
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn a_host_of_its_own_says_nothing_of_a_shared_server() {
    let host = TestHost::start().await;
    let ready = host.get("/readyz").await.assert_status(200);
    assert_eq!(ready.json::<Value>().get("cluster"), None);
    host.stop().await;
}

#[tokio::test]
async fn a_server_that_hangs_costs_one_command_its_limit_and_the_others_nothing() {
    let Some(server) = RedisServer::start().await else {
        return;
    };
    let (cluster, _stop) = connect(|config| {
        config.redis_url = server.url().into();
        config.command_timeout_ms = 300;
        config.connect_timeout_ms = 300;
        config.in_flight_max = 1;
    })
    .await;
    assert_eq!(ping(&cluster).await.unwrap(), "PONG");

    server.hang().await;
    let (first, second) = tokio::join!(ping(&cluster), ping(&cluster));
    assert!(
        matches!(first, Err(Error::TimedOut { limit_ms: 300 })),
        "{first:?}"
    );
    assert!(
        matches!(second, Err(Error::Busy { limit: 1 })),
        "{second:?}"
    );
    let began = Instant::now();
    for _ in 0..1000 {
        let answer = ping(&cluster).await;
        assert!(matches!(answer, Err(Error::Unreachable)), "{answer:?}");
    }
    assert!(began.elapsed() < Duration::from_millis(250));

    server.wake().await;
    until("it is found", async || ping(&cluster).await.is_ok()).await;
}

#[tokio::test]
async fn a_script_runs_on_a_server_that_does_not_know_it() {
    let Some(mut server) = RedisServer::start().await else {
        return;
    };
    let (cluster, _stop) = connect(|config| config.redis_url = server.url().into()).await;
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let keys = [cluster.key("{a}:count")];
    let add = async || {
        let sum = cluster.run_script::<u64>(&script, &keys, |command| {
            command.arg(2);
        });
        sum.await
    };
    assert_eq!(add().await.unwrap(), 2);
    assert_eq!(add().await.unwrap(), 4);
    server.run(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(add().await.unwrap(), 6);
    assert_eq!(
        server.run(&["GET", "gantry:{a}:count"]).await,
        "$1\r\n6\r\n"
    );
    server.flush_all().await;
    assert_eq!(add().await.unwrap(), 2);

    server.die().await;
    let lost = add().await;
    assert!(matches!(lost, Err(Error::Unreachable)), "{lost:?}");
    server.go_on().await;
    until("it is found", async || ping(&cluster).await.is_ok()).await;
    assert_eq!(add().await.unwrap(), 2);

    let wrong = Script::new("return redis.call('NONSENSE')");
    let answer = cluster.run_script::<u64>(&wrong, &keys, |_| {}).await;
    assert!(matches!(answer, Err(Error::Refused(_))), "{answer:?}");
    assert!(cluster.is_reachable());
}

#[tokio::test]
async fn a_password_opens_the_server_and_is_told_to_nobody() {
    let options = ["--requirepass", "s3cret"];
    let Some(server) = RedisServer::start_with(&options).await else {
        return;
    };
    let port = server.port;
    let (cluster, _stop) = connect(|config| {
        config.redis_url = format!("redis://:s3cret@127.0.0.1:{port}").into();
    })
    .await;
    assert_eq!(ping(&cluster).await.unwrap(), "PONG");
    assert!(!format!("{cluster:?}").contains("s3cret"));

    let wrong = format!("redis://:wr0ng@127.0.0.1:{port}");
    let host = Process::start_with("", &[("GANTRY_CLUSTER__REDIS_URL", &wrong)]).await;
    let ready = host.get("/readyz").await.assert_status(200);
    assert_eq!(ready.json::<Value>()["cluster"], "unreachable");
    let settings = host.get("/_gantry/api/v1/settings").await.text();
    for text in [host.log(), settings] {
        assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
        assert!(!text.contains("wr0ng"), "{text}");
    }
}

#[tokio::test]
async fn the_server_is_reached_over_tls_if_its_certificate_is_trusted() {
    let file = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/accounts");
        format!("{folder}/{name}")
    };
    let (certificate, key) = (file("mail.crt"), file("mail.key"));
    let options = [
        "--port",
        "0",
        "--tls-port",
        "PORT",
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
    ];
    let Some(server) = RedisServer::start_with(&options).await else {
        return;
    };
    let url = format!("rediss://localhost:{}", server.port);
    let (trusting, _stop) = connect(|config| {
        config.redis_url = url.clone().into();
        config.ca_file = Some(certificate.clone().into());
    })
    .await;
    assert_eq!(ping(&trusting).await.unwrap(), "PONG");
    let (wary, _stop) = connect(|config| config.redis_url = url.into()).await;
    assert!(!wary.is_reachable());
}
