//! Signed plugins: who may sign what, what is refused and why, and that it holds for what lies on disk too.

mod list;

use std::{
    fs,
    io::{Cursor, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use bytes::Bytes;
use gantry::plugins::trust::{Config, KeyConfig, Policy};
use gantry_harness::{Client, TestHost, TestHostBuilder, guests::guest, pack};
use serde_json::{Value, json};
use tempfile::TempDir;
use zip::{ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::cli::{run, succeeded, write_project};
use crate::manifests;

const API: &str = "/_gantry/api/v1";

/// A folder with keys and plugins, and the commands that are typed in it.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn run(&self, host: &TestHost, args: &[&str]) -> Output {
        run(host, self.dir.path(), args).await
    }

    /// Makes a key and returns its public part.
    async fn keygen(&self, host: &TestHost, name: &str) -> String {
        succeeded(&self.run(host, &["plugin", "keygen", name]).await);
        let text = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        text.trim().to_owned()
    }

    /// A bundle of `hello` in this version, signed with this key.
    async fn signed(&self, host: &TestHost, version: &str, guest_name: &str, key: &str) -> Bytes {
        let file = self.path("hello.gantry");
        fs::write(&file, hello(version, guest_name)).unwrap();
        let args = ["plugin", "sign", "hello.gantry", "--key", key];
        succeeded(&self.run(host, &args).await);
        fs::read(file).unwrap().into()
    }
}

fn hello(version: &str, guest_name: &str) -> Bytes {
    let manifest = manifests::open("hello").replace("\"1.0.0\"", &format!("\"{version}\""));
    pack(&manifest, &guest(guest_name), &[])
}

/// A host that takes only signed plugins.
fn strict() -> TestHostBuilder {
    TestHost::build().with(|config| config.plugins.signatures = Policy::Required)
}

async fn version(client: &Client) -> String {
    let answer = client.get("/hello/x").await.assert_status(200);
    answer.header("x-version").unwrap().to_owned()
}

fn failed(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The bundle with other bytes in some of its files, and with more files.
fn altered(bundle: &[u8], files: &[(&str, &[u8])]) -> Bytes {
    let mut from = ZipArchive::new(Cursor::new(bundle)).unwrap();
    let mut to = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..from.len() {
        let mut file = from.by_index(index).unwrap();
        let name = String::from_utf8(file.name_raw().to_vec()).unwrap();
        if files.iter().any(|(path, _)| *path == name) {
            continue;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        to.start_file(name, SimpleFileOptions::default()).unwrap();
        to.write_all(&bytes).unwrap();
    }
    for (name, bytes) in files {
        to.start_file(*name, SimpleFileOptions::default()).unwrap();
        to.write_all(bytes).unwrap();
    }
    to.finish().unwrap().into_inner().into()
}

fn file_in(bundle: &[u8], name: &str) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(bundle)).unwrap();
    let mut bytes = Vec::new();
    let mut file = archive.by_name(name).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn an_author_makes_a_key_an_operator_trusts_it_and_what_it_signs_goes_live() {
    let (host, desk) = (strict().start().await, Desk::new());
    write_project(desk.dir.path(), "hello_v1");
    let made = desk.run(&host, &["plugin", "keygen", "me.key"]).await;
    let public = succeeded(&made);
    assert!(public.starts_with("ed25519:"), "{public}");
    let mode = fs::metadata(desk.path("me.key")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);

    let told = failed(&desk.run(&host, &["plugin", "deploy"]).await);
    assert!(
        told.contains("trust.unsigned") && told.contains("--sign-key"),
        "{told}"
    );
    let signed = ["plugin", "deploy", "--sign-key", "me.key"];
    let told = failed(&desk.run(&host, &signed).await);
    assert!(
        told.contains("trust.key_unknown") && told.contains("gantry trust add"),
        "{told}"
    );
    let add = [
        "trust",
        "add",
        "me.key.pub",
        "--owner",
        "Ann",
        "--plugin",
        "hello",
        "--plugin",
        "bare-*",
        "--expires-in",
        "90d",
    ];
    succeeded(&desk.run(&host, &add).await);
    let deployed = desk.run(&host, &signed).await;
    succeeded(&deployed);
    assert_eq!(version(&host).await, "1");

    // A component alone cannot carry a signature; the command line makes a bundle of it that can.
    let bare = ["plugin", "deploy", "hello_v2.wasm", "--name", "bare-one"];
    let told = failed(&desk.run(&host, &bare).await);
    assert!(told.contains("trust.unsigned"), "{told}");
    let bare: Vec<&str> = bare.into_iter().chain(["--sign-key", "me.key"]).collect();
    succeeded(&desk.run(&host, &bare).await);
    host.get("/bare-one/").await.assert_status(200);

    let listed = succeeded(&desk.run(&host, &["trust", "list"]).await);
    assert!(
        listed.contains("Ann") && listed.contains("hello, bare-*") && listed.contains("until 20"),
        "{listed}"
    );
    let keys: Value = host.admin().get(&format!("{API}/trust/keys")).await.json();
    let id = keys["items"][0]["id"].as_str().unwrap();
    let history: Value = host
        .admin()
        .get(&format!("{API}/plugins/hello/deployments"))
        .await
        .json();
    assert_eq!(history["items"][0]["signed_by"], id);

    // The private key was shown by nobody.
    let secret = fs::read_to_string(desk.path("me.key")).unwrap();
    let secret = secret.lines().nth(1).unwrap();
    for output in [&made, &deployed] {
        for stream in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(stream).contains(secret));
        }
    }
    assert_eq!(
        public.trim(),
        fs::read_to_string(desk.path("me.key.pub")).unwrap().trim()
    );
    host.stop().await;
}

