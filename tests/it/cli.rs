//! The command line, as people and scripts use it, against a host that runs.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use gantry::plugins::rollout::Spread;
use gantry_harness::{TestHost, guests};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// The executable with this host as its server and an empty folder as its home.
pub(crate) fn gantry(host: &TestHost, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(guests::gantry());
    command
        .args(args)
        .current_dir(folder)
        .env("GANTRY_SERVER", format!("http://{}", host.app().address))
        .env("GANTRY_DATA_DIR", host.data_dir())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

pub(crate) async fn run(host: &TestHost, folder: &Path, args: &[&str]) -> Output {
    gantry(host, folder, args).output().await.unwrap()
}

#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A plugin whose build only copies the guest that `src/which` names.
pub(crate) fn write_project(folder: &Path, which: &str) {
    std::fs::create_dir_all(folder.join("src")).unwrap();
    for guest in ["hello_v1", "hello_v2"] {
        std::fs::write(folder.join(format!("{guest}.wasm")), guests::guest(guest)).unwrap();
    }
    std::fs::write(folder.join("src/which"), which).unwrap();
    let manifest = "schema = 1\n[plugin]\nname = \"hello\"\nversion = \"1.0.0\"\n\
                    [component]\npath = \"built.wasm\"\n\
                    [build]\ncommand = \"cp $(cat src/which).wasm built.wasm\"\n\
                    [[route]]\nmethod = \"GET\"\npath = \"/{*rest}\"\nauth = \"public\"\n";
    std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
}

#[tokio::test]
async fn a_folder_is_built_packed_deployed_listed_and_removed() {
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    write_project(dir.path(), "hello_v1");
    succeeded(&run(&host, dir.path(), &["plugin", "build"]).await);
    assert!(dir.path().join("hello-1.0.0.gantry").is_file());

    let deployed = run(&host, dir.path(), &["plugin", "deploy", "--json"]).await;
    let deployed: Value = serde_json::from_str(&succeeded(&deployed)).unwrap();
    assert_eq!(deployed["mount"]["path"], "/hello");
    host.get("/hello/x").await.assert_status(200);

    let listed = succeeded(&run(&host, dir.path(), &["plugin", "list"]).await);
    assert!(
        listed.contains("hello") && listed.contains("1.0.0"),
        "{listed}"
    );
    // Of a plugin and a folder of one name, the bare name is the plugin and the path is the folder.
    write_project(&dir.path().join("hello"), "hello_v1");
    succeeded(&run(&host, &dir.path().join("hello"), &["plugin", "build"]).await);
    let output = run(&host, dir.path(), &["plugin", "inspect", "hello"]).await;
    let inspected = succeeded(&output);
    assert!(inspected.contains("GET /hello/{*rest}"), "{inspected}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the plugin hello of http://"), "{told}");
    assert!(told.contains("write ./hello"), "{told}");
    let inspected = succeeded(&run(&host, dir.path(), &["plugin", "inspect", "./hello"]).await);
    assert!(inspected.contains("GET /{*rest}"), "{inspected}");
    let inspected = succeeded(
        &run(
            &host,
            dir.path(),
            &["plugin", "inspect", "hello-1.0.0.gantry"],
        )
        .await,
    );
    assert!(inspected.contains("gantry:http/handler"), "{inspected}");

    succeeded(&run(&host, dir.path(), &["plugin", "remove", "hello", "--yes"]).await);
    host.get("/hello/x")
        .await
        .assert_problem(404, "route.not_found");
    host.stop().await;
}

