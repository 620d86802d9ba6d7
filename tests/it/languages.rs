//! Plugins in other languages than Rust: what they can do, and what happens to those that misbehave, is the same in all.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry::services::log::Filter;
use gantry_harness::{Answer, TestHost, guests};
use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::manifests;
use crate::services::remote::Remote;

const MIGRATION: &str = include_str!("../languages/js/migrations/0001_things.sql");

#[tokio::test(flavor = "multi_thread")]
async fn javascript_does_what_plugins_do_and_is_held_to_its_limits() {
    Box::pin(play("js")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_does_what_plugins_do_and_is_held_to_its_limits() {
    Box::pin(play("python")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c_does_what_plugins_do_and_is_held_to_its_limits() {
    Box::pin(play("c")).await;
}

/// All scenes on one host, because compiling an interpreter takes seconds.
async fn play(language: &'static str) {
    let Some(scene) = Scene::start(language).await else {
        return;
    };
    a_request_arrives_whole_and_an_answer_leaves_whole(&scene).await;
    it_has_the_services_of_the_host(&scene).await;
    what_a_service_refuses_is_the_answer_if_nobody_catches_it(&scene).await;
    what_nobody_foresaw_is_told_to_the_author_and_not_to_the_client(&scene).await;
    a_snapshot_holds_no_chance_and_no_clock_of_its_own(&scene).await;
    there_is_no_environment_no_file_and_no_socket(&scene).await;
    loops_bombs_and_recursion_end_at_their_limits(&scene).await;
}

/// A host with the probe of a language beside a friendly plugin, and a server that the probe may ask.
struct Scene {
    host: TestHost,
    remote: Remote,
    language: &'static str,
}

impl Scene {
    /// Nothing if the tools of the language are not there.
    async fn start(language: &'static str) -> Option<Self> {
        let folder = format!("tests/languages/{language}");
        let component = guests::in_language(&folder)?;
        let remote = Remote::start().await;
        let allowed = vec![remote.address];
        let host = TestHost::build()
            .with(|config| config.services.outbound.allow_private = allowed)
            .start()
            .await;
        host.deploy(&manifests::open("neighbour"), guests::guest("hello-v1"))
            .await;
        let manifest = std::fs::read_to_string(guests::root().join(folder).join("plugin.toml"))
            .unwrap()
            .replace("target/plugin.wasm", "plugin.wasm")
            .replace("127.0.0.1:1", &remote.address.to_string());
        let limits = "\n[limits]\nmemory = \"64MiB\"\ncpu = \"1s\"\n";
        let files: &[(&str, &[u8])] = &[("migrations/0001_things.sql", MIGRATION.as_bytes())];
        host.deploy_with(&format!("{manifest}{limits}"), component, files)
            .await;
        let plugin = format!("probe-{language}");
        host.admin().set_secret(&plugin, "key", "opên sesame").await;
        Some(Self {
            host,
            remote,
            language,
        })
    }

    fn path(&self, path: &str) -> String {
        format!("/probe-{}{path}", self.language)
    }

    async fn get(&self, path: &str) -> Answer {
        self.host.get(&self.path(path)).await
    }

    /// What the plugin has logged.
    async fn log(&self) -> String {
        self.host.app().logs.flush().await;
        let plugin = format!("probe-{}", self.language).parse().unwrap();
        let logs = &self.host.app().logs;
        let page = logs.query(&plugin, &Filter::default()).await.unwrap();
        let lines = page.entries.iter().map(|entry| entry.message.as_str());
        lines.collect::<Vec<_>>().join("\n")
    }

    async fn tells(&self, path: &str, expected: &Value) {
        let answer = self.get(path).await;
        let told = answer.text();
        assert_eq!(answer.status, 200, "{path}: {told}\n{}", self.log().await);
        assert_eq!(&answer.json::<Value>(), expected, "{path}");
    }
}

async fn a_request_arrives_whole_and_an_answer_leaves_whole(scene: &Scene) {
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let path = scene.path("/echo/gr%C3%BCn?q=a%20b%2Bc&q=2&leer");
    let request = scene.host.request(Method::GET, &path);
    let answer = scene
        .host
        .send(request.header("x-name", "Zoë".as_bytes()))
        .await
        .assert_status(200);
    assert_eq!(
        answer.json::<Value>(),
        json!({
            "method": "GET", "path": "/echo/gr%C3%BCn", "word": "grün", "query": "a b+c", "header": "Zoë",
            "missing": null, "route": "/echo/{word}",
        })
    );
    let request = scene.host.request(Method::POST, &scene.path("/echo/w"));
    let answer = scene
        .host
        .send(request.body(bytes.clone()))
        .await
        .assert_status(201);
    assert_eq!(answer.body, bytes);
    assert_eq!(answer.header("x-word"), Some("w"));
    let path = scene.path("/nothing");
    scene.host.get(&path).await.assert_status(204);
    let head = scene.host.request(Method::HEAD, &scene.path("/who"));
    scene.host.send(head).await.assert_status(200);
    let answer = scene.get("/a/route/without/a/handler").await;
    answer.assert_problem(404, "route.not_found");
}

async fn it_has_the_services_of_the_host(scene: &Scene) {
    let kv = json!({
        "text": "🦀 zwölf", "bytes": [0, 255, 1], "json": { "a": [1, null] }, "missing": null, "sum": 5,
        "absent": "kv.exists", "stale": "kv.version_mismatch", "current": "none", "deleted": [true, false],
        "keys": ["bytes", "count", "größe"],
    });
    scene.tells("/kv", &kv).await;
    let sql = json!({
        "rowsAffected": 1, "lastInsertId": 1,
        "rows": [{ "id": 1, "name": "brød", "weight": 1.5, "data": [0, 255], "note": null }],
        "twice": "sql.unique_violation", "names": ["brød", "done"], "none": null,
    });
    scene.tells("/sql", &sql).await;
    let secret = json!({ "key": "opên sesame", "unset": "secrets.not_set" });
    scene.tells("/secret", &secret).await;
    let setting = json!({ "greeting": "Grüß Gott", "missing": null });
    scene.tells("/setting", &setting).await;
    let token = json!({ "subject": "ann", "other": "token.invalid" });
    scene.tells("/token", &token).await;
    let fetched = json!({ "status": 200, "text": "hello from afar" });
    let url = scene.remote.url("/x");
    scene.tells(&format!("/fetch?url={url}"), &fetched).await;
    for head in scene.remote.heads() {
        assert!(head.contains("\r\nx-from: plugin\r\n"), "{head}");
    }
    assert_eq!(scene.remote.heads().len(), 1);
    let nobody = json!({ "name": null, "roles": [], "may": false });
    scene.tells("/who", &nobody).await;
    let ann = scene.host.user("ann@example.com", &[]).await;
    let answer = ann.get(&scene.path("/who")).await;
    assert_eq!(answer.json::<Value>()["name"], "ann@example.com");
}

async fn what_a_service_refuses_is_the_answer_if_nobody_catches_it(scene: &Scene) {
    let answer = scene.get("/denied").await;
    answer.assert_problem(502, "capability.not_granted");
    let answer = scene.get("/fetch?url=https://example.com/").await;
    answer.assert_problem(502, "capability.not_granted");
    let answer = scene.get("/fetch?url=file:///etc/passwd").await;
    answer.assert_problem(400, "outbound.invalid_request");
    let answer = scene.get("/problem").await;
    assert_eq!(answer.header("x-why"), Some("because"));
    assert_eq!(answer.json::<Value>()["detail"], "it is \"wrong\"");
    answer.assert_problem(422, "thing.wrong");
}

async fn what_nobody_foresaw_is_told_to_the_author_and_not_to_the_client(scene: &Scene) {
    for path in ["/throw", "/type"] {
        let answer = scene.get(path).await;
        let told = answer.text();
        assert!(
            !told.contains("hunter2") && !told.contains("plugin.js"),
            "{told}"
        );
        answer.assert_problem(502, "plugin.failed");
    }
    assert_eq!(scene.get("/log").await.text(), "logged");
    let log = scene.log().await;
    assert!(log.contains("the password is hunter2"), "{log}");
    assert!(log.contains("a line of the plugin"), "{log}");
}

async fn loops_bombs_and_recursion_end_at_their_limits(scene: &Scene) {
    let began = Instant::now();
    let answer = scene.get("/loop").await;
    answer.assert_problem(504, "plugin.cpu_exceeded");
    assert!(began.elapsed() < Duration::from_secs(5));
    let answer = scene.get("/bomb").await;
    answer.assert_problem(502, "plugin.memory_exceeded");
    let answer = scene.get("/deep").await.assert_status(502);
    let code = answer.code();
    assert!(
        ["plugin.trapped", "plugin.failed"].contains(&code.as_str()),
        "{code}"
    );
    scene.host.get("/neighbour/").await.assert_status(200);
    scene.get("/log").await.assert_status(200);
}

async fn a_snapshot_holds_no_chance_and_no_clock_of_its_own(scene: &Scene) {
    let drawn = async || -> Value { scene.get("/random").await.json() };
    let (one, other) = (drawn().await, drawn().await);
    assert_ne!(one["random"], other["random"]);
    assert_ne!(one["uuid"], other["uuid"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let told = Duration::from_millis(one["now"].as_u64().unwrap());
    let apart = now.unwrap().abs_diff(told);
    assert!(apart < Duration::from_secs(60), "{apart:?}");
}

async fn there_is_no_environment_no_file_and_no_socket(scene: &Scene) {
    let nothing = json!({ "environment": [], "file": "none", "socket": "none" });
    scene.tells("/system", &nothing).await;
}

#[test]
fn components_ask_for_nothing_that_the_manifest_does_not_name() {
    for name in ["js-notes", "python-notes", "c-notes"] {
        let Some(component) = guests::in_language(&format!("examples/{name}")) else {
            continue;
        };
        let text = names(&component);
        assert!(text.contains("gantry:kv/store"), "{name}");
        for absent in ["gantry:secrets/", "outgoing-handler", "gate:"] {
            assert!(!text.contains(absent), "{name} imports {absent}: {text}");
        }
    }
}

/// What the component imports and exports.
fn names(component: &Bytes) -> String {
    let interfaces = gantry::plugins::validate::interfaces(component).unwrap();
    let all = interfaces.imports.iter().chain(&interfaces.exports);
    all.map(|interface| interface.name.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn a_new_plugin_in_each_language_passes_its_test() {
    let dir = tempfile::tempdir().unwrap();
    for language in ["js", "python", "c"] {
        if guests::in_language(&format!("tests/languages/{language}")).is_none() {
            continue;
        }
        let new = ["plugin", "new", language, "--lang", language];
        let output = gantry(dir.path(), &new).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let test = ["plugin", "test", language];
        let output = gantry(dir.path(), &test).output().await.unwrap();
        assert!(output.status.success(), "{language}: {output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.starts_with("ok "), "{language}: {told}");
    }
}

#[tokio::test]
async fn a_machine_without_the_tools_is_told_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    for (language, program, needs) in [
        ("js", "`npm`", "Node.js 20"),
        ("python", "`python3`", "Python 3.10"),
        ("c", "`python3`", "Python 3.10"),
    ] {
        let new = ["plugin", "new", language, "--lang", language];
        let output = gantry(dir.path(), &new).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        let output = gantry(dir.path(), &["plugin", "build", language])
            .env("GANTRY_CACHE_DIR", dir.path().join("cache"))
            .env("PATH", dir.path())
            .output()
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains(program) && told.contains(needs), "{told}");
    }
    let toolchains = dir.path().join("cache/toolchains");
    let left = std::fs::read_dir(toolchains).unwrap().count();
    assert_eq!(left, 0, "nothing half fetched is left");
}

#[tokio::test]
async fn a_mistake_of_the_author_is_shown_with_its_place() {
    if guests::in_language("tests/languages/js").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let new = ["plugin", "new", "shop", "--lang", "js"];
    gantry(dir.path(), &new).output().await.unwrap();
    let source = dir.path().join("shop/src/plugin.js");
    std::fs::write(
        &source,
        "import { router } from \"../gantry/index.js\";\nconst x = ;\n",
    )
    .unwrap();
    let output = gantry(dir.path(), &["plugin", "build", "shop"])
        .output()
        .await;
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("plugin.js:2"), "{told}");
}

fn gantry(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(guests::gantry());
    command.args(args).current_dir(folder).kill_on_drop(true);
    command
}
