use std::sync::Arc;

use ed25519_dalek::SigningKey;

use super::*;
use crate::db;
use crate::plugins::Mount;
use crate::plugins::validate::Grants;
use crate::runtime::EntryKind;

const HOUR_MS: i64 = 3_600_000;
const MANIFEST: &str = "the manifest";
const WASM: &[u8] = b"the component";

/// A gate with rows of its own, at one o'clock in 1970.
struct Scene {
    trust: Trust,
    clock: Clock,
    _dir: tempfile::TempDir,
}

async fn scene(policy: Policy, config: Config) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let db = db::testing::open(dir.path()).await;
    let clock = Clock::manual(HOUR_MS);
    let trust = Trust::new(db, clock.clone(), policy, config).unwrap();
    Scene {
        trust,
        clock,
        _dir: dir,
    }
}

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    PublicKey::new(signer(seed).verifying_key())
}

fn patterns(texts: &[&str]) -> Vec<NamePattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn file(path: &str, bytes: &[u8]) -> FileDigest {
    FileDigest {
        path: path.to_owned(),
        bytes: bytes.len() as u64,
        digest: Digest::of(bytes),
    }
}

fn files() -> Vec<FileDigest> {
    vec![
        file("migrations/main/0001_a.sql", b"CREATE TABLE a (b);"),
        file("plugin.toml", MANIFEST.as_bytes()),
        file("plugin.wasm", WASM),
    ]
}

/// `shop` 1.2.0, signed by this key.
fn upload(seed: u8) -> Presented {
    let plugin: PluginName = "shop".parse().unwrap();
    let version: semver::Version = "1.2.0".parse().unwrap();
    let signature = Signature::sign(&signer(seed), plugin.clone(), version.clone(), files());
    Presented {
        plugin,
        version,
        files: files(),
        signature: Some(signature.to_text()),
        source: None,
        upload: Digest::of(b"the bundle"),
        live: None,
        allows_downgrade: false,
    }
}

fn row(deployment: DeploymentId) -> LiveRow {
    LiveRow {
        plugin: "shop".parse().unwrap(),
        deployment,
        manifest: MANIFEST.to_owned(),
        version: "1.2.0".parse().unwrap(),
        component: Digest::of(WASM),
        entry: EntryKind::Handler,
        mount: Mount::new(None, "/shop").unwrap(),
        config: serde_json::Map::new(),
        grants: Grants::default(),
    }
}

impl Scene {
    async fn add(&self, seed: u8, plugins: &[&str]) -> KeyId {
        let added = self
            .trust
            .add(public(seed), "Ann", patterns(plugins), None, "admin");
        added.await.unwrap().public.id()
    }

    async fn code(&self, upload: Presented) -> &'static str {
        match self.trust.admit(upload).await.unwrap() {
            Ok(_) => "admitted",
            Err(refusal) => refusal.code(),
        }
    }
}

#[tokio::test]
async fn what_a_trusted_key_signed_is_admitted_and_said_to_be_from_it() {
    let scene = scene(Policy::Required, Config::default()).await;
    let key = scene.add(7, &["shop"]).await;
    let admitted = scene.trust.admit(upload(7)).await.unwrap().unwrap();
    assert_eq!(admitted.provenance.signed_by, Some(key));
    assert!(admitted.warnings.is_empty(), "{:?}", admitted.warnings);
}

#[tokio::test]
async fn each_way_of_not_being_trusted_has_its_own_reason() {
    let scene = scene(Policy::Required, Config::default()).await;
    scene.add(7, &["shop"]).await;
    scene.add(8, &["bank", "shop-*"]).await;
    type Change = fn(&mut Presented);
    let cases: &[(&str, Change, &str)] = &[
        ("nothing is wrong", |_| {}, "admitted"),
        ("no signature", |it| it.signature = None, "trust.unsigned"),
        (
            "nonsense",
            |it| it.signature = Some("trust me".to_owned()),
            "trust.signature_unreadable",
        ),
        ("a stranger", |it| *it = upload(9), "trust.key_unknown"),
        (
            "a key for others",
            |it| *it = upload(8),
            "trust.key_not_for_plugin",
        ),
        (
            "a stranger who gives a trusted key as theirs",
            |it| {
                let (mine, known) = (public(9).id().to_string(), public(7).id().to_string());
                it.signature = upload(9).signature.map(|text| text.replace(&mine, &known));
            },
            "trust.signature_wrong",
        ),
        (
            "another component",
            |it| it.files[2] = file("plugin.wasm", b"evil"),
            "trust.tampered",
        ),
        (
            "one more migration",
            |it| {
                it.files
                    .push(file("migrations/main/0002_b.sql", b"DROP TABLE a;"))
            },
            "trust.tampered",
        ),
        (
            "a migration less",
            |it| drop(it.files.remove(0)),
            "trust.tampered",
        ),
        (
            "another version",
            |it| it.version = "1.3.0".parse().unwrap(),
            "trust.tampered",
        ),
        (
            "older than what is live",
            |it| it.live = Some("1.3.0".parse().unwrap()),
            "trust.downgrade",
        ),
        (
            "older, and somebody agreed",
            |it| {
                it.live = Some("1.3.0".parse().unwrap());
                it.allows_downgrade = true;
            },
            "admitted",
        ),
        (
            "the same again",
            |it| it.live = Some("1.2.0".parse().unwrap()),
            "admitted",
        ),
    ];
    for (what, change, wanted) in cases {
        let mut upload = upload(7);
        change(&mut upload);
        assert_eq!(scene.code(upload).await, *wanted, "{what}");
    }
}