#[tokio::test]
async fn a_saved_file_is_live_within_two_seconds_and_the_last_good_version_stays() {
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    write_project(dir.path(), "hello_v1");
    let dev = gantry(&host, dir.path(), &["plugin", "dev"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first = answer_other_than(&host, "").await;

    let saved = Instant::now();
    std::fs::write(dir.path().join("src/which"), "hello_v2").unwrap();
    let second = answer_other_than(&host, &first).await;
    let took = saved.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");

    // A build that fails leaves what is live alone.
    std::fs::write(dir.path().join("src/which"), "no_such_guest").unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(host.get("/hello/x").await.assert_status(200).text(), second);

    let id = dev.id().unwrap().to_string();
    succeeded(
        &Command::new("kill")
            .args(["-INT", &id])
            .output()
            .await
            .unwrap(),
    );
    let ended = dev.wait_with_output().await.unwrap();
    assert!(ended.status.success());
    assert_eq!(host.get("/hello/x").await.assert_status(200).text(), second);
    host.stop().await;
}

#[tokio::test]
async fn plugin_dev_tells_whether_answers_are_held_against_their_schemas() {
    for (is_checked, verb) in [(true, "Checking"), (false, "Unchecked")] {
        let build = TestHost::build();
        let host = build.with(|config| config.gateway.answers_are_checked = is_checked);
        let host = host.start().await;
        let status: Value = host.admin().get("/_gantry/api/v1/status").await.json();
        assert_eq!(status["answers_are_checked"], is_checked);
        let dir = tempfile::tempdir().unwrap();
        write_project(dir.path(), "hello_v1");
        let mut dev = gantry(&host, dir.path(), &["plugin", "dev"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(dev.stderr.take().unwrap()).lines();
        let line = loop {
            let line = told.next_line().await.unwrap().expect("it is told");
            if line.contains("response_schema") {
                break line;
            }
        };
        assert!(line.trim_start().starts_with(verb), "{line}");
        dev.kill().await.unwrap();
        host.stop().await;
    }
}

async fn answer_other_than(host: &TestHost, before: &str) -> String {
    for _ in 0..600 {
        let answer = host.get("/hello/x").await;
        if answer.status == 200 && answer.text() != before {
            return answer.text();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing else than `{before}` was answered");
}

#[tokio::test]
async fn failures_say_what_and_how_to_mend_it_and_scripts_can_tell_them_apart() {
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    // (arguments, exit code, what standard error says)
    let cases: [(&[&str], i32, &str); 6] = [
        (&["plugin", "deploy"], 1, "cannot read plugin.toml"),
        (
            &["plugin", "inspect", "nothing"],
            1,
            "there is no plugin `nothing`",
        ),
        (&["plugin", "frobnicate"], 2, "unrecognized subcommand"),
        (&["plugin", "remove", "hello"], 2, "--yes"),
        (
            &["--server", "http://127.0.0.1:9", "status"],
            1,
            "gantry serve",
        ),
        (&["plugin", "new", "Not A Name"], 2, "plugin name"),
    ];
    for (args, code, text) in cases {
        let output = run(&host, dir.path(), args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{args:?} prints no result");
    }
    host.stop().await;
}

#[tokio::test]
async fn a_manifest_with_mistakes_is_shown_with_file_line_and_column() {
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    write_project(dir.path(), "hello_v1");
    let path = dir.path().join("plugin.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("method = \"GET\"", "methud = \"GET\"");
    std::fs::write(&path, text).unwrap();
    let output = run(&host, dir.path(), &["plugin", "deploy", "."]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("plugin.toml:10:1: "), "{stderr}");
    assert!(stderr.contains("did you mean"), "{stderr}");
    host.stop().await;
}

#[tokio::test]
async fn a_key_file_of_another_server_is_named_with_how_to_mend_it() {
    let (host, other) = (TestHost::start().await, TestHost::start().await);
    let dir = tempfile::tempdir().unwrap();
    let mut status = gantry(&host, dir.path(), &["status"]);
    let output = status
        .env("GANTRY_DATA_DIR", other.data_dir())
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let file = other.data_dir().join("admin.key");
    assert!(stderr.contains(&file.display().to_string()), "{stderr}");
    assert!(stderr.contains("--data-dir"), "{stderr}");
    host.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_quiet_command_prints_results_only() {
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    write_project(dir.path(), "hello_v1");
    let output = run(&host, dir.path(), &["plugin", "build", "--quiet"]).await;
    succeeded(&output);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("Next") && !told.contains("Packed"), "{told}");
    host.stop().await;
}

#[tokio::test]
async fn a_secret_travels_through_standard_input_and_is_never_shown() {
    use tokio::io::AsyncWriteExt as _;
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut set = gantry(&host, dir.path(), &["secret", "set", "shop", "stripe"]);
    let mut set = set
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    set.stdin
        .take()
        .unwrap()
        .write_all(b"sk_live_1\n")
        .await
        .unwrap();
    let output = set.wait_with_output().await.unwrap();
    succeeded(&output);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("sk_live_1"));
    let listed = succeeded(&run(&host, dir.path(), &["secret", "list", "shop"]).await);
    assert!(
        listed.contains("stripe") && !listed.contains("sk_live_1"),
        "{listed}"
    );
    host.stop().await;
}

#[tokio::test]
async fn the_settings_are_printed_as_a_file_that_can_be_used() {
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    let printed = succeeded(&run(&host, dir.path(), &["config", "check"]).await);
    let file = dir.path().join("gantry.toml");
    std::fs::write(&file, &printed).unwrap();
    let again = succeeded(
        &run(
            &host,
            dir.path(),
            &["config", "check", "--config", "gantry.toml"],
        )
        .await,
    );
    assert_eq!(printed, again);

    // The host of this test listens on a port of its own, and nothing else says so.
    let compared = run(&host, dir.path(), &["config", "check"]).await;
    let told = String::from_utf8_lossy(&compared.stderr).into_owned();
    let port = host.app().address.port().to_string();
    assert!(told.contains("runs with other settings"), "{told}");
    assert!(!told.contains("data_dir"), "{told}");
    assert!(told.contains("listen = "), "{told} {port}");
    std::fs::write(&file, "listn = \"127.0.0.1:1\"\n").unwrap();
    let wrong = run(
        &host,
        dir.path(),
        &["config", "check", "--config", "gantry.toml"],
    )
    .await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("listn"));
    host.stop().await;
}

#[tokio::test]
async fn a_version_is_brought_on_step_by_step_and_the_history_says_why() {
    let host = TestHost::build()
        .with(|config| config.plugins.rollout.spread = Spread::Requests)
        .start()
        .await;
    let dir = tempfile::tempdir().unwrap();
    write_project(dir.path(), "hello_v1");
    let plugin = async |args: &[&str]| {
        let args = [&["plugin"], args].concat();
        run(&host, dir.path(), &args).await
    };
    succeeded(&plugin(&["deploy", "--reason", "first"]).await);
    std::fs::write(dir.path().join("src/which"), "hello_v2").unwrap();
    let output = plugin(&["deploy", "--canary", "50", "--reason", "try it"]).await;
    succeeded(&output);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("for 50 of 100 requests"), "{told}");
    for _ in 0..10 {
        host.get("/hello/x").await.assert_status(200);
    }
    let status = succeeded(&plugin(&["status", "hello"]).await);
    for part in ["canary", "stable", "50 %", "REQUESTS", "P99"] {
        assert!(status.contains(part), "{status}");
    }
    let told = plugin(&["status", "hello", "--json"]).await;
    let told: Value = serde_json::from_str(&succeeded(&told)).unwrap();
    assert_eq!(told["versions"][1]["requests"], 5, "{told}");
    succeeded(&plugin(&["promote", "hello", "--weight", "60"]).await);
    succeeded(&plugin(&["promote", "hello", "--reason", "it is well"]).await);
    let refused = plugin(&["promote", "hello"]).await;
    assert_eq!(refused.status.code(), Some(1));

    // An upgrade that asks for more.
    let manifest = std::fs::read_to_string(dir.path().join("plugin.toml")).unwrap();
    let more = format!("{manifest}[capabilities]\nkv = [\"data\"]\n");
    std::fs::write(dir.path().join("plugin.toml"), &more).unwrap();
    let output = plugin(&["deploy"]).await;
    succeeded(&output);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("kv:data") && told.contains("gantry plugin approve hello"),
        "{told}"
    );
    let refused = plugin(&["approve", "hello"]).await;
    assert_eq!(refused.status.code(), Some(2), "nobody was there to agree");
    succeeded(&plugin(&["approve", "hello", "--reject", "--reason", "refused"]).await);
    succeeded(&plugin(&["deploy"]).await);
    succeeded(&plugin(&["approve", "hello", "--yes", "--reason", "they may"]).await);
    succeeded(&plugin(&["rollback", "hello", "--reason", "not so well"]).await);
    let history = succeeded(&plugin(&["history", "hello"]).await);
    let reasons = [
        "not so well",
        "they may",
        "refused",
        "it is well",
        "try it",
        "first",
    ];
    let places: Vec<_> = reasons.iter().map(|reason| history.find(reason)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{history}"
    );
    host.stop().await;
}
