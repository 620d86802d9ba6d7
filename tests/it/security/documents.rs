//! A program that knows nothing but the documents of what is live sends all that they allow and much that they do not:
//! `schemathesis`. No answer is a failure of the server, and none is another than the document says.

use std::{path::PathBuf, process::Stdio};

use gantry_harness::guests;
use tokio::process::Command;

use super::*;

/// What the program is called.
const NAME: &str = "schemathesis";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";

/// Bodies that the program sends like those that it knows.
const MORE_TYPES: &str = "import schemathesis\n\
    schemathesis.serializer.alias('application/offset+octet-stream', 'application/octet-stream')\n";

/// Where it is. Tests that need it are left out only if that was said aloud.
fn program() -> Option<PathBuf> {
    if guests::is_without(NAME) {
        return None;
    }
    let program = guests::root().join("target/tools/schemathesis/bin/schemathesis");
    assert!(
        program.exists(),
        "{NAME} is missing; `cargo xtask test` fetches it"
    );
    Some(program)
}

/// Lets the program loose. The same requests each time.
async fn try_out(
    host: &TestHost,
    document: &str,
    base: &str,
    credential: Option<&str>,
    options: &[&str],
) {
    try_out_on(host, document, base, credential, options, "").await;
}

/// The same with settings of the program, which say for example on what it is let loose.
async fn try_out_on(
    host: &TestHost,
    document: &str,
    base: &str,
    credential: Option<&str>,
    options: &[&str],
    settings: &str,
) {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let client = match credential {
        Some(credential) => host.with_token(credential),
        None => Client::clone(host),
    };
    let header = credential.map(|credential| format!("authorization: Bearer {credential}"));
    let document = client.get(document).await.assert_status(200);
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, &document.body).unwrap();
    // The program reads it where it is started.
    let settings = format!("hooks = \"more_types\"\n{settings}");
    std::fs::write(dir.path().join("schemathesis.toml"), settings).unwrap();
    std::fs::write(dir.path().join("more_types.py"), MORE_TYPES).unwrap();
    let output = Command::new(program)
        .arg("run")
        .arg(&file)
        .args(["--url", &format!("http://{}{base}", host.app().address)])
        .args(header.iter().flat_map(|header| ["--header", header]))
        .args(["--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing"])
        .args(["--generation-deterministic", "--no-shrink", "--no-color"])
        .args(["--generation-with-security-parameters", "false"])
        .args(["--continue-on-failure", "--request-timeout", "20"])
        .args(options)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(300), output).await;
    let output = output.expect("it comes to an end").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // It has not been turned away all the time.
    assert!(text.contains("generated"), "{text}");
}

/// A host with the demo's plugin and open accounts.
async fn demo() -> TestHost {
    let host = TestHost::build().with(|config| {
        config.auth.registration = gantry::auth::Registration::Open;
        config.auth.even_answer_ms = 0;
        config.auth.account_failures_free = 1_000_000;
        config.auth.client_failures_free = 1_000_000;
        // Cheaper than anybody should have it: nothing of this is about passwords.
        config.auth.argon2_memory_kib = 64;
        config.auth.argon2_iterations = 1;
        config.gateway.refresh_limit.limit = 10_000;
    });
    let host = host.start().await;
    host.deploy_folder("plugins/techplus", "/api").await;
    host
}