#[tokio::test]
async fn a_signature_for_one_plugin_does_not_stand_for_another() {
    let scene = scene(Policy::Required, Config::default()).await;
    scene.add(7, &["*"]).await;
    let mut upload = upload(7);
    upload.plugin = "bank".parse().unwrap();
    assert_eq!(scene.code(upload).await, "trust.tampered");
}

#[tokio::test]
async fn an_expired_key_signs_nothing_new_and_what_came_before_stays() {
    let scene = scene(Policy::Required, Config::default()).await;
    let until_ms = Some(2 * HOUR_MS);
    let added = scene
        .trust
        .add(public(7), "Ann", patterns(&["shop"]), until_ms, "admin");
    added.await.unwrap();
    let admitted = scene.trust.admit(upload(7)).await.unwrap().unwrap();
    scene.clock.advance_ms(HOUR_MS as u32);
    assert_eq!(scene.code(upload(7)).await, "trust.key_expired");
    let list = scene.trust.list().await.unwrap();
    let row = row(DeploymentId::new());
    assert_eq!(verify(&list, &row, Some(&admitted.provenance)), Ok(()));
}

#[tokio::test]
async fn a_revoked_key_stands_for_nothing_whenever_it_signed() {
    let scene = scene(Policy::Required, Config::default()).await;
    let key = scene.add(7, &["shop"]).await;
    let admitted = scene.trust.admit(upload(7)).await.unwrap().unwrap();
    scene.trust.revoke(key).await.unwrap();
    assert_eq!(scene.code(upload(7)).await, "trust.key_revoked");
    let list = scene.trust.list().await.unwrap();
    let refused = verify(&list, &row(DeploymentId::new()), Some(&admitted.provenance));
    assert_eq!(refused.unwrap_err().code(), "trust.key_revoked");
}

#[tokio::test]
async fn whatever_is_exchanged_in_the_rows_is_not_loaded() {
    let scene = scene(Policy::Required, Config::default()).await;
    scene.add(7, &["*"]).await;
    let admitted = scene.trust.admit(upload(7)).await.unwrap().unwrap();
    let list = scene.trust.list().await.unwrap();
    type Change = fn(&mut LiveRow, &mut Option<Provenance>);
    let cases: &[(&str, Change, Option<&str>)] = &[
        ("nothing", |_, _| {}, None),
        (
            "the manifest",
            |row, _| row.manifest.push('\n'),
            Some("trust.tampered"),
        ),
        (
            "the component",
            |row, _| row.component = Digest::of(b"evil"),
            Some("trust.tampered"),
        ),
        (
            "the version",
            |row, _| row.version = "9.0.0".parse().unwrap(),
            Some("trust.tampered"),
        ),
        (
            "the name",
            |row, _| row.plugin = "bank".parse().unwrap(),
            Some("trust.tampered"),
        ),
        (
            "the record",
            |_, recorded| *recorded = None,
            Some("trust.unsigned"),
        ),
    ];
    for (what, change, wanted) in cases {
        let mut row = row(DeploymentId::new());
        let mut recorded = Some(admitted.provenance.clone());
        change(&mut row, &mut recorded);
        let refused = verify(&list, &row, recorded.as_ref()).err();
        assert_eq!(refused.map(|refusal| refusal.code()), *wanted, "{what}");
    }
}

