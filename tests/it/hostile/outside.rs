//! Guests that want to use the host against others, or against itself, and those that look for secrets.

use std::time::{Duration, Instant};

use gantry::config::Config;
use gantry_harness::{TestHost, guests::guest};
use serde_json::Value;

use super::{is_idle, neighbour_is_healthy};
use crate::manifests;
use crate::services::remote::Remote;

const LIMITS: &str = "[limits]\ncpu = \"2s\"\nwall = \"5s\"\nconcurrency = 64\n";

async fn host(remote: &Remote, more: &str, change: impl FnOnce(&mut Config)) -> TestHost {
    let allowed = vec![remote.address];
    let host = TestHost::build()
        .with(|config| {
            config.services.outbound.allow_private = allowed;
            change(config);
        })
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let address = remote.address;
    let http = format!("[capabilities]\nhttp = [{{ host = \"{address}\" }}]\n{more}{LIMITS}");
    host.deploy(&manifests::with("egress", &http), guest("egress"))
        .await;
    host
}

async fn ask(host: &TestHost, url: &str) -> Value {
    ask_of(host, "egress", url).await
}

async fn ask_of(host: &TestHost, plugin: &str, url: &str) -> Value {
    let answer = host.get(&format!("/{plugin}/?url={url}")).await;
    neighbour_is_healthy(host).await;
    answer.assert_status(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_others_end_at_each_of_their_limits() {
    let remote = Remote::start().await;
    let host = host(&remote, "", |config| {
        let outbound = &mut config.services.outbound;
        outbound.request_bytes_max = 1000;
        outbound.response_bytes_max = 100_000;
        outbound.first_byte_ms_max = 300;
        outbound.read_ms_max = 300;
        outbound.redirects_max = 2;
    })
    .await;
    let around = remote.url(&format!(
        "/go={}",
        remote.url(&format!("/go={}", remote.url("/go=/")))
    ));
    for (url, code) in [
        (remote.url("/bomb"), "outbound.response_too_large"),
        (remote.url("/announced-bomb"), "outbound.response_too_large"),
        (remote.url("/many-headers"), "outbound.headers_too_large"),
        (remote.url("/silent"), "outbound.timeout"),
        (around, "outbound.too_many_redirects"),
        (
            "http://169.254.169.254/latest/".to_owned(),
            "outbound.host_not_granted",
        ),
    ] {
        let answer = ask(&host, &url).await;
        assert_eq!(answer["code"], code, "{url}: {answer}");
    }
    let request = host.request(
        http::Method::POST,
        &format!("/egress/?url={}&method=POST", remote.url("/")),
    );
    let answer: Value = host.send(request.body(vec![b'x'; 1001])).await.json();
    assert_eq!(answer["code"], "outbound.request_too_large", "{answer}");
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_others_are_counted_at_once_and_in_a_minute() {
    let remote = Remote::start().await;
    let host = host(&remote, "", |config| {
        let outbound = &mut config.services.outbound;
        outbound.in_flight_max = 2;
        outbound.requests_per_minute_max = 8;
    })
    .await;
    let slow: Vec<_> = (0..2)
        .map(|_| {
            let (client, url) = ((*host).clone(), remote.url("/silent"));
            tokio::spawn(async move { client.get(&format!("/egress/?url={url}")).await })
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(5);
    while remote.heads().len() < 2 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = ask(&host, &remote.url("/")).await;
    assert_eq!(answer["code"], "outbound.too_many_in_flight", "{answer}");
    for call in slow {
        call.await.unwrap().assert_status(504);
    }
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(ask(&host, &remote.url("/")).await["code"].clone());
    }
    assert_eq!(codes[0], Value::Null);
    assert_eq!(codes[7], "outbound.rate_exceeded");
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_call_and_the_bytes_of_their_answers_are_counted() {
    let remote = Remote::start().await;
    let few = host(&remote, "", |config| {
        config.services.outbound.requests_per_call_max = 3;
    })
    .await;
    // "hello from afar" has 15 bytes.
    let small = host(&remote, "", |config| {
        config.services.outbound.response_bytes_per_call_max = 45;
    })
    .await;
    for host in [few, small] {
        let url = |times: u32| format!("{}&times={times}", remote.url("/"));
        for _ in 0..2 {
            let answer = ask(&host, &url(3)).await;
            assert_eq!(answer["status"], 200, "each call has its own: {answer}");
            let answer = ask(&host, &url(4)).await;
            assert_eq!(answer["code"], "outbound.budget_exhausted", "{answer}");
        }
        is_idle(&host).await;
    }
    // Each redirect is a request of its own.
    let few = self::host(&remote, "", |config| {
        config.services.outbound.requests_per_call_max = 2;
    })
    .await;
    let twice = remote.url(&format!("/go={}", remote.url("/go=/")));
    let answer = ask(&few, &twice).await;
    assert_eq!(answer["code"], "outbound.budget_exhausted", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_minute_are_counted_for_each_plugin_in_both_directions() {
    let remote = Remote::start().await;
    let host = host(&remote, "", |config| {
        config.services.outbound.bytes_per_minute_max = 20_000;
    })
    .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]\n",
        remote.address
    );
    let other = manifests::with("other", &format!("{http}{LIMITS}"));
    host.deploy(&other, guest("egress")).await;
    let send = async |plugin: &str, bytes: usize| -> Value {
        let path = format!("/{plugin}/?method=POST&url={}", remote.url("/"));
        let request = host.request(http::Method::POST, &path);
        let answer = host.send(request.body(vec![b'x'; bytes])).await;
        neighbour_is_healthy(&host).await;
        answer.assert_status(200).json()
    };
    let sent = send("egress", 19_000).await;
    assert_eq!(sent["status"], 200, "{sent}");
    let sent = send("egress", 2000).await;
    assert_eq!(sent["code"], "outbound.rate_exceeded", "{sent}");
    let sent = send("egress", 0).await;
    assert_eq!(
        sent["code"], "outbound.rate_exceeded",
        "all of it is used: {sent}"
    );
    let received = ask_of(&host, "other", &remote.url("/bomb")).await;
    assert_eq!(received["code"], "outbound.rate_exceeded", "{received}");
    is_idle(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_calls_itself_ends_at_a_depth_that_it_cannot_forge() {
    // The host must know its own address before it starts, so that the plugin may reach it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let host = TestHost::build()
        .with(|config| {
            config.listen = address;
            config.gateway.call_depth_max = 4;
            config.services.outbound.allow_private = vec![address];
        })
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let http = format!("[capabilities]\nhttp = [{{ host = \"{address}\" }}]\n{LIMITS}");
    host.deploy(&manifests::with("fork", &http), guest("fork"))
        .await;
    for forged in ["", "&header=gantry-depth:%200", "&header=Gantry-Depth:%200"] {
        let calls = usage_calls(&host).await;
        let path = format!("/fork/?url=http://{address}/fork/{forged}");
        let answer = host.get(&path).await.assert_status(200).text();
        assert!(answer.contains("request.too_deep"), "{answer}");
        neighbour_is_healthy(&host).await;
        is_idle(&host).await;
        let calls = usage_calls(&host).await - calls;
        assert_eq!(calls, 1 + 2 + 4 + 8, "two calls of each, four deep{forged}");
    }
    // A client that claims to be deep down gets no further; it cannot claim to be above itself.
    let request = host.request(http::Method::GET, "/neighbour/");
    host.send(request.header("gantry-depth", "4"))
        .await
        .assert_problem(508, "request.too_deep");
}

async fn usage_calls(host: &TestHost) -> u64 {
    let usage = host.admin().get("/_gantry/api/v1/plugins/fork/usage").await;
    usage.json::<Value>()["total"]["calls"].as_u64().unwrap()
}

const SECRET: &str = "sk-live-5f0d7be1c2a94e66";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_no_place_that_a_plugin_can_look_at_or_tell() {
    let remote = Remote::start().await;
    let address = remote.address;
    let allowed = vec![address];
    let host = TestHost::build()
        .with(|config| config.services.outbound.allow_private = allowed)
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    let secret = format!(
        "[capabilities]\nhttp = [{{ host = \"{address}\" }}]\n[[capabilities.secrets]]\nlabel = \"key\"\n\
         use = \"inject\"\nhost = \"{address}\"\nheader = \"Authorization\"\nprefix = \"Bearer \"\n\
         [[capabilities.secrets]]\nlabel = \"pepper\"\nuse = \"reveal\"\n{LIMITS}"
    );
    host.deploy(
        &manifests::with("secret-hunter", &secret),
        guest("secret-hunter"),
    )
    .await;
    let admin = host.admin();
    admin.set_secret("secret-hunter", "key", SECRET).await;
    // The plugin is given the beginning of the secret in disguise, and looks for it in all of its memory.
    let turned: String = SECRET[..12]
        .bytes()
        .map(|byte| char::from(byte ^ 1))
        .collect();
    let query = format!("turned={turned}&url={}", remote.url("/echo"));
    let ask = async |path: &str| {
        // Its own credentials do not reach the plugin, either.
        let request = admin.request(http::Method::GET, &format!("/secret-hunter{path}?{query}"));
        admin.send(request).await
    };
    let found: Value = ask("/").await.assert_status(200).json();
    assert_eq!(found["memory"], 0, "{found}");
    let text = found.to_string();
    assert!(
        text.contains("****"),
        "it was reflected, and covered: {text}"
    );
    let key = std::fs::read_to_string(host.data_dir().join("admin.key")).unwrap();
    let (error, panic) = (ask("/error").await, ask("/panic").await);
    error.clone().assert_status(502);
    panic.clone().assert_problem(502, "plugin.trapped");
    host.app().logs.flush().await;
    let log = admin
        .get("/_gantry/api/v1/plugins/secret-hunter/logs?limit=200")
        .await
        .assert_status(200)
        .text();
    assert!(log.contains("reflected"), "it told the log: {log}");
    for (place, text) in [
        ("the answer", text),
        ("an error", error.text()),
        ("a panic", panic.text()),
        ("the plugin's log", log),
        ("the access log", host.access_log().await),
    ] {
        assert!(!text.contains(SECRET), "{place}: {text}");
        assert!(!text.contains(key.trim()), "{place}: {text}");
    }
    assert!(
        remote.heads().iter().any(|head| head.contains(SECRET)),
        "it was sent"
    );
    neighbour_is_healthy(&host).await;
    is_idle(&host).await;
}