#[tokio::test]
async fn each_reason_to_refuse_is_told_and_what_is_live_stays() {
    let desk = Desk::new();
    let before = TestHost::start().await;
    let mut keys = Vec::new();
    for (name, plugins, more) in [
        ("good.key", "hello", ""),
        ("other.key", "shop", ""),
        ("late.key", "*", "expires_at = \"2020-01-01T00:00:00Z\""),
        ("bad.key", "*", "revoked_at = \"2020-01-01T00:00:00Z\""),
    ] {
        let key = desk.keygen(&before, name).await;
        let text =
            format!("key = \"{key}\"\nowner = \"{name}\"\nplugins = [\"{plugins}\"]\n{more}");
        let key: KeyConfig = toml_of(&text);
        keys.push(key);
    }
    desk.keygen(&before, "stranger.key").await;
    let host = strict()
        .with(|config| {
            config.plugins.trust = Config {
                keys,
                ..Config::default()
            }
        })
        .start()
        .await;
    let admin = host.admin();
    let good = desk.signed(&before, "1.1.0", "hello_v1", "good.key").await;
    admin.upload("", good.clone()).await.assert_status(201);

    let good_signature = file_in(&good, "plugin.sig");
    let v2 = guest("hello_v2");
    let unsigned = hello("1.2.0", "hello_v2");
    let mut nonsense = good_signature.clone();
    nonsense.push(b'x');
    let resigned = String::from_utf8(good_signature.clone()).unwrap();
    let resigned = resigned.replace("version 1.1.0", "version 9.9.9");
    let raised = manifests::open("hello").replace("1.0.0", "9.9.9");
    let cases: Vec<(&str, Bytes, &str)> = vec![
        ("nobody signed it", unsigned.clone(), "trust.unsigned"),
        (
            "another component under a good signature",
            altered(&good, &[("plugin.wasm", &v2)]),
            "trust.tampered",
        ),
        (
            "a good signature moved to another bundle",
            altered(&unsigned, &[("plugin.sig", &good_signature)]),
            "trust.tampered",
        ),
        (
            "a signature that was rewritten",
            altered(
                &good,
                &[
                    ("plugin.toml", raised.as_bytes()),
                    ("plugin.sig", resigned.as_bytes()),
                ],
            ),
            "trust.signature_wrong",
        ),
        (
            "a signature with more in it",
            altered(&good, &[("plugin.sig", &nonsense)]),
            "trust.signature_unreadable",
        ),
        (
            "a stranger's key",
            desk.signed(&before, "1.2.0", "hello_v2", "stranger.key")
                .await,
            "trust.key_unknown",
        ),
        (
            "a key for another plugin",
            desk.signed(&before, "1.2.0", "hello_v2", "other.key").await,
            "trust.key_not_for_plugin",
        ),
        (
            "an expired key",
            desk.signed(&before, "1.2.0", "hello_v2", "late.key").await,
            "trust.key_expired",
        ),
        (
            "a revoked key",
            desk.signed(&before, "1.2.0", "hello_v2", "bad.key").await,
            "trust.key_revoked",
        ),
        (
            "an older version, signed well",
            desk.signed(&before, "1.0.9", "hello_v2", "good.key").await,
            "trust.downgrade",
        ),
    ];
    for (what, bundle, code) in &cases {
        let answer = admin.upload("", bundle.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.code()),
            (422, *code),
            "{what}"
        );
        assert_eq!(version(&host).await, "1", "{what}");
    }
    admin
        .upload("name=hello", v2)
        .await
        .assert_problem(422, "trust.unsigned");
    let history: Value = admin
        .get(&format!("{API}/plugins/hello/deployments"))
        .await
        .json();
    assert_eq!(history["items"].as_array().unwrap().len(), 1, "{history}");

    // Whoever may deploy may not go back behind what is live; whoever decides about trust may.
    let role = json!({ "name": "ci", "permissions": ["platform.deploy"] });
    admin
        .post(&format!("{API}/roles"), &role)
        .await
        .assert_status(201);
    let ci = host.user("ci@example.com", &["ci"]).await;
    let (_, older, _) = &cases[9];
    ci.upload("", older.clone())
        .await
        .assert_problem(422, "trust.downgrade");
    ci.upload("allow_downgrade=true", older.clone())
        .await
        .assert_problem(403, "auth.permission_missing");
    admin
        .upload("allow_downgrade=true", older.clone())
        .await
        .assert_status(201);
    assert_eq!(version(&host).await, "2");
    host.stop().await;
    before.stop().await;
}

