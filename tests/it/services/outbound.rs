//! Requests of plugins to other servers: what is granted goes out, nothing else does.

use std::time::{Duration, Instant};

use gantry::plugins::{DeployError, GrantMode};
use gantry_harness::{TestHost, guests::guest};
use serde_json::Value;

use super::remote::Remote;
use crate::manifests;

/// A host that may reach this server on the same machine, with a plugin that may too.
async fn with_egress(remote: &Remote, more: &str) -> TestHost {
    let allowed = vec![remote.address];
    let host = TestHost::build()
        .with(|config| config.services.outbound.allow_private = allowed)
        .start()
        .await;
    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\"{more} }}]",
        remote.address
    );
    let limits = "\n[limits]\nwall = \"2s\"\ncpu = \"2s\"";
    host.deploy(
        &manifests::with("egress", &format!("{http}{limits}")),
        guest("egress"),
    )
    .await;
    host
}

async fn ask(host: &TestHost, url: &str) -> Value {
    host.get(&format!("/egress/?url={url}"))
        .await
        .assert_status(200)
        .json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_granted_goes_out_and_comes_back() {
    let remote = Remote::start().await;
    let host = with_egress(&remote, "").await;
    let answer = ask(&host, &remote.url("/x")).await;
    assert_eq!(
        (&answer["status"], &answer["body"]),
        (&200.into(), &"hello from afar".into()),
        "{answer}"
    );
    assert!(remote.heads()[0].starts_with("get /x http/1.1"));
    // A redirect within what is granted is followed.
    let answer = ask(
        &host,
        &remote.url(&format!("/go=http://{}/y", remote.address)),
    )
    .await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(remote.heads().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_denied_and_never_dialled() {
    let (remote, other) = (Remote::start().await, Remote::start().await);
    let host = with_egress(&remote, ", methods = [\"GET\"]").await;
    for url in [
        other.url("/"),
        "https://example.com/".to_owned(),
        // The same machine under other names.
        format!("http://localhost:{}/", remote.address.port()),
        format!("http://2130706433:{}/x", other.address.port()),
        format!("http://user:secret@{}/", remote.address),
        "file:///etc/passwd".to_owned(),
        // Sent there by somebody who may be asked.
        remote.url(&format!("/go={}", other.url("/"))),
        remote.url("/go=http://169.254.169.254/latest/meta-data/"),
    ] {
        let answer = ask(&host, &url).await;
        assert!(
            answer["code"].is_string() && answer["status"].is_null(),
            "{url}: {answer}"
        );
    }
    let posted = host
        .get(&format!("/egress/?method=POST&url={}", remote.url("/")))
        .await;
    assert_eq!(
        posted.json::<Value>()["code"],
        "outbound.method_not_granted",
        "only GET was granted"
    );
    assert!(other.heads().is_empty(), "{:?}", other.heads());
    assert!(
        remote
            .heads()
            .iter()
            .all(|head| head.starts_with("get /go=")),
        "{:?}",
        remote.heads()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_forbidden_even_if_a_grant_names_them() {
    let remote = Remote::start().await;
    let host = TestHost::start().await;
    let port = remote.address.port();
    let names = ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254"];
    let hosts: Vec<_> = names
        .iter()
        .map(|name| format!("{{ host = \"{name}:{port}\" }}"))
        .collect();
    let http = format!("[capabilities]\nhttp = [{}]", hosts.join(", "));
    host.deploy(&manifests::with("egress", &http), guest("egress"))
        .await;
    for name in names {
        for scheme in ["http", "https"] {
            let answer = ask(&host, &format!("{scheme}://{name}:{port}/")).await;
            let code = match (scheme, name) {
                ("http", _) => "outbound.scheme_forbidden",
                // Not even whether there is such a name.
                (_, "localhost") => "outbound.unreachable",
                _ => "outbound.address_forbidden",
            };
            assert_eq!(answer["code"], code, "{scheme} {name}: {answer}");
        }
    }
    assert!(remote.heads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_was_granted_nothing_is_not_deployed_and_one_that_lost_its_grant_reaches_nobody()
 {
    let remote = Remote::start().await;
    let host = with_egress(&remote, "").await;
    let name = "egress".parse().unwrap();
    host.plugins()
        .set_grants(&name, &Default::default(), "test")
        .await
        .unwrap();
    let answer = ask(&host, &remote.url("/")).await;
    assert_eq!(answer["code"], "outbound.host_not_granted");
    assert!(remote.heads().is_empty());

    let http = format!(
        "[capabilities]\nhttp = [{{ host = \"{}\" }}]",
        remote.address
    );
    for (manifest, grant) in [
        (manifests::with("other", &http), GrantMode::Keep),
        (manifests::open("other"), GrantMode::AllAsked),
    ] {
        let refused = host.try_deploy(&manifest, guest("egress"), grant).await;
        assert!(
            matches!(refused, Err(DeployError::Mistakes(_))),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_made_to_hurt_cost_only_the_request_that_wanted_them() {
    let remote = Remote::start().await;
    let host = with_egress(&remote, "").await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    for path in [
        "/announced-bomb",
        "/bomb",
        "/many-headers",
        "/no-http",
        "/silent",
    ] {
        let began = Instant::now();
        let answer = host
            .get(&format!("/egress/?url={}", remote.url(path)))
            .await;
        let is_stopped = answer.status.as_u16() >= 500;
        assert!(
            is_stopped || answer.json::<Value>()["code"].is_string(),
            "{path}: {}",
            answer.text()
        );
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{path}: {:?}",
            began.elapsed()
        );
        host.get("/neighbour/").await.assert_status(200);
    }
    assert_eq!(
        ask(&host, &remote.url("/")).await["status"],
        200,
        "the next one works"
    );
}
