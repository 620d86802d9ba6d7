//! Two at once: what one does is never undone by the other, and what fails leaves no trace that comes alive later.

use std::time::{Duration, Instant};

use bytes::Bytes;
use gantry::plugins::store::StoreError;
use gantry::plugins::{DeployError, GrantMode, Mount};
use gantry_harness::{Process, TestHost, guests::guest, pack};
use serde_json::{Value, json};

use crate::{components, manifests};

const API: &str = "/_gantry/api/v1";

/// A component that answers as `hello-v1` and takes some seconds to compile.
fn slow() -> Bytes {
    components::slow_to_compile(4000)
}

/// A host whose compiler gives a component so many seconds at first, by which its children are known among others.
async fn host_that_compiles(seconds: u64) -> TestHost {
    TestHost::build()
        .with(|config| {
            config.runtime.compile.quick_cpu_s = seconds;
            config.runtime.compile.wall_s = 300;
        })
        .start()
        .await
}

/// Until a deployment that was begun has read what the plugin is now, and is compiling with so many seconds.
async fn until_it_compiles(seconds: u64) {
    let argument = format!("--cpu-s\0{seconds}\0");
    let is_compiling = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(&argument))
    };
    let began = Instant::now();
    while !is_compiling() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "nothing compiles"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn version(host: &TestHost) -> String {
    let answer = host.get("/hello/").await.assert_status(200);
    answer.header("x-version").unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_changes_during_a_deployment_is_kept_and_the_deployment_is_refused() {
    let settings = "[config.properties.greeting]\ntype = \"string\"\n";
    let manifest = manifests::with(
        "hello",
        &format!("[capabilities]\nkv = [\"data\"]\n{settings}"),
    );
    let changes = ["settings", "grants", "mount", "rollback"];
    for what in changes {
        let host = host_that_compiles(11).await;
        for _ in 0..2 {
            host.deploy(&manifest, guest("hello-v2")).await;
        }
        let name = "hello".parse().unwrap();
        let change = async {
            until_it_compiles(11).await;
            let plugins = host.plugins();
            match what {
                "settings" => {
                    let values = json!({ "greeting": "Salut" });
                    let values = values.as_object().unwrap();
                    plugins.set_config(&name, values, "operator").await
                }
                "grants" => {
                    plugins
                        .set_grants(&name, &Default::default(), "operator")
                        .await
                }
                "mount" => {
                    let mount = Mount::new(None, "/moved").unwrap();
                    plugins.set_mount(&name, mount, false, "operator").await
                }
                _ => plugins
                    .roll_back(&name, None, "operator", None)
                    .await
                    .map(drop),
            }
        };
        let deploy = host.try_deploy(&manifest, slow(), GrantMode::AllAsked);
        let (deployed, changed) = tokio::join!(deploy, change);
        changed.unwrap();
        let error = deployed.expect_err(what);
        assert!(
            matches!(error, DeployError::Store(StoreError::Changed { .. })),
            "{what}: {error:?}"
        );
        assert!(error.to_string().contains("deploy again"), "{error}");
        let after = |host: TestHost| async {
            let row = host.plugins().get(&"hello".parse().unwrap()).await.unwrap();
            let grants = host.plugins().store().grants(&row.name).await.unwrap();
            let facts = (
                row.config.len(),
                grants.iter().count(),
                row.mount.to_string(),
                row.live,
            );
            (host, facts)
        };
        let (host, facts) = after(host).await;
        let expected = match what {
            "settings" => (1, 1, "/hello"),
            "grants" => (0, 0, "/hello"),
            "mount" => (0, 1, "/moved"),
            _ => (0, 1, "/hello"),
        };
        assert_eq!((facts.0, facts.1, &*facts.2), expected, "{what}");
        host.app().registry.refresh().await.unwrap();
        let live = host.app().registry.live();
        let live = live.get(&name).unwrap();
        assert_eq!(
            Some(live.deployment()),
            facts.3,
            "{what}: memory and rows agree"
        );
        let answer = host.get(&format!("{}/", facts.2)).await.assert_status(200);
        assert_eq!(answer.header("x-version"), Some("2"), "{what}");
        // Nor does it come up at the next start.
        let (_host, again) = after(host.restart().await).await;
        assert_eq!(again, facts, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_that_is_refused_leaves_the_one_that_came_before_it() {
    let host = host_that_compiles(12).await;
    let manifest = manifests::open("hello");
    // So that the second one need not wait for the compiler.
    host.deploy(&manifests::open("other"), guest("hello-v2"))
        .await;
    let quick = async {
        until_it_compiles(12).await;
        host.deploy(&manifest, guest("hello-v2")).await
    };
    let (late, _) = tokio::join!(host.try_deploy(&manifest, slow(), GrantMode::Keep), quick);
    late.expect_err("another one came first");
    assert_eq!(version(&host).await, "2");
    let host = host.restart().await;
    assert_eq!(version(&host).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_go_live_is_not_recorded_and_does_not_come_up_later() {
    let host = TestHost::start().await;
    let settings = "[config.properties.greeting]\ntype = \"string\"\n";
    let manifest = manifests::with("hello", settings);
    for name in ["hello-v1", "hello-v2"] {
        host.deploy(&manifest, guest(name)).await;
    }
    // The component of the first one is lost, whatever is compiled of it too; the copy to mend it with is kept.
    let first = gantry::ids::Digest::of(&guest("hello-v1")).to_string();
    let mut kept = Vec::new();
    for folder in ["artifacts", "compiled"] {
        for entry in std::fs::read_dir(host.data_dir().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains(&first) {
                kept.push((path.clone(), std::fs::read(&path).unwrap()));
                std::fs::write(&path, b"evil").unwrap();
            }
        }
    }
    let name = "hello".parse().unwrap();
    let values = json!({ "greeting": "Salut" });
    let (back, set) = tokio::join!(
        host.roll_back("hello"),
        host.plugins()
            .set_config(&name, values.as_object().unwrap(), "operator"),
    );
    let error = back.expect_err("its component is damaged");
    assert!(matches!(error, DeployError::NotLive { .. }), "{error:?}");
    set.unwrap();
    assert_eq!(version(&host).await, "2");
    for (path, bytes) in kept {
        std::fs::write(path, bytes).unwrap();
    }
    host.app().registry.refresh().await.unwrap();
    assert_eq!(
        version(&host).await,
        "2",
        "it could be loaded now, but nobody wants it any more"
    );
    let host = host.restart().await;
    assert_eq!(version(&host).await, "2");
    let row = host.plugins().get(&name).await.unwrap();
    assert_eq!(row.config.len(), 1, "what was set meanwhile is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_compiles_slowly_does_not_hold_up_the_others() {
    let server = Process::start("[runtime.compile]\nquick_cpu_s = 1\nwall_s = 300\n").await;
    let others = async {
        until_it_compiles(1).await;
        for name in ["one", "two"] {
            let query = format!("name={name}");
            server
                .upload(&query, guest("hello-v2"))
                .await
                .assert_status(201);
        }
    };
    // By its size it is not slow yet: that is found out.
    let slow = components::slow_to_compile(6500);
    let slow = async { server.upload("name=slow", slow).await };
    let mut slow = std::pin::pin!(slow);
    tokio::select! {
        answer = &mut slow => panic!("the slow one was done first: {answer:?}"),
        () = others => {}
    }
    slow.await.assert_status(201);
    server.get("/slow/").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_what_is_in_the_way() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let bundle = |name: &str| pack(&manifests::open(name), &guest("hello-v1"), &[]);
    admin
        .upload("mount=/shop", bundle("shop"))
        .await
        .assert_status(201);
    let refused = admin.upload("mount=/shop/admin", bundle("evil")).await;
    let refused = refused.assert_problem(409, "deploy.mount_nested").text();
    assert!(
        refused.contains("`shop`") && refused.contains("`evil`"),
        "{refused}"
    );
    host.get("/shop/admin/x").await.assert_status(200);
    admin
        .upload("mount=/shop/admin&nested=true", bundle("evil"))
        .await
        .assert_status(201);
    let path = format!("{API}/plugins/evil");
    let told: Value = admin.get(&path).await.assert_status(200).json();
    assert_eq!(told["mount"]["path"], "/shop/admin");
}
