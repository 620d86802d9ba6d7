//! The tests of a manifest run on a real host, before the plugin is live.

use std::path::Path;

use gantry::plugins::{DeployError, GrantMode, Tests, rehearsal::Report};
use gantry_harness::{TestHost, guests, guests::guest, pack};
use gantry_sdk::testing::{RealHost, TestPrincipal};
use serde_json::Value;
use tokio::process::Command;

use crate::manifests;

/// What `hello_v2` answers and `hello_v1` does not.
const IS_V2: &str = r#"
[[test]]
name = "it is the second version"
request = "GET /"
status = 200
response.headers = { x-version = "2" }
"#;
const WANTS: &str = "[capabilities]\nkv = [\"visits\"]\nhttp = [{ host = \"api.example.com\" }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_its_tests_does_not_become_live() {
    let host = TestHost::start().await;
    let manifest = manifests::with("hello", IS_V2);
    let refused = host
        .admin()
        .upload("grant=all", pack(&manifest, &guest("hello_v1"), &[]))
        .await
        .assert_problem(422, "deploy.tests_failed");
    let refused: Value = refused.json();
    assert_eq!(refused["detail"], "1 of 1 test failed");
    assert_eq!(
        refused["errors"][0]["at"],
        "test `it is the second version`"
    );
    let said = refused["errors"][0]["detail"].as_str().unwrap();
    assert_eq!(
        said,
        "request 1, GET /: the header `x-version` is `1` and not `2`"
    );
    host.get("/hello/").await.assert_status(404);

    let deployed = host.deploy(&manifest, guest("hello_v2")).await;
    let report = deployed.tests.unwrap();
    assert!(report.is_passed(), "{report:?}");
    host.get("/hello/").await.assert_status(200);

    // What is live stays, and the history knows nothing of what failed.
    let refused = host
        .try_deploy(&manifest, guest("hello_v1"), GrantMode::AllAsked)
        .await;
    assert!(matches!(refused, Err(DeployError::Tests(_))));
    let answer = host.get("/hello/").await.assert_status(200);
    assert_eq!(answer.header("x-version"), Some("2"));
    let history = host
        .admin()
        .get("/_gantry/api/v1/plugins/hello/deployments")
        .await;
    assert_eq!(
        history.json::<Value>()["items"].as_array().unwrap().len(),
        1
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_what_a_failed_test_means() {
    let manifest = manifests::with("hello", IS_V2);
    for tests in [Tests::Warn, Tests::Off] {
        let host = TestHost::build()
            .with(|config| config.plugins.tests = tests)
            .start()
            .await;
        let deployed = host.deploy(&manifest, guest("hello_v1")).await;
        host.get("/hello/").await.assert_status(200);
        match deployed.tests {
            Some(report) => assert!(tests == Tests::Warn && !report.is_passed()),
            None => assert_eq!(tests, Tests::Off),
        }
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_takes_too_long_is_a_failed_one() {
    let host = TestHost::build()
        .with(|config| config.plugins.tests_ms_max = 0)
        .start()
        .await;
    let manifest = manifests::with("hello", IS_V2);
    let refused = host
        .try_deploy(&manifest, guest("hello_v2"), GrantMode::AllAsked)
        .await;
    let Err(DeployError::Tests(report)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        report.tests[0].mistakes[0].contains("tests_ms_max"),
        "{report:?}"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_decides_the_time_the_random_numbers_and_what_others_answer() {
    let host = TestHost::start().await;
    let tests = r#"
[[test]]
name = "time stands still until it is moved"
at = "2026-12-01T00:00:00Z"
[[test.step]]
request = "GET /now"
status = 200
response.json = { seconds = 1_796_083_200 }
[[test.step]]
request = "POST /sturdy"
advance = "90s"
status = 200
response.json = { visits = 1 }
[[test.step]]
request = "GET /now"
status = 200
response.json = { seconds = 1_796_083_290 }
[[test.step]]
request = "POST /sturdy"
advance = "59s"
status = 200
response.json = { visits = 2 }
[[test.step]]
request = "POST /sturdy"
advance = "61s"
status = 200
response.json = { visits = 1 }

[[test]]
name = "another server answers"
request = "GET /rate"
status = 200
response.json = { rate = 1.5 }
[[test.answer]]
request = "POST https://api.example.com/*"
json = { rate = 1.5 }
times = 1
sent = { of = "EUR" }

[[test]]
name = "another server fails"
request = "GET /rate"
status = 502
response.json = { code = "plugin.failed" }
[[test.answer]]
request = "POST https://api.example.com/rates"
status = 500
"#;
    let passed = host
        .deploy(
            &manifests::with("rehearsed", &format!("{WANTS}{tests}")),
            guest("rehearsed"),
        )
        .await;
    assert!(passed.tests.unwrap().is_passed());

    // Nothing of the tests is left on the host that serves.
    host.post("/rehearsed/sturdy", &Value::Null)
        .await
        .assert_status(200)
        .text()
        .contains("\"visits\":1");

    let wrong = |seed: u32| {
        format!(
            "{WANTS}[[test]]\nname = \"wrong\"\nseed = {seed}\n\
             [[test.step]]\nrequest = \"GET /rate\"\nstatus = 503\n\
             [[test.step]]\nrequest = \"GET /random\"\nstatus = 200\nresponse.json = {{ number = 0 }}\n"
        )
    };
    let mut said = Vec::new();
    for seed in [1, 1, 2] {
        let manifest = manifests::with("rehearsed", &wrong(seed));
        let refused = host
            .try_deploy(&manifest, guest("rehearsed"), GrantMode::AllAsked)
            .await;
        let Err(DeployError::Tests(report)) = refused else {
            panic!("{refused:?}")
        };
        said.push(report.tests[0].mistakes.join("\n"));
    }
    assert!(said[0].contains("`/number` is "), "{}", said[0]);
    assert_eq!(said[0], said[1]);
    assert_ne!(said[0], said[2]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_no_answer_is_for_is_not_asked() {
    let host = TestHost::start().await;
    let tests = "[[test]]\nname = \"alone\"\nrequest = \"GET /rate\"\nstatus = 503\n";
    let manifest = manifests::with("rehearsed", &format!("{WANTS}{tests}"));
    let refused = host
        .try_deploy(&manifest, guest("rehearsed"), GrantMode::AllAsked)
        .await;
    let Err(DeployError::Tests(report)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        report.tests[0].mistakes,
        [
            "the plugin asked `POST https://api.example.com/rates`, and no `[[test.answer]]` is for it"
        ]
    );
    host.stop().await;
}

/// `gantry plugin test` in a folder of its own, where there is no server.
async fn test(manifest: &str, component: &[u8], args: &[&str]) -> (Option<i32>, Report, String) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    write("plugin.toml", manifest.as_bytes());
    write("plugin.wasm", component);
    run(dir.path(), args).await
}

async fn run(folder: &Path, args: &[&str]) -> (Option<i32>, Report, String) {
    let output = Command::new(guests::gantry())
        .args(["plugin", "test", "--json"])
        .args(args)
        .current_dir(folder)
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    (output.status.code(), report, stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_must_survive_that_any_call_of_a_service_fails() {
    let tests = |path: &str| {
        // A limit that would stop the second run, if runs did not begin anew.
        format!(
            "{WANTS}[[route]]\nmethod = \"POST\"\npath = \"/sturdy\"\nauth = \"public\"\n\
             limits = [{{ limit = 1, window = \"1h\" }}]\n\
             [[test]]\nname = \"a visit counts\"\nrequest = \"POST {path}\"\nstatus = 200\n\
             response.json = {{ visits = 1 }}\n"
        )
    };
    let component = guest("rehearsed");
    let manifest = manifests::with("rehearsed", &tests("/brittle"));
    let (code, report, stderr) = test(&manifest, &component, &[]).await;
    assert_eq!(code, Some(1), "{stderr}");
    let mistakes = report.tests[0].mistakes.join("\n");
    assert!(
        mistakes.contains(
            "if call 2 (`kv.increment`) fails with `kv.busy`: it breaks down: 502 `plugin.trapped`"
        ),
        "{mistakes}"
    );
    // Without failures made on purpose nobody notices.
    let (code, _, stderr) = test(&manifest, &component, &["--no-failures"]).await;
    assert_eq!(code, Some(0), "{stderr}");

    let manifest = manifests::with("rehearsed", &tests("/sturdy"));
    let (code, report, stderr) = test(&manifest, &component, &[]).await;
    assert_eq!(code, Some(0), "{report:?} {stderr}");
    let report = &report.tests[0];
    assert_eq!((report.calls, report.failures), (2, 4), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_this_repository_pass_their_tests_whatever_fails() {
    for folder in [
        "examples/kv-counter",
        "examples/transform-csv",
        "examples/wasi-http",
        "plugins/techplus",
    ] {
        let from = guests::root().join(folder);
        let dir = tempfile::tempdir().unwrap();
        let manifest = std::fs::read_to_string(from.join("plugin.toml")).unwrap();
        let component = manifest
            .lines()
            .find_map(|line| {
                line.strip_prefix("path = \"../../target/")?
                    .strip_suffix('"')
            })
            .unwrap();
        // What was built beside this test, without building it again.
        let built = guests::target().join(component);
        let manifest = manifest
            .replace(&format!("../../target/{component}"), "plugin.wasm")
            .replace("[build]\ncommand = ", "[build]\ncommand = \"true\" # ");
        std::fs::write(dir.path().join("plugin.toml"), manifest).unwrap();
        std::fs::copy(built, dir.path().join("plugin.wasm")).unwrap();
        if from.join("migrations").is_dir() {
            std::os::unix::fs::symlink(from.join("migrations"), dir.path().join("migrations"))
                .unwrap();
        }
        let (code, report, stderr) = run(dir.path(), &[]).await;
        assert_eq!(code, Some(0), "{folder}: {report:?} {stderr}");
    }
}

/// The same host, led by a test in Rust.
#[gantry_sdk::test("../../examples/kv-counter")]
fn a_test_in_rust_leads_a_real_host(host: &mut RealHost) {
    host.at_ms(1_796_083_200_000);
    assert_eq!(host.post("/pages/home/visits").json::<Value>()["visits"], 1);
    assert_eq!(host.post("/pages/home/visits").json::<Value>()["visits"], 2);
    assert_eq!(host.delete("/pages/home").code(), "auth.required");
    host.login(TestPrincipal::user("reader", &[]));
    assert_eq!(host.delete("/pages/home").code(), "auth.permission_missing");
    host.login(TestPrincipal::user("ann", &["pages.write"]));
    host.advance(std::time::Duration::from_secs(60));
    assert_eq!(host.delete("/pages/home").status(), 204);
    host.logout();
    assert_eq!(
        host.get("/pages?prefix=h").json::<Value>(),
        serde_json::json!([])
    );
    assert_eq!(host.get("/nowhere").status(), 404);
}
