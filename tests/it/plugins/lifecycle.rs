//! A version has a say before it goes live: its gate, and its work on data.

use std::time::{Duration, Instant};

use gantry::plugins::rollout::Weight;
use gantry::plugins::{DeployError, GrantMode, Upload};
use gantry_harness::{TestHost, guests::guest, pack};
use serde_json::{Value, json};

use crate::manifests;

const SETTINGS: &str = "[capabilities]\nkv = [\"data\"]\n[config.properties.health]\ntype = \"string\"\n\
                        [config.properties.migrate]\ntype = \"string\"\n";

async fn host() -> TestHost {
    let host = TestHost::build().with(|config| {
        config.plugins.rollout.health_cpu_ms = 300;
        config.plugins.rollout.health_wall_ms = 5000;
    });
    host.start().await
}

/// The guest `lifecycle` as some version of `hello`, with these settings.
fn upload(version: &str, settings: &Value) -> Upload {
    let manifest = manifests::with("hello", SETTINGS);
    let manifest = manifest.replace("version = \"1.0.0\"", &format!("version = \"{version}\""));
    Upload {
        bytes: pack(&manifest, &guest("lifecycle"), &[]),
        name: None,
        mount: None,
        is_nested_accepted: false,
        grant: GrantMode::AllAsked,
        canary: None,
        config: settings.as_object().cloned(),
        source: None,
        allows_downgrade: false,
        allows_breaking: true,
        by: "test".to_owned(),
        note: None,
    }
}