#[tokio::test]
async fn a_warning_lets_it_pass_and_off_asks_nobody() {
    let mut bad = upload(9);
    bad.live = Some("2.0.0".parse().unwrap());
    let scene_of = |policy| scene(policy, Config::default());

    let warned = scene_of(Policy::Warn).await;
    let admitted = warned.trust.admit(bad.clone()).await.unwrap().unwrap();
    assert_eq!(admitted.warnings.len(), 2, "{:?}", admitted.warnings);
    assert_eq!(admitted.provenance.signed_by, None);
    let list = warned.trust.list().await.unwrap();
    let checked = warned.trust.check(&list, &row(DeploymentId::new())).await;
    assert_eq!(checked.unwrap(), Ok(()));

    let off = scene_of(Policy::Off).await;
    let admitted = off.trust.admit(bad).await.unwrap().unwrap();
    assert!(admitted.warnings.is_empty(), "{:?}", admitted.warnings);
}

#[tokio::test]
async fn keys_of_the_settings_count_and_the_api_cannot_touch_them() {
    let entry = format!(
        "[[keys]]\nkey = \"{}\"\nowner = \"Ann\"\nplugins = [\"shop\"]\n\
         [[keys]]\nkey = \"{}\"\nowner = \"Bob\"\nplugins = [\"*\"]\nrevoked_at = \"1970-01-01T00:30:00Z\"\n\
         [[keys]]\nkey = \"{}\"\nowner = \"Eve\"\nplugins = [\"*\"]\nexpires_at = \"1970-01-01T00:30:00Z\"\n",
        public(7),
        public(8),
        public(9)
    );
    let config: Config = toml::from_str(&entry).unwrap();
    let scene = scene(Policy::Required, config.clone()).await;
    assert_eq!(scene.code(upload(7)).await, "admitted");
    assert_eq!(scene.code(upload(8)).await, "trust.key_revoked");
    assert_eq!(scene.code(upload(9)).await, "trust.key_expired");
    let id = public(7).id();
    assert!(matches!(
        scene.trust.revoke(id).await,
        Err(Error::InSettings(_))
    ));
    let again = scene
        .trust
        .add(public(8), "Bob", patterns(&["*"]), None, "admin");
    assert!(matches!(again.await, Err(Error::InSettings(_))));

    // With rows left out, a key in them counts no more and none can be added.
    scene.add(5, &["*"]).await;
    let alone = Config {
        settings_only: true,
        ..config
    };
    let db = scene.trust.db.clone();
    let trust = Trust::new(db, scene.clock.clone(), Policy::Required, alone).unwrap();
    let refused = trust.admit(upload(5)).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), "trust.key_unknown");
    let added = trust.add(public(6), "Cid", patterns(&["*"]), None, "admin");
    assert!(matches!(added.await, Err(Error::SettingsOnly)));
}

#[tokio::test]
async fn the_list_is_bounded_and_what_is_added_is_checked() {
    let config = Config {
        keys_max: 2,
        ..Config::default()
    };
    let scene = Arc::new(scene(Policy::Off, config).await);
    let add = |seed, owner: &'static str, plugins: &'static [&'static str], until| {
        let scene = Arc::clone(&scene);
        async move {
            let plugins = patterns(plugins);
            let added = scene
                .trust
                .add(public(seed), owner, plugins, until, "admin");
            added.await.map(drop)
        }
    };
    assert!(matches!(add(1, "", &["*"], None).await, Err(Error::Owner)));
    assert!(matches!(
        add(1, "a\u{1b}[2J", &["*"], None).await,
        Err(Error::Owner)
    ));
    assert!(matches!(
        add(1, "Ann", &[], None).await,
        Err(Error::Patterns)
    ));
    assert!(matches!(
        add(1, "Ann", &["*"], Some(HOUR_MS)).await,
        Err(Error::Expired)
    ));
    add(1, "Ann", &["*"], None).await.unwrap();
    assert!(matches!(
        add(1, "Ann", &["*"], None).await,
        Err(Error::Exists(_))
    ));
    add(2, "Bob", &["*"], None).await.unwrap();
    assert!(matches!(
        add(3, "Cid", &["*"], None).await,
        Err(Error::TooMany { max: 2 })
    ));
    scene.trust.remove(public(1).id()).await.unwrap();
    assert!(matches!(
        scene.trust.remove(public(1).id()).await,
        Err(Error::NotFound(_))
    ));
    add(3, "Cid", &["*"], None).await.unwrap();
    let scope = scene
        .trust
        .set(public(3).id(), patterns(&["shop"]), Some(2 * HOUR_MS));
    scope.await.unwrap();
    let list = scene.trust.list().await.unwrap();
    let key = list.get(public(3).id()).unwrap();
    assert_eq!(key.plugins, patterns(&["shop"]));
    assert_eq!(key.expires_at_ms, Some(2 * HOUR_MS));
}
