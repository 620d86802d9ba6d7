//! Requests of plugins to other servers, by somebody who wants to turn them against the host.

use gantry_harness::{Process, TestHost, guests::guest, pack};
use serde_json::Value;

use super::remote::Remote;
use crate::manifests;

const SECRET: &str = "sk-live-8d1f0c5e27aa93be";

/// The real server, with all of its log, in an environment that wants to send everything elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_echoed_is_seen_nowhere_and_no_proxy_of_the_environment_is_asked() {
    let (remote, proxy) = (Remote::start().await, Remote::start().await);
    let (host, proxy_url) = (remote.address, proxy.url(""));
    let mut environment = vec![("RUST_LOG", "trace"), ("NO_PROXY", "")];
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        environment.push((name, &proxy_url));
    }
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        environment.push((name, &proxy_url));
    }
    let settings = format!("[services.outbound]\nallow_private = [\"{host}\"]");
    let server = Process::start_with(&settings, &environment).await;
    let manifest = manifests::with(
        "egress",
        &format!(
            "[capabilities]\nhttp = [{{ host = \"{host}\" }}, {{ host = \"nowhere.invalid\" }}]\n\
             [[capabilities.secrets]]\nlabel = \"key\"\nuse = \"inject\"\nhost = \"{host}\"\n\
             header = \"Authorization\"\nprefix = \"Bearer \"\n"
        ),
    );
    let bundle = pack(&manifest, &guest("egress"), &[]);
    server.upload("grant=all", bundle).await.assert_status(201);
    server.set_secret("egress", "key", SECRET).await;

    let back = remote.url("/go=/echo");
    let mut seen = Vec::new();
    for url in [
        remote.url("/echo"),
        back,
        remote.url("/echo-and-break"),
        remote.url("/announced-bomb"),
        remote.url("/many-headers"),
        remote.url("/no-http"),
        format!("https://{host}/echo"),
        "https://nowhere.invalid/".to_owned(),
    ] {
        let answer = server.get(&format!("/egress/?url={url}")).await;
        seen.push(format!("{url}: {}", answer.text()));
    }
    let all = seen.join("\n");
    assert!(
        all.contains("authorization: Bearer ****"),
        "it was echoed: {all}"
    );
    assert!(!all.contains(SECRET), "{all}");
    let heads = remote.heads();
    assert!(
        heads.iter().any(|head| head.contains(SECRET)),
        "it was sent"
    );
    assert!(proxy.heads().is_empty(), "{:?}", proxy.heads());

    let logs = server.get("/_gantry/api/v1/plugins/egress/logs").await;
    for (place, text) in [
        ("the plugin's log", logs.assert_status(200).text()),
        ("the host's log", server.log()),
        ("the access log", server.access_log().await),
    ] {
        assert!(!text.is_empty() && !text.contains(SECRET), "{place} has it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_speaks_in_no_other_name_than_that_of_the_host_it_asks() {
    let remote = Remote::start().await;
    let allowed = vec![remote.address];
    let host = TestHost::build()
        .with(|config| config.services.outbound.allow_private = allowed)
        .start()
        .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]",
        remote.address
    );
    host.deploy(&manifests::with("egress", &http), guest("egress"))
        .await;
    let url = remote.url("/");
    for (header, passes) in [
        ("Host: internal.example", false),
        ("hOST: internal.example", false),
        ("Transfer-Encoding: chunked", false),
        ("Connection: x-fine", false),
        ("Proxy-Authorization: x", false),
        ("X-Fine: yes", true),
    ] {
        let path = format!("/egress/?url={url}&header={header}").replace(' ', "%20");
        let answer = host.get(&path).await.json::<Value>();
        let is_sent = answer["status"] == 200;
        assert!(
            is_sent || answer["code"] == "outbound.invalid_request",
            "{header}: {answer}"
        );
        assert_eq!(is_sent, passes, "{header}: {answer}");
    }
    let heads = remote.heads();
    assert!(
        heads.iter().all(|head| !head.contains("internal.example")),
        "{heads:?}"
    );
    assert!(
        heads.iter().any(|head| head.contains("x-fine: yes")),
        "{heads:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_packed_stays_packed_and_a_minute_has_its_bytes() {
    let remote = Remote::start().await;
    let allowed = vec![remote.address];
    let host = TestHost::build()
        .with(|config| {
            config.services.outbound.allow_private = allowed;
            config.services.outbound.bytes_per_minute_max = 250_000;
        })
        .start()
        .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]",
        remote.address
    );
    for name in ["egress", "neighbour"] {
        host.deploy(&manifests::with(name, &http), guest("egress"))
            .await;
    }
    let ask = async |plugin: &str| {
        let url = remote.url("/packed-bomb");
        host.get(&format!("/{plugin}/?url={url}"))
            .await
            .json::<Value>()
    };
    for _ in 0..2 {
        let answer = ask("egress").await;
        assert_eq!(answer["body"].as_str().unwrap().len(), 100_000);
    }
    let answer = ask("egress").await;
    assert_eq!(answer["code"], "outbound.rate_exceeded", "{answer}");
    assert_eq!(ask("neighbour").await["status"], 200);
}