/// One key of the settings.
fn toml_of(text: &str) -> KeyConfig {
    let mut key = json!({});
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(" = ").unwrap();
        key[name] = serde_json::from_str(value).unwrap();
    }
    serde_json::from_value(key).unwrap()
}

async fn live_error(host: &TestHost, plugin: &str) -> Value {
    let body: Value = host
        .admin()
        .get(&format!("{API}/plugins/{plugin}"))
        .await
        .json();
    body["last_error"].clone()
}

/// Changes the rows behind the back of a host that is stopped.
fn change_rows(data_dir: &Path, statement: &str) {
    let rows = rusqlite::Connection::open(data_dir.join("gantry.db")).unwrap();
    assert!(rows.execute(statement, []).unwrap() > 0, "{statement}");
}

#[tokio::test]
async fn what_was_changed_on_disk_is_not_loaded() {
    let (host, desk) = (strict().start().await, Desk::new());
    let key = desk.keygen(&host, "me.key").await;
    let body = json!({ "public_key": key, "owner": "Ann", "plugins": ["*"] });
    let admin = host.admin();
    admin
        .post(&format!("{API}/trust/keys"), &body)
        .await
        .assert_status(201);
    let bundle = desk.signed(&host, "1.1.0", "hello_v1", "me.key").await;
    let first: Value = admin.upload("", bundle).await.assert_status(201).json();
    let other = desk.path("other.gantry");
    fs::write(
        &other,
        pack(&manifests::open("other"), &guest("hello_v2"), &[]),
    )
    .unwrap();
    let sign = ["plugin", "sign", "other.gantry", "--key", "me.key"];
    succeeded(&desk.run(&host, &sign).await);
    let second: Value = admin
        .upload("", fs::read(&other).unwrap().into())
        .await
        .assert_status(201)
        .json();
    let digest = |deployed: &Value| {
        let digest = deployed["deployment"]["digest"].as_str().unwrap();
        digest.to_owned()
    };
    let (mine, evil) = (digest(&first), digest(&second));

    // The bytes of the component.
    let data_dir = host.data_dir().to_owned();
    let artifact = data_dir.join("artifacts").join(&mine);
    let whole = fs::read(&artifact).unwrap();
    fs::write(&artifact, guest("hello_v2")).unwrap();
    let host = host.restart().await;
    host.get("/hello/")
        .await
        .assert_problem(404, "route.not_found");
    let told = live_error(&host, "hello").await;
    assert!(told.as_str().unwrap().contains("damaged"), "{told}");
    fs::write(&artifact, &whole).unwrap();
    let mut host = host.restart().await;
    assert_eq!(version(&host).await, "1");

    // The rows: each change by itself would be enough to run something else, or the same with other rights.
    let of_hello = "WHERE plugin = 'hello'";
    let cases = [
        (
            format!("UPDATE deployments SET component = '{evil}' {of_hello}"),
            format!("UPDATE deployments SET component = '{mine}' {of_hello}"),
            "`plugin.wasm` was changed",
        ),
        (
            format!(
                "UPDATE deployments SET manifest = replace(manifest, 'PATCH', 'TRACE') {of_hello}"
            ),
            format!(
                "UPDATE deployments SET manifest = replace(manifest, 'TRACE', 'PATCH') {of_hello}"
            ),
            "`plugin.toml` was changed",
        ),
        (
            format!("UPDATE deployments SET version = '7.0.0' {of_hello}"),
            format!("UPDATE deployments SET version = '1.1.0' {of_hello}"),
            "signed as version 1.1.0",
        ),
        (
            "UPDATE provenance SET signature = NULL".to_owned(),
            String::new(),
            "is not signed",
        ),
    ];
    for (harm, mend, word) in cases {
        host = host.restart_with(|| change_rows(&data_dir, &harm)).await;
        host.get("/hello/")
            .await
            .assert_problem(404, "route.not_found");
        let told = live_error(&host, "hello").await;
        assert!(
            told.as_str().unwrap_or_default().contains(word),
            "{harm}: {told}"
        );
        if !mend.is_empty() {
            // Nobody referred to the component meanwhile, so it was removed.
            fs::write(&artifact, &whole).unwrap();
            host = host.restart_with(|| change_rows(&data_dir, &mend)).await;
            assert_eq!(version(&host).await, "1", "{mend}");
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn a_bundle_is_verified_without_being_deployed() {
    let (host, desk) = (strict().start().await, Desk::new());
    let public = desk.keygen(&host, "me.key").await;
    let bundle = desk.signed(&host, "1.0.0", "hello_v1", "me.key").await;
    let verify = |more: &[&str]| {
        let mut args = vec![
            "plugin".to_owned(),
            "verify".to_owned(),
            "hello.gantry".to_owned(),
        ];
        args.extend(more.iter().map(|&more| more.to_owned()));
        args
    };
    let run = |args: Vec<String>| {
        let (desk, host) = (&desk, &host);
        async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            desk.run(host, &args).await
        }
    };
    // By the server's list, on which the key is not yet, and by a key that is at hand.
    let told = failed(&run(verify(&[])).await);
    assert!(told.contains("does not trust"), "{told}");
    let alone = ["--public-key", "me.key.pub"];
    let verified = run(verify(&alone)).await;
    succeeded(&verified);
    let told = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(told.contains("Verified hello 1.0.0: 2 files"), "{told}");
    let add = [
        "trust",
        "add",
        public.as_str(),
        "--owner",
        "Ann",
        "--plugin",
        "hello",
    ];
    succeeded(&desk.run(&host, &add).await);
    succeeded(&run(verify(&[])).await);

    let evil = altered(&bundle, &[("plugin.wasm", &guest("hello_v2"))]);
    fs::write(desk.path("hello.gantry"), evil).unwrap();
    let told = failed(&run(verify(&alone)).await);
    assert!(told.contains("`plugin.wasm` was changed"), "{told}");
    // A private key is no public one, and nothing of it is shown.
    let told = failed(&run(verify(&["--public-key", "me.key"])).await);
    let secret = fs::read_to_string(desk.path("me.key")).unwrap();
    assert!(!told.contains(secret.lines().nth(1).unwrap()), "{told}");
    host.stop().await;
}
