//! A deployment is live as a whole or not at all, whatever is wrong with it.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gantry::plugins::{DeployError, GrantMode, Mount, Upload};
use gantry_harness::{Client, Process, TestHost, guests::guest, pack};
use serde_json::{Value, json};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{components, manifests};

const NOTES: &[u8] = b"CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);";
const SQL: &str = "[capabilities]\nsql = [{ label = \"main\", migrations = \"migrations/\" }]\n";

/// A host on which version 1 of `hello` is live, and a neighbour on `/taken`.
async fn with_hello() -> TestHost {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("hello"), guest("hello-v1"))
        .await;
    host.deploy(&manifests::open("taken"), guest("echo")).await;
    host
}

/// The deployment that answers.
async fn version(client: &Client) -> String {
    let answer = client.get("/hello/").await.assert_status(200);
    answer
        .header("x-version")
        .expect("hello says its version")
        .to_owned()
}

fn upload(bytes: Bytes) -> Upload {
    Upload {
        bytes,
        name: None,
        mount: None,
        is_nested_accepted: false,
        canary: None,
        grant: GrantMode::AllAsked,
        config: None,
        source: None,
        allows_downgrade: false,
        allows_breaking: true,
        by: "test".to_owned(),
        note: None,
    }
}

/// The names of the files in a folder of the data directory.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_the_old_version_serves_and_nothing_is_half_live() {
    let host = with_hello().await;
    let kept = [
        files(&host.data_dir().join("artifacts")),
        files(&host.data_dir().join("compiled")),
    ];
    let open = manifests::open("hello");
    let v2 = guest("hello-v2");
    let config = "[config.properties.greeting]\ntype = \"string\"\n";
    let values = json!({ "greeting": 7 }).as_object().cloned();
    let with_sql = manifests::with("hello", SQL);
    let slipped = (
        "migrations/0001_notes.sql",
        &b"CREATE TABLE notes (id INTEGER PRIMARY KEY);\nCREATE TABEL oops;"[..],
    );
    type IsExpected = fn(&DeployError) -> bool;
    let cases: Vec<(&str, Upload, IsExpected)> = vec![
        (
            "a broken component",
            upload(pack(&open, &v2[..v2.len() / 2], &[])),
            |error| matches!(error, DeployError::Mistakes(_)),
        ),
        (
            "a migration that fails",
            upload(pack(&with_sql, &v2, &[slipped])),
            |error| matches!(error, DeployError::Migrate { .. }),
        ),
        (
            "a mount that another plugin has",
            Upload {
                mount: Some(Mount::new(None, "/taken").unwrap()),
                ..upload(pack(
                    &with_sql,
                    &v2,
                    &[("migrations/0001_notes.sql", NOTES)],
                ))
            },
            |error| matches!(error, DeployError::Store(_)),
        ),
        (
            "settings that do not fit the schema",
            Upload {
                config: values,
                ..upload(pack(&manifests::with("hello", config), &v2, &[]))
            },
            |error| matches!(error, DeployError::Config(_)),
        ),
        (
            "an import that the manifest does not ask for",
            upload(pack(&open, &guest("undeclared-kv"), &[])),
            |error| matches!(error, DeployError::Mistakes(_)),
        ),
        ("nothing at all", upload(Bytes::new()), |error| {
            matches!(error, DeployError::Bundle(_))
        }),
    ];
    for (what, upload, is_expected) in cases {
        let error = host.plugins().deploy(upload).await.expect_err(what);
        assert!(is_expected(&error), "{what}: {error:?}");
        assert_eq!(version(&host).await, "1", "{what}");
        host.get("/taken/").await.assert_status(200);
    }
    let name = "hello".parse().unwrap();
    let row = host.plugins().get(&name).await.unwrap();
    assert_eq!((row.mount.path.as_str(), row.config.len()), ("/hello", 0));
    assert!(
        host.plugins()
            .store()
            .grants(&name)
            .await
            .unwrap()
            .iter()
            .next()
            .is_none()
    );
    let history = host
        .plugins()
        .store()
        .deployments(&name, None, 10)
        .await
        .unwrap();
    assert_eq!(history.len(), 1, "what failed is no part of the history");

    let host = host.restart().await;
    assert_eq!(version(&host).await, "1");
    let left = [
        files(&host.data_dir().join("artifacts")),
        files(&host.data_dir().join("compiled")),
    ];
    assert_eq!(left, kept, "what failed left nothing behind");
    // A migration that failed did not run halfway: mended, it runs from its beginning.
    let mended = pack(&with_sql, &v2, &[("migrations/0001_notes.sql", NOTES)]);
    let deployed = host.plugins().deploy(upload(mended)).await.unwrap();
    assert_eq!(deployed.migrated, ["main/1"]);
    assert_eq!(version(&host).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_live_comes_back_after_a_restart_whatever_happened_to_the_compiled_code() {
    let host = with_hello().await;
    host.deploy(&manifests::open("hello"), guest("hello-v2"))
        .await;
    let mut host = host.restart().await;
    assert_eq!(version(&host).await, "2");
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("deleted", |file| fs::remove_file(file).unwrap()),
        ("overwritten", |file| fs::write(file, b"evil").unwrap()),
        ("cut off", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("altered in one bit", |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let folder = host.data_dir().join("compiled");
        for name in files(&folder) {
            harm(&folder.join(name));
        }
        host = host.restart().await;
        assert_eq!(version(&host).await, "2", "{what}");
        host.get("/taken/").await.assert_status(200);
    }
    host.roll_back("hello").await.unwrap();
    assert_eq!(version(&host).await, "1");
    let host = host.restart().await;
    assert_eq!(version(&host).await, "1", "a rollback survives a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_whose_artifact_is_damaged_is_told_as_such_and_its_neighbours_come_up() {
    let host = with_hello().await;
    for folder in ["artifacts", "compiled"] {
        let folder = host.data_dir().join(folder);
        let hello = gantry::ids::Digest::of(&guest("hello-v1")).to_string();
        for name in files(&folder)
            .iter()
            .filter(|name| name.starts_with(&hello))
        {
            fs::write(folder.join(name), b"evil").unwrap();
        }
    }
    let host = host.restart().await;
    host.get("/taken/").await.assert_status(200);
    host.get("/hello/")
        .await
        .assert_problem(404, "route.not_found");
    let told = host
        .admin()
        .get("/_gantry/api/v1/plugins/hello")
        .await
        .assert_status(200);
    let told = told.json::<Value>()["last_error"].to_string();
    assert!(
        told.contains("damaged") && told.contains("deploy the plugin again"),
        "{told}"
    );
    host.deploy(&manifests::open("hello"), guest("hello-v1"))
        .await;
    assert_eq!(version(&host).await, "1", "deploying it again mends it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_goes_back_one_by_one_or_to_the_one_that_is_named() {
    let host = TestHost::start().await;
    host.roll_back("hello")
        .await
        .expect_err("there is no such plugin");
    let first = host
        .deploy(&manifests::open("hello"), guest("hello-v1"))
        .await;
    host.roll_back("hello")
        .await
        .expect_err("there is nothing before the first");
    assert_eq!(version(&host).await, "1");
    host.deploy(&manifests::open("hello"), guest("hello-v2"))
        .await;
    host.deploy(&manifests::open("hello"), guest("hello-v2"))
        .await;
    host.roll_back("hello").await.unwrap();
    assert_eq!(version(&host).await, "2");
    host.roll_back("hello").await.unwrap();
    assert_eq!(version(&host).await, "1");
    host.roll_back("hello")
        .await
        .expect_err("nothing is before the first");
    assert_eq!(version(&host).await, "1");
    host.deploy(&manifests::open("hello"), guest("hello-v2"))
        .await;
    let name = "hello".parse().unwrap();
    let back = host
        .plugins()
        .roll_back(&name, Some(first.deployment.id), "test", None)
        .await
        .unwrap();
    assert_eq!(back.deployment.id, first.deployment.id);
    assert_eq!(version(&host).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_gives_back_what_the_old_version_may_do() {
    let host = TestHost::start().await;
    let with_kv = manifests::with("shop", "[capabilities]\nkv = [\"data\"]\n");
    host.deploy(&with_kv, guest("kv-abuse")).await;
    host.get("/shop/value?bytes=3").await.assert_status(200);
    host.deploy(&manifests::open("shop"), guest("hello-v1"))
        .await;
    host.roll_back("shop").await.unwrap();
    let answer = host
        .get("/shop/read")
        .await
        .assert_status(200)
        .json::<Value>();
    assert_eq!(answer["ok"], 3, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_falls_out_of_the_history_leaves_the_disk_too() {
    let host = TestHost::build()
        .with(|config| config.plugins.history.deployments_kept_max = 2)
        .start()
        .await;
    for name in ["slow", "hello-v1", "hello-v2"] {
        host.deploy(&manifests::open("hello"), guest(name)).await;
    }
    assert_eq!(files(&host.data_dir().join("artifacts")).len(), 3);
    let hour = Duration::from_secs(3600);
    host.plugins().clean_up(hour).await.unwrap();
    assert_eq!(
        files(&host.data_dir().join("artifacts")).len(),
        3,
        "what is young may be about to be recorded"
    );
    host.plugins().clean_up(Duration::ZERO).await.unwrap();
    for folder in ["artifacts", "compiled"] {
        assert_eq!(files(&host.data_dir().join(folder)).len(), 2, "{folder}");
    }
    host.roll_back("hello").await.unwrap();
    assert_eq!(version(&host).await, "1");
    host.roll_back("hello").await.expect_err("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_alone_is_deployed_with_a_name() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let component = guest("hello-v1");
    admin
        .upload("", component.clone())
        .await
        .assert_problem(400, "deploy.name_missing");
    admin
        .upload("name=No+Name", component.clone())
        .await
        .assert_status(400);
    let deployed = admin
        .upload("name=hello", component)
        .await
        .assert_status(201)
        .json::<Value>();
    assert_eq!(deployed["mount"]["path"], "/hello");
    assert_eq!(version(&host).await, "1");
    host.get("/hello/any/path").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_are_made_to_hurt_are_refused_with_a_reason() {
    let host = with_hello().await;
    let admin = host.admin();
    let manifest = manifests::open("hello");
    let wasm = guest("hello-v2");
    let whole = archive(&[("plugin.toml", manifest.as_bytes()), ("plugin.wasm", &wasm)]);
    let beside = |name: &str| {
        archive(&[
            ("plugin.toml", manifest.as_bytes()),
            ("plugin.wasm", &wasm),
            (name, b"x"),
        ])
    };
    let zeros = vec![0; 64 << 20];
    let mut twice = beside("plugin.wasn").to_vec();
    for at in 0..twice.len() - 11 {
        if &twice[at..at + 11] == b"plugin.wasn" {
            twice[at + 10] = b'm';
        }
    }
    let link = {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        archive
            .start_file("plugin.toml", SimpleFileOptions::default())
            .unwrap();
        archive.write_all(manifest.as_bytes()).unwrap();
        archive
            .add_symlink("plugin.wasm", "/etc/passwd", SimpleFileOptions::default())
            .unwrap();
        Bytes::from(archive.finish().unwrap().into_inner())
    };
    let cases: Vec<(Bytes, &str)> = vec![
        (beside("../../evil"), "`..`"),
        (beside("/etc/cron.d/evil"), "absolute"),
        (beside("C:evil"), "not all systems"),
        (beside("notes.txt"), "has no file `notes.txt`"),
        (link, "link"),
        (twice.into(), "one name twice"),
        (
            archive(&[
                ("plugin.toml", manifest.as_bytes()),
                ("plugin.wasm", &zeros),
            ]),
            "times larger",
        ),
        (whole.slice(..whole.len() / 2), "its end is missing"),
        (whole.slice(..whole.len() - 1), "its end is missing"),
        (
            archive(&[("plugin.toml", manifest.as_bytes())]),
            "has no `plugin.wasm`",
        ),
        (archive(&[("plugin.wasm", &wasm)]), "has no `plugin.toml`"),
        (
            Bytes::from_static(b"MZ\x90\0 a program"),
            "neither a bundle nor a component",
        ),
    ];
    for (bytes, reason) in cases {
        let answer = admin
            .upload("", bytes)
            .await
            .assert_problem(422, "deploy.bundle_invalid");
        assert!(
            answer.text().contains(reason),
            "{reason}: {}",
            answer.text()
        );
        assert_eq!(version(&host).await, "1");
    }
    let much = Bytes::from(vec![b'x'; (32 << 20) + 1]);
    admin
        .upload("", much)
        .await
        .assert_problem(413, "deploy.too_large");
    assert_eq!(
        files(&host.data_dir().join("artifacts")).len(),
        2,
        "nothing of it was kept"
    );
    assert!(!host.data_dir().parent().unwrap().join("evil").exists());
    admin.upload("", whole).await.assert_status(201);
    assert_eq!(version(&host).await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_are_told_at_once_each_with_its_line() {
    let host = TestHost::start().await;
    let manifest = "schema = 1
[plugin]
name = \"shop\"
version = \"1.0\"
[component]
path = \"plugin.wasm\"
[[route]]
method = \"GET\"
pat = \"/x\"
auth = \"public\"
[[route]]
method = \"FETCH\"
path = \"/y\"
auth = \"everybody\"
[limits]
memory = \"much\"
";
    let wasm = guest("hello-v1");
    let bundle = archive(&[
        ("plugin.toml", manifest.as_bytes()),
        ("plugin.wasm", &wasm[..wasm.len() / 2]),
    ]);
    let answer = host
        .admin()
        .upload("", bundle)
        .await
        .assert_problem(422, "deploy.invalid");
    let errors = answer.json::<Value>()["errors"].clone();
    let lines: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|error| error["at"].as_str())
        .collect();
    for line in ["4:", "9:", "12:", "14:", "16:"] {
        let at = format!("plugin.toml:{line}");
        assert!(
            lines.iter().any(|found| found.starts_with(&at)),
            "{at}: {errors}"
        );
    }
    let text = errors.to_string();
    assert!(text.contains("did you mean `path`"), "{text}");
    assert!(
        text.contains("the component is not valid"),
        "the component's too: {text}"
    );
}

/// A zip of these files, as any tool would write it.
fn archive(files: &[(&str, &[u8])]) -> Bytes {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_takes_too_long_to_compile_is_given_up_and_moves_nobody() {
    let server = Process::start("[runtime.compile]\ncpu_s = 1").await;
    server
        .upload("name=hello", guest("hello-v1"))
        .await
        .assert_status(201);
    let quiet = latencies(&server, Duration::from_millis(500)).await;
    let bomb = components::slow_to_compile(20_000);
    let (busy, answer) = tokio::join!(
        latencies(&server, Duration::from_millis(1200)),
        server.upload("name=slow", bomb),
    );
    let answer = answer.assert_problem(422, "deploy.compile_limit_exceeded");
    assert!(
        answer.text().contains("runtime.compile"),
        "it says what to change: {}",
        answer.text()
    );
    println!("median and slowest: alone {quiet:?}, beside the compiler {busy:?}");
    assert!(
        busy.0 < quiet.0 * 4 + Duration::from_millis(10),
        "{busy:?}, alone {quiet:?}"
    );
    assert!(
        busy.1 < Duration::from_millis(500),
        "{busy:?}, alone {quiet:?}"
    );
    server
        .get("/slow/")
        .await
        .assert_problem(404, "route.not_found");
    server
        .upload("name=hello", guest("hello-v2"))
        .await
        .assert_status(201);
    assert_eq!(
        version(&server).await,
        "2",
        "the next one is compiled as ever"
    );
}

/// The median and the longest time of requests to `hello`, one after the other.
async fn latencies(server: &Process, during: Duration) -> (Duration, Duration) {
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < during {
        let asked = Instant::now();
        server.get("/hello/").await.assert_status(200);
        took.push(asked.elapsed());
    }
    took.sort();
    (took[took.len() / 2], took[took.len() - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_is_killed_fails_only_its_own_deployment() {
    let server = Process::start("").await;
    server
        .upload("name=hello", guest("hello-v1"))
        .await
        .assert_status(201);
    let kill = async {
        loop {
            if let Some(id) = server.children().first() {
                let killed = std::process::Command::new("kill")
                    .args(["-9", &id.to_string()])
                    .status();
                assert!(killed.unwrap().success());
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let bomb = components::slow_to_compile(20_000);
    let (answer, ()) = tokio::join!(server.upload("name=slow", bomb), kill);
    let answer = answer.assert_status(422);
    assert!(answer.text().contains("compil"), "{}", answer.text());
    assert_eq!(version(&server).await, "1");
    server
        .upload("name=hello", guest("hello-v2"))
        .await
        .assert_status(201);
    assert_eq!(version(&server).await, "2");
}
