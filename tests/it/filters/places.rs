//! Filters come, change and go: what names them is never left without.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use gantry::plugins::{DeployError, GrantMode, manifest::Manifest};
use gantry_harness::{TestHost, guests::guest, pack};
use serde_json::{Value, json};

use super::{CLOSED_MARK, arrived, deploy_mark, filter, filtered, of_operator};
use crate::manifests;

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_are_not_there_are_told_with_all_other_mistakes() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("hello"), guest("hello-v1"))
        .await;
    deploy_mark(&host, "mark").await;
    let around = "{ use = \"plugin:guard\", on_failure = \"closed\" }, \
                  { use = \"plugin:hello\", on_failure = \"open\" }, \
                  { use = \"plugin:mark\" }, \
                  { use = \"securty-headers\" }, \
                  { use = \"security-headers\", on_failure = \"open\" }, \
                  { use = \"body-limit\" }, \
                  { use = \"headers\", request = { set = { host = \"a\" } }, \
                    response = { set = { strict-transport-security = \"max-age=1\" } } }";
    let own = "{ use = \"plugin:other\", on_failure = \"shut\" }";
    let manifest = filtered("echo", &[("/", own)], around);
    let mistakes = Manifest::parse(&manifest).unwrap_err();
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let told = told.join("\n");
    for expected in [
        "`on_failure` of `plugin:mark` is missing",
        "there is no filter `securty-headers`",
        "did you mean `security-headers`?",
        "`on_failure` is for plugins; the host's own filters do not fail",
        "`body_bytes_max` of `body-limit` is missing",
        "the header `host` is the host's to set",
        "the header `strict-transport-security` is the host's to set",
        "`on_failure` cannot be \"shut\"",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    // What is there only the host knows, and it looks when the manifest can be read.
    let around = "{ use = \"plugin:guard\", on_failure = \"closed\" }, \
                  { use = \"plugin:hello\", on_failure = \"open\" }";
    let manifest = filtered("echo", &[("/", ""), ("/", "")], around);
    let refused = host
        .admin()
        .upload("grant=all", pack(&manifest, &guest("echo"), &[]))
        .await
        .assert_problem(422, "deploy.invalid");
    let told = refused.text();
    for expected in [
        "there is no filter `guard`",
        "deploy the filter first",
        "the plugin `hello` is no filter",
        "is routed twice",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_declares_no_more_than_it_can_do() {
    let host = TestHost::start().await;
    let more = "[filter]\nrequest_body_max = \"1KiB\"\nresponse_body_max = \"1GiB\"\n\
                [[route]]\nmethod = \"GET\"\npath = \"/\"\n";
    let refused = host
        .try_deploy(
            &filter("shout", &[], more),
            guest("filter-shout"),
            GrantMode::AllAsked,
        )
        .await
        .unwrap_err();
    let DeployError::Mistakes(mistakes) = refused else {
        panic!("{refused:?}");
    };
    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let told = told.join("\n");
    for expected in [
        "`filter.request_body_max` asks for bodies that nothing looks at",
        "`filter.response_body_max` asks for 1GiB, the operator allows at most 4MiB",
        "a filter has no routes",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert_eq!(mistakes.len(), 3, "{told}");
    let more = "[filter]\nrequest_body_max = \"1KiB\"\n";
    let manifest = manifests::with("hello", more);
    let refused = host.try_deploy(&manifest, guest("hello-v1"), GrantMode::AllAsked);
    let refused = format!("{:?}", refused.await.unwrap_err());
    assert!(
        refused.contains("asks for bodies that nothing looks at"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_named_cannot_be_taken_away() {
    let host = TestHost::build();
    let host = host.with(|config| config.plugins.filters = vec![of_operator("plugin:operator")]);
    let host = host.start().await;
    deploy_mark(&host, "operator").await;
    deploy_mark(&host, "mark").await;
    let manifest = filtered("echo", &[("/{*rest}", CLOSED_MARK)], "");
    host.deploy(&manifest, guest("echo")).await;
    let admin = host.admin();
    for name in ["mark", "operator"] {
        let removed = admin
            .delete(&format!("/_gantry/api/v1/plugins/{name}"))
            .await;
        removed.assert_problem(409, "deploy.filter_missing");
        let other = pack(&manifests::open(name), &guest("hello-v1"), &[]);
        let replaced = admin.upload("grant=all&allow_downgrade=true", other).await;
        let told = replaced.assert_problem(409, "deploy.filter_missing").text();
        assert!(told.contains(&format!("the filter `{name}`")), "{told}");
    }
    let answer = host.get("/echo/x").await.assert_status(200);
    assert_eq!(answer.header("x-out"), Some("<mark<operator"));
    // Nobody names it any more.
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let removed = admin.delete("/_gantry/api/v1/plugins/mark").await;
    removed.assert_status(204);
    // The version before names it, so there is no way back to it.
    let back = admin.roll_back("echo").await;
    back.assert_problem(409, "deploy.filter_missing");
    let answer = host.get("/echo/x").await.assert_status(200);
    assert_eq!(answer.header("x-out"), Some("<operator"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_filter_a_closed_route_is_shut_and_an_open_one_is_not() {
    let host = TestHost::start().await;
    deploy_mark(&host, "mark").await;
    let open = "{ use = \"plugin:mark\", on_failure = \"open\" }";
    let manifest = filtered("echo", &[("/closed", CLOSED_MARK), ("/open", open)], "");
    host.deploy(&manifest, guest("echo")).await;
    host.get("/echo/closed").await.assert_status(200);
    let artifacts = host.data_dir().join("artifacts");
    let digest = gantry::ids::Digest::of(&guest("filter-mark")).to_string();
    let host = host
        .restart_with(move || {
            let mut removed = 0;
            for entry in walk(&artifacts) {
                if entry
                    .to_string_lossy()
                    .contains(digest.trim_start_matches("sha256:"))
                {
                    std::fs::remove_file(entry).unwrap();
                    removed += 1;
                }
            }
            assert_eq!(removed, 1, "the filter's component");
        })
        .await;
    let refused = host.get("/echo/closed").await;
    let refused = refused.assert_problem(503, "filter.unavailable");
    assert!(
        refused.text().contains("the filter `mark`"),
        "{}",
        refused.text()
    );
    let answer = host.get("/echo/open").await.assert_status(200);
    assert_eq!(arrived(&answer, "x-in"), None);
    // Once it is there again, it filters again.
    deploy_mark(&host, "mark").await;
    let answer = host.get("/echo/closed").await.assert_status(200);
    assert_eq!(arrived(&answer, "x-in").as_deref(), Some(">mark"));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(walk(&path)),
            false => files.push(path),
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_swapped_while_requests_pass_and_each_meets_one_version() {
    let host = TestHost::start().await;
    deploy_mark(&host, "mark").await;
    let manifest = filtered("echo", &[("/{*rest}", CLOSED_MARK)], "");
    host.deploy(&manifest, guest("echo")).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (client, is_over) = (host.on_a_connection_of_its_own(), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut seen = std::collections::BTreeSet::new();
                while !is_over.load(Relaxed) {
                    let answer = client.get("/echo/x").await.assert_status(200);
                    let before = arrived(&answer, "x-in").unwrap();
                    let after = answer.header("x-out").unwrap();
                    assert_eq!(before[1..], after[1..], "one request, one version");
                    seen.insert(before);
                }
                seen
            })
        })
        .collect();
    for version in 0..20 {
        let mark = format!("mark{version}");
        let manifest = filter("mark", &[("mark", &mark)], "");
        host.deploy(&manifest, guest("filter-mark")).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = host.get("/echo/x").await;
    assert_eq!(answer.header("x-out"), Some("<mark19"));
    is_over.store(true, Relaxed);
    for client in clients {
        let seen = client.await.expect("no request failed");
        assert!(seen.len() > 1, "{seen:?}");
    }
    // The plugin itself was not deployed again.
    let plugin: Value = host
        .admin()
        .get("/_gantry/api/v1/plugins/echo/deployments")
        .await
        .assert_status(200)
        .json();
    assert_eq!(
        plugin["items"].as_array().map(Vec::len),
        Some(1),
        "{plugin}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_of_a_filter_meets_its_part_of_the_requests() {
    let host = TestHost::build()
        .with(|config| config.plugins.rollout.spread = gantry::plugins::rollout::Spread::Requests)
        .start()
        .await;
    deploy_mark(&host, "mark").await;
    let manifest = filtered("echo", &[("/{*rest}", CLOSED_MARK)], "");
    host.deploy(&manifest, guest("echo")).await;
    let canary = filter("mark", &[("mark", "canary")], "").replace("1.0.0", "2.0.0");
    let canary = pack(&canary, &guest("filter-mark"), &[]);
    let deployed = host.admin().upload("canary=50", canary).await;
    deployed.assert_status(201);
    let mut by_canary = 0;
    for _ in 0..20 {
        let answer = host.get("/echo/x").await.assert_status(200);
        let before = arrived(&answer, "x-in").unwrap();
        assert_eq!(before[1..], answer.header("x-out").unwrap()[1..]);
        by_canary += usize::from(before == ">canary");
    }
    assert_eq!(by_canary, 10);
    let status = host
        .admin()
        .get("/_gantry/api/v1/plugins/mark/status")
        .await;
    let status: Value = status.assert_status(200).json();
    let requests = &status["versions"][1]["requests"];
    assert_eq!(requests, &json!(20), "both directions count: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_filter_count_from_the_next_request_on() {
    let host = TestHost::start().await;
    deploy_mark(&host, "mark").await;
    let manifest = filtered("echo", &[("/{*rest}", CLOSED_MARK)], "");
    host.deploy(&manifest, guest("echo")).await;
    let set = host
        .admin()
        .set_config("mark", &json!({ "mark": "other" }))
        .await;
    set.assert_status(200);
    let answer = host.get("/echo/x").await.assert_status(200);
    assert_eq!(answer.header("x-out"), Some("<other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authors_tests_are_run_without_the_plugins_that_filter() {
    let host = TestHost::start().await;
    deploy_mark(&host, "mark").await;
    let test = "[[test]]\nname = \"it answers\"\nrequest = \"GET /turned-back\"\nstatus = 200\n\
                response.json = { path = \"/turned-back\" }\n";
    let manifest = filtered("echo", &[("/{*rest}", CLOSED_MARK)], "") + test;
    let deployed = host.deploy(&manifest, guest("echo")).await;
    let tests = deployed.tests.expect("they were run");
    assert_eq!(tests.tests.len(), 1);
    let answer = host.get("/echo/turned-back").await;
    assert_eq!(answer.text(), "turned back by mark");
}
