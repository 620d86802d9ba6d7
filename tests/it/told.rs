//! What operators, authors and callers are told, so that nothing changes, fails or does nothing without a word to those who
//! can mend it.

use std::{path::Path, time::Duration};

use gantry::config::Config;
use gantry_harness::{
    TestHost,
    guests::{component, guest},
    pack,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::cli::{run, succeeded};
use crate::manifests;

const API: &str = "/_gantry/api/v1";

const LAB: &str = r#"
schema = 1
filters = [{ use = "security-headers" }]
[plugin]
name = "lab"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[route]]
method = "GET"
path = "/few"
auth = "public"
limits = [{ name = "few", limit = 50, window = "1m" }, { name = "rest", limit = 500, window = "1h" }]
cache = { ttl = "60s", stale_if_error = "1h", vary = ["accept"] }
[[route]]
method = "POST"
path = "/orders"
auth = "public"
idempotency = "required"
timeout = "2s"
[limits]
memory = "16MiB"
cpu = "250ms"
"#;

fn told(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn lab(change: impl FnOnce(&mut Config)) -> TestHost {
    let host = TestHost::build().with(change).start().await;
    host.deploy(LAB, guest("echo")).await;
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_name_what_is_not_there_are_told_and_those_that_hold_are_shown() {
    let host = lab(|config| {
        let plugins = json!({
            "limits": [
                { "plugin": "labb", "name": "few", "limit": 1 },
                { "plugin": "lab", "route": "/fewer", "name": "few", "limit": 1 },
                { "plugin": "lab", "name": "phew", "limit": 1 },
                { "plugin": "lab", "route": "/orders", "name": "few", "limit": 1 },
                { "plugin": "lab", "name": "few", "limit": 5 },
                { "plugin": "lab", "route": "/f*", "name": "rest", "off": true },
                { "plugin": "lab", "route": "/orders", "name": "new", "limit": 7, "window_ms": 1000, "add": true },
            ],
            "cors": [{ "plugin": "labb", "origins": [] }, { "origins": [] }],
            "filters": [
                { "use": "security-headers", "mount": "/lob" },
                { "use": "body-limit", "mount": "/lab", "body_bytes_max": 1000 },
            ],
        });
        config.plugins = serde_json::from_value(plugins).unwrap();
    })
    .await;
    let status: Value = host.admin().get(&format!("{API}/status")).await.json();
    let idle = status["idle_settings"].as_array().unwrap();
    let wanted = [
        "`plugins.limits`: `few` of `labb` changes nothing: no such plugin is deployed",
        "`plugins.limits`: `few` of `lab` changes nothing: it has no route `/fewer`",
        "`plugins.limits`: `phew` of `lab` changes nothing: there is no limit of this name, but `few`, `rest`; `add = true` \
         makes one",
        "`plugins.limits`: `few` of `lab` changes nothing: no limit is declared there; `add = true` makes one",
        "`plugins.cors`: the entry of `labb` changes nothing: no such plugin is deployed",
        "`plugins.filters`: `security-headers` changes nothing: no plugin is live on every host at `/lob` or below",
    ];
    assert_eq!(idle, &wanted.map(|text| json!(text)));
    let dir = tempfile::tempdir().unwrap();
    // The file of the settings is another one here; what the server uses is told all the same.
    for command in [&["config", "check"][..], &["status"]] {
        let output = run(&host, dir.path(), command).await;
        succeeded(&output);
        for text in wanted {
            assert!(told(&output).contains(text), "{command:?}: {output:?}");
        }
    }
    let output = run(&host, dir.path(), &["doctor"]).await;
    assert_eq!(output.status.code(), Some(1));
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(
        found.contains(&format!("WRONG settings: {}", wanted[0])),
        "{found}"
    );

    let inspected = succeeded(&run(&host, dir.path(), &["plugin", "inspect", "lab"]).await);
    for line in [
        "GET /lab/few  public",
        "  limit `few`: 5 in 60 s by ip; the manifest says 50 in 60 s by ip",
        "  limit `rest`: off by the settings; the manifest says 500 in 60 min by ip",
        "  filters: body-limit, security-headers",
        "  cache: 60 s, 60 min more if that fails, by accept, the same for everybody",
        "POST /lab/orders  public",
        "  limit `new`: 7 in 1 s by ip; by the settings",
        "  done once by `Idempotency-Key`: required",
        "  timeout: 2 s",
        "memory 16.0 MiB, cpu 250 ms, wall 10 s",
    ] {
        assert!(inspected.contains(line), "{line}: {inspected}");
    }
    // What holds is what requests meet.
    for _ in 0..5 {
        host.get("/lab/few").await.assert_status(200);
    }
    host.get("/lab/few").await.assert_status(429);
    host.stop().await;
}

/// `gantry config check` with these settings and variables, and nothing else around.
async fn check(dir: &Path, file: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let path = dir.join("gantry.toml");
    std::fs::write(&path, file).unwrap();
    let output = Command::new(gantry_harness::guests::gantry())
        .args(["config", "check", "--config", "gantry.toml"])
        .current_dir(dir)
        .env("GANTRY_SERVER", "http://127.0.0.1:9")
        .envs(environment.iter().copied())
        .output()
        .await
        .unwrap();
    (output.status.success(), told(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_settings_says_where_it_is_and_what_could_stand_there() {
    let dir = tempfile::tempdir().unwrap();
    for (file, environment, wanted) in [
        (
            "listen = \"127.0.0.1:0\"\naccess2 = 1\n",
            &[][..],
            &["gantry.toml", "line 2", "unknown field `access2`"][..],
        ),
        (
            "[auth]\nregistration = \"maybe\"\n",
            &[],
            &["gantry.toml", "line 2", "`maybe`", "`confirmed`", "`off`"],
        ),
        (
            "x = [1\n",
            &[],
            &["gantry.toml", "line 1", "unclosed array"],
        ),
        (
            "[plugins.breaker]\nwindow_ms = \"long\"\n",
            &[],
            &["gantry.toml", "line 2", "window_ms"],
        ),
        (
            "[gateway.login_limit]\nlimt = 3\n",
            &[],
            &["gantry.toml", "line 2", "`limt`"],
        ),
        (
            "[runtime]\nconcurrency_max = 0\n[limits]\nstore = \"shared\"\n",
            &[],
            &[
                "the settings (gantry.toml and the environment) cannot be used",
                "`runtime.concurrency_max` must be at least 1",
                "`limits.store` is `shared`",
            ],
        ),
        (
            "",
            &[("GANTRY_AUTH__REGISTRATION", "maybe")],
            &[
                "in the environment",
                "`maybe`",
                "`confirmed`",
                "auth.registration",
            ],
        ),
        (
            "",
            &[("GANTRY_RUNTIME__CONCURRENCY_MAX", "many")],
            &["in the environment", "runtime.concurrency_max"],
        ),
        (
            "[errors]\ndsn = \"errors.example.com\"\n",
            &[],
            &["`errors.dsn` is an address like"],
        ),
    ] {
        let (is_fine, told) = check(dir.path(), file, environment).await;
        assert!(!is_fine, "{file}");
        for text in wanted {
            assert!(told.contains(text), "{file}{environment:?}: {text}: {told}");
        }
    }
    // What is not written of a limit is as it would be without.
    let file = "[gateway.request_limit]\nlimit = 200\n[gateway.login_limit]\nwindow_ms = 1000\n";
    let path = dir.path().join("gantry.toml");
    std::fs::write(&path, file).unwrap();
    let config = Config::load(Some(&path)).unwrap();
    let request = &config.gateway.request_limit;
    assert_eq!(
        (&*request.name, request.limit, request.window_ms),
        ("request", 200, 3_600_000)
    );
    let login = &config.gateway.login_limit;
    assert_eq!(
        (&*login.name, login.limit, login.window_ms),
        ("login", 10, 1000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_was_not_given_is_told_to_those_who_can_mend_it_and_to_nobody_else() {
    let host = TestHost::start().await;
    let manifest = "schema = 1\n[plugin]\nname = \"counter\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                    [capabilities]\nkv = [\"counters\"]\n[[route]]\nmethod = \"GET\"\npath = \"/pages\"\nauth = \"optional\"\n";
    host.deploy(manifest, component("kv-counter")).await;
    let admin = host.admin();
    host.get("/counter/pages").await.assert_status(200);
    let grant = format!("{API}/plugins/counter/grants/kv:counters");
    admin.delete(&grant).await.assert_status(204);

    let ann = host.user("ann@example.com", &[]).await;
    let mut ids = Vec::new();
    for client in [&*host, &ann] {
        let refused = client.get("/counter/pages").await;
        let refused = refused.assert_problem(502, "capability.not_granted");
        ids.push(refused.header("x-request-id").unwrap().to_owned());
        for inner in ["counters", "kv", "plugin.toml"] {
            assert!(!refused.text().contains(inner), "{}", refused.text());
        }
    }
    let refused = admin.get("/counter/pages").await;
    let refused = refused.assert_problem(502, "capability.not_granted");
    assert!(
        refused
            .text()
            .contains("declare it under [capabilities] kv")
    );

    host.app().logs.flush().await;
    let logs = admin
        .get(&format!("{API}/plugins/counter/logs"))
        .await
        .text();
    assert!(logs.contains("`counters` is not granted"), "{logs}");
    assert!(logs.contains(&ids[0]), "{logs}");
    // What belongs to no change is written a moment later.
    let mut trail = String::new();
    for _ in 0..200 {
        let path = format!("{API}/audit?action=capability.refused");
        trail = admin.get(&path).await.text();
        if trail.contains("counter/kv:counters") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(trail.contains("counter/kv:counters"), "{trail}");
    let access = host.access_log().await;
    let line = access.lines().find(|line| line.contains(&ids[0])).unwrap();
    assert!(
        line.contains("\"code\":\"capability.not_granted\"")
            && line.contains("\"level\":\"error\"")
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_two_of_a_header_that_there_is_once_is_the_plugins_fault() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("answers"), guest("answers"))
        .await;
    let answer = async |headers: Value| {
        let wish = json!({ "status": 200, "headers": headers, "body_bytes": 3 });
        host.post("/answers/", &wish).await
    };
    for name in ["content-type", "etag", "location"] {
        let answer = answer(json!([[name, "\"a\""], [name.to_uppercase(), "\"a\""]])).await;
        answer.assert_problem(502, "plugin.invalid_response");
    }
    let headers = json!([
        ["content-type", "text/plain"],
        ["set-cookie", "a=1"],
        ["set-cookie", "b=2"]
    ]);
    let fine = answer(headers).await.assert_status(200);
    assert_eq!(fine.headers.get_all("set-cookie").iter().count(), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_that_were_broken_stand_in_the_history_and_in_the_trail() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let bundle = |version: &str, path: &str| {
        let manifest = LAB.replace("1.0.0", version).replace("/orders", path);
        pack(&manifest, &guest("echo"), &[])
    };
    admin
        .upload("note=first", bundle("1.0.0", "/orders"))
        .await
        .assert_status(201);
    let broken = "allow_breaking=true&note=move+orders";
    admin
        .upload(broken, bundle("2.0.0", "/purchases"))
        .await
        .assert_status(201);
    // What breaks nothing leaves no such trace.
    admin
        .upload("note=same", bundle("2.0.1", "/purchases"))
        .await
        .assert_status(201);
    let canary = "canary=10&allow_breaking=true&note=again";
    admin
        .upload(canary, bundle("3.0.0", "/deals"))
        .await
        .assert_status(201);
    let promote = json!({ "reason": "it is fine", "allow_breaking": true });
    let promoted = admin
        .post(&format!("{API}/plugins/lab/promote"), &promote)
        .await;
    let promoted: Value = promoted.assert_status(200).json();
    assert!(
        promoted["warnings"][0]
            .as_str()
            .unwrap()
            .contains("breaks callers"),
        "{promoted}"
    );

    let history: Value = admin
        .get(&format!("{API}/plugins/lab/history"))
        .await
        .json();
    let reasons: Vec<&str> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["reason"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(
        reasons,
        [
            "it is fine (breaks 1 promise to callers)",
            "again (breaks 1 promise to callers)",
            "same",
            "move orders (breaks 1 promise to callers)",
            "first"
        ]
    );
    let events: Value = admin
        .get(&format!("{API}/audit?target=lab&limit=20"))
        .await
        .json();
    let events = events["items"].as_array().unwrap();
    let breaking: Vec<&Value> = events
        .iter()
        .filter(|event| event["detail"].get("breaks").is_some())
        .collect();
    assert_eq!(breaking.len(), 3, "{events:?}");
    for event in breaking {
        assert_eq!(event["detail"]["breaks_count"], 1, "{event}");
        let what = event["detail"]["breaks"][0].as_str().unwrap();
        assert!(what.contains("the operation is gone"), "{what}");
    }
    // The canary's code is in the trail before it answers everything.
    let of_canary = events
        .iter()
        .find(|event| event["action"] == "plugin.deployed" && event["detail"]["note"] == "again");
    let component = &of_canary.unwrap()["detail"]["after"]["canary"]["component"];
    assert_eq!(component.as_str().map(str::len), Some(64), "{of_canary:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_keys_shows_what_each_may_and_until_when() {
    let host = TestHost::start().await;
    let dir = tempfile::tempdir().unwrap();
    let create = [
        "key",
        "create",
        "till",
        "--role",
        "admin",
        "--scope",
        "platform.read",
        "--network",
        "10.0.0.0/8",
        "--rate",
        "100/60",
        "--rotate-days",
        "30",
    ];
    succeeded(&run(&host, dir.path(), &create).await);
    let listed = succeeded(&run(&host, dir.path(), &["key", "list"]).await);
    let line = listed.lines().find(|line| line.contains("till")).unwrap();
    for text in ["platform.read", "10.0.0.0/8", "100/60", "due 20"] {
        assert!(line.contains(text), "{text}: {listed}");
    }
    let events: Value = host
        .admin()
        .get(&format!("{API}/audit?action=api_key.created"))
        .await
        .json();
    let detail = &events["items"][0]["detail"];
    assert_eq!(detail["rate"], "100/60");
    assert_eq!(detail["rotate_days"], 30);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_meant_so_is_said() {
    let host = lab(|_| {}).await;
    let dir = tempfile::tempdir().unwrap();
    // A route of which nothing is ever kept is no empty cache.
    for (route, wanted) in [
        (
            "/nope",
            "`lab` has no route `/nope`; those that are kept are of `/few`",
        ),
        (
            "/orders",
            "`lab` keeps no answers of `/orders`; those that are kept are of `/few`",
        ),
    ] {
        let output = run(
            &host,
            dir.path(),
            &["cache", "purge", "lab", "--route", route],
        )
        .await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(told(&output).contains(wanted), "{output:?}");
    }
    succeeded(
        &run(
            &host,
            dir.path(),
            &["cache", "purge", "lab", "--route", "/few"],
        )
        .await,
    );

    // A first version is no canary.
    std::fs::write(
        dir.path().join("solo.gantry"),
        pack(&LAB.replace("\"lab\"", "\"solo\""), &guest("echo"), &[]),
    )
    .unwrap();
    let output = run(
        &host,
        dir.path(),
        &["plugin", "deploy", "./solo.gantry", "--canary", "10"],
    )
    .await;
    succeeded(&output);
    let wanted = "no version was live beside which it could be a canary: it answers every request";
    assert!(told(&output).contains(wanted), "{output:?}");

    // A filter is asked by routes and hangs nowhere.
    let filter = "schema = 1\n[plugin]\nname = \"mark\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                  [config.properties.mark]\ntype = \"string\"\ndefault = \"x\"\n";
    std::fs::write(
        dir.path().join("mark.gantry"),
        pack(filter, &guest("filter-mark"), &[]),
    )
    .unwrap();
    let output = run(&host, dir.path(), &["plugin", "deploy", "./mark.gantry"]).await;
    succeeded(&output);
    assert!(
        told(&output).contains("plugin:mark") && !told(&output).contains("Mounted at"),
        "{output:?}"
    );

    // Whoever builds a front end may not read the platform.
    std::fs::write(
        dir.path().join("api.json"),
        "{\"openapi\": \"3.1.0\", \"paths\": {}}",
    )
    .unwrap();
    let auth = &host.app().auth;
    auth.create_role("nothing".parse().unwrap(), &[])
        .await
        .unwrap();
    let key = run(
        &host,
        dir.path(),
        &["key", "create", "ci", "--role", "nothing"],
    )
    .await;
    let key = succeeded(&key);
    let output = crate::cli::gantry(
        &host,
        dir.path(),
        &["contract", "check", "--contract", "api.json"],
    )
    .env("GANTRY_API_KEY", key.trim())
    .output()
    .await
    .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        told(&output).contains("/api/openapi.json") && told(&output).contains("--against"),
        "{output:?}"
    );

    // The line of use asks for what is missing, and not for what the environment has said.
    let output = run(&host, dir.path(), &["plugin", "inspect"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told(&output).contains("Usage: gantry plugin inspect <WHAT>"),
        "{output:?}"
    );

    // A program that asks for cookies has no `X-Gantry-CSRF` to send.
    let login = json!({ "email": "ann@example.com", "password": "x", "mode": "cookie" });
    let refused = host.post("/api/auth/login", &login).await;
    let refused = refused.assert_problem(403, "auth.csrf_refused");
    assert!(
        refused.text().contains("browsers send `Origin`")
            && !refused.text().contains("X-Gantry-CSRF")
    );
    // Groups of the host's own can be chosen like those of plugins.
    let document: Value = host.get("/api/openapi.json").await.json();
    assert_eq!(document["x-gantry-host-tags"], json!(["Accounts"]));
    host.stop().await;
}