/// How often the data was migrated.
async fn migrated(host: &TestHost) -> i64 {
    host.get("/hello/").await.assert_status(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_says_it_is_unfit_does_not_go_live_and_the_old_one_stays() {
    let host = host().await;
    host.deploy(&manifests::with("hello", SETTINGS), guest("hello-v1"))
        .await;
    let still = async || {
        let answer = host.get("/hello/").await.assert_status(200);
        assert_eq!(answer.header("x-version"), Some("1"));
    };
    for (what, expected) in [
        ("error", "the supplier does not answer"),
        ("trap", "trap"),
        ("loop", "300 ms of processor time"),
    ] {
        for canary in [None, Weight::new(10).ok()] {
            let settings = json!({ "health": what });
            let upload = Upload {
                canary,
                ..upload("2.0.0", &settings)
            };
            let error = host.plugins().deploy(upload).await.expect_err(what);
            assert!(
                matches!(error, DeployError::Unhealthy { .. }),
                "{what}: {error:?}"
            );
            assert!(error.to_string().contains(expected), "{what}: {error}");
            still().await;
        }
    }
    let admin = host.admin();
    let manifest = manifests::with("hello", SETTINGS);
    let set = admin
        .set_config("hello", &json!({ "health": "error" }))
        .await;
    set.assert_status(200);
    let answer = admin
        .upload("", pack(&manifest, &guest("lifecycle"), &[]))
        .await;
    let answer = answer.assert_problem(422, "deploy.unhealthy");
    assert!(
        answer.text().contains("does not answer"),
        "{}",
        answer.text()
    );
    still().await;
    let host = host.restart().await;
    let answer = host.get("/hello/").await.assert_status(200);
    assert_eq!(
        answer.header("x-version"),
        Some("1"),
        "nor does it come up later"
    );
    host.plugins()
        .deploy(upload("2.0.0", &json!({})))
        .await
        .unwrap();
    // What migrated before it was found unfit is not done again: one was 1.0.0, the other 2.0.0.
    assert_eq!(migrated(&host).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_gate_stands_in_the_way_back() {
    let host = host().await;
    host.plugins()
        .deploy(upload("1.0.0", &json!({})))
        .await
        .unwrap();
    host.deploy(&manifests::with("hello", SETTINGS), guest("hello-v2"))
        .await;
    let admin = host.admin();
    let set = admin
        .set_config("hello", &json!({ "health": "error" }))
        .await;
    set.assert_status(200);
    // Its gate would say no, as it would now to every version that needs the same supplier.
    host.roll_back("hello").await.unwrap();
    assert_eq!(migrated(&host).await, 1, "the old version answers");
    let error = host
        .plugins()
        .deploy(upload("3.0.0", &json!({ "health": "error" })));
    let error = error.await.expect_err("it is unfit");
    assert!(matches!(error, DeployError::Unhealthy { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_migrated_once_for_each_version_and_before_the_gate() {
    let host = host().await;
    let deploy = |version: &str, settings: Value| host.plugins().deploy(upload(version, &settings));
    let gate = || json!({ "health": "migrated" });
    let first = deploy("1.0.0", gate()).await.unwrap();
    assert_eq!(first.migrated, ["data/1.0.0"]);
    let again = deploy("1.0.0", gate()).await.unwrap();
    assert!(again.migrated.is_empty(), "{:?}", again.migrated);
    assert_eq!(migrated(&host).await, 1);
    let error = deploy("1.1.0", json!({ "migrate": "error" })).await;
    let error = error.expect_err("its migration fails");
    assert!(matches!(error, DeployError::Hook { .. }), "{error:?}");
    assert!(error.to_string().contains("not as expected"), "{error}");
    assert_eq!(migrated(&host).await, 1);
    let mended = deploy("1.1.0", gate()).await.unwrap();
    assert_eq!(mended.migrated, ["data/1.1.0"], "it is tried again");
    host.roll_back("hello").await.unwrap();
    assert_eq!(migrated(&host).await, 2, "a rollback migrates nothing");
    let name = "hello".parse().unwrap();
    host.plugins().remove(&name, true, "test").await.unwrap();
    deploy("1.0.0", gate()).await.unwrap();
    assert_eq!(migrated(&host).await, 1, "new data is migrated anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_data_that_has_begun_ends_also_if_whoever_deploys_goes_away() {
    let host = host().await;
    let deploy = |version: &str, settings: Value| host.plugins().deploy(upload(version, &settings));
    deploy("1.0.0", json!({})).await.unwrap();
    let is_migrated = async |times: i64| {
        let until = Instant::now() + Duration::from_secs(20);
        while migrated(&host).await < times {
            assert!(Instant::now() < until, "it is not migrated {times} times");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = deploy("2.0.0", json!({ "migrate": "slow" })) => panic!("too early: {ended:?}"),
        () = is_migrated(2) => {}
    }
    is_migrated(3).await;
    // It is known that it was done, so nobody has to wait or to do it again.
    let began = Instant::now();
    let again = loop {
        match deploy("2.0.0", json!({})).await {
            Err(DeployError::Migrating { .. }) if began.elapsed() < Duration::from_secs(5) => {}
            ended => break ended.unwrap(),
        }
    };
    assert!(again.migrated.is_empty(), "{:?}", again.migrated);
    assert_eq!(migrated(&host).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_the_manifest_begin_with_data_that_the_version_has_worked_on() {
    let host = host().await;
    let test = "[[test]]\nname = \"it was migrated once\"\nrequest = \"GET /\"\nstatus = 200\nresponse.json = 1\n";
    let twice = format!("{SETTINGS}{test}{}", test.replace("once", "anew"));
    let manifest = manifests::with("hello", &twice);
    let upload = |settings: Value| Upload {
        bytes: pack(&manifest, &guest("lifecycle"), &[]),
        ..upload("1.0.0", &settings)
    };
    let deployed = host.plugins().deploy(upload(json!({}))).await.unwrap();
    let report = deployed.tests.expect("it has tests");
    assert!(report.is_passed() && report.tests.len() == 2, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deployments_of_one_version_migrate_its_data_once() {
    let host = host().await;
    // So that the two do not meet in the compiler.
    let other = manifests::with("other", SETTINGS);
    host.deploy(&other, guest("lifecycle")).await;
    let deploy = || host.plugins().deploy(upload("1.0.0", &json!({})));
    let (one, two, three) = tokio::join!(deploy(), deploy(), deploy());
    let done = [one, two, three].into_iter().filter(Result::is_ok).count();
    assert!(done >= 1);
    assert_eq!(migrated(&host).await, 1);
}