/// A key that may do everything, and one that nothing of this can take away.
async fn key(host: &TestHost) -> String {
    let new = json!({ "name": "tester", "roles": ["admin"] });
    let made = host.admin().post(&format!("{API}/api-keys"), &new).await;
    let made: Value = made.assert_status(201).json();
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_administrators_may_call_answers_as_its_document_says() {
    let host = demo().await;
    let key = key(&host).await;
    // Changing the secret is for another key: with it the program would lock itself out.
    let options = [
        "--max-examples",
        "12",
        "--exclude-path",
        "/api/auth/key/rotate",
    ];
    try_out(&host, "/api/openapi.json", "", Some(&key), &options).await;
    // One that changes its own.
    let new = json!({ "name": "changing", "roles": ["admin"] });
    let made = host.admin().post(&format!("{API}/api-keys"), &new).await;
    let made: Value = made.assert_status(201).json();
    let options = [
        "--max-examples",
        "4",
        "--include-path",
        "/api/auth/key/rotate",
    ];
    let token = made["token"].as_str();
    try_out(&host, "/api/openapi.json", "", token, &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_may_call_answers_as_its_document_says() {
    let host = demo().await;
    let role = json!({ "name": "waiter", "permissions": ["techplus:reservations.read", "techplus:reservations.write"] });
    let made = host.admin().post(&format!("{API}/roles"), &role).await;
    made.assert_status(201);
    host.user("ann@example.com", &["waiter"]).await;
    let tokens = log_in(&host, "ann@example.com").await;
    let token = tokens["access_token"].as_str().unwrap();
    // Ending one's own session is for the end.
    let ends = "^/api/auth/(logout|password$|sessions)";
    let options = ["--max-examples", "12", "--exclude-path-regex", ends];
    try_out(&host, "/api/openapi.json", "", Some(token), &options).await;
    let tokens = log_in(&host, "ann@example.com").await;
    let token = tokens["access_token"].as_str().unwrap();
    let options = ["--max-examples", "6", "--include-path-regex", ends];
    try_out(&host, "/api/openapi.json", "", Some(token), &options).await;
    // Strangers read of what they may call.
    let options = ["--max-examples", "6", "--include-path-regex", "^/api/auth/"];
    try_out(&host, "/api/openapi.json", "", None, &options).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_answers_as_its_document_says() {
    let host = demo().await;
    let key = key(&host).await;
    let document = format!("{API}/openapi.json");
    let settings = victims(&host).await;
    let options = ["--max-examples", "8"];
    try_out_on(&host, &document, API, Some(&key), &options, &settings).await;
    let roles = host.admin().get(&format!("{API}/roles?limit=100")).await;
    let roles = roles.text();
    let is_left = |number: &u32| roles.contains(&format!("\"victim-{number}\""));
    let is_any_gone = program().is_none() || (0..6).filter(is_left).count() < 6;
    assert!(is_any_gone, "nothing was taken away: {roles}");
    host.user("ann@example.com", &[]).await;
    let tokens = log_in(&host, "ann@example.com").await;
    let token = tokens["access_token"].as_str();
    let options = ["--max-examples", "3"];
    try_out_on(&host, &document, API, token, &options, &settings).await;
}

/// Keys and roles that may be changed and taken away, so that the program need not be kept from doing so; and a plugin that
/// is not there for the stream of a log, which would never end.
async fn victims(host: &TestHost) -> String {
    let admin = host.admin();
    let (mut keys, mut roles) = (Vec::new(), Vec::new());
    for number in 0..6 {
        let new = json!({ "name": format!("victim-{number}"), "roles": [] });
        let made = admin.post(&format!("{API}/api-keys"), &new).await;
        let made: Value = made.assert_status(201).json();
        keys.push(made["id"].as_str().unwrap().to_owned());
        let role = json!({ "name": format!("victim-{number}"), "permissions": [] });
        let made = admin.post(&format!("{API}/roles"), &role).await;
        made.assert_status(201);
        roles.push(format!("victim-{number}"));
    }
    let listed: Value = admin.get(&format!("{API}/token-keys")).await.json();
    let token_keys = listed["items"].as_array().unwrap().iter();
    let token_keys: Vec<_> = token_keys
        .map(|key| key["id"].as_str().unwrap().to_owned())
        .collect();
    let mut text = String::new();
    for (name, values, path, parameter) in [
        ("keys", keys, "/api-keys/", "id"),
        ("roles", roles, "/roles/", "name"),
        ("token-keys", token_keys, "/token-keys/", "id"),
    ] {
        text.push_str(&format!(
            "[dictionaries.{name}]\nvalues = {values:?}\n[[operations]]\ninclude-path-regex = \"^{path}\"\n\
             parameters = {{ \"path.{parameter}\" = {{ dictionary = \"{name}\", probability = 0.6 }} }}\n"
        ));
    }
    text + "[[operations]]\ninclude-path-regex = \"/logs/follow$\"\nparameters = { \"path.name\" = \"nobody\" }\n"
}
