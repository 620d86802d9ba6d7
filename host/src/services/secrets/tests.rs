use super::*;
use crate::db;

struct Scene {
    db: Db,
    secrets: Secrets,
    plugin: PluginName,
    label: Label,
    folder: tempfile::TempDir,
}

async fn scene(config: Config) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let db = db::testing::open(folder.path()).await;
    let secrets = Secrets::new(db.clone(), [7; 32], config);
    let (plugin, label) = ("shop".parse().unwrap(), "api-key".parse().unwrap());
    Scene {
        db,
        secrets,
        plugin,
        label,
        folder,
    }
}

async fn value(secrets: &Secrets, plugin: &PluginName, label: &Label) -> Option<Vec<u8>> {
    match secrets.get(plugin, label).await {
        Ok(secret) => Some(secret.value.to_vec()),
        Err(error) if error.kind == Kind::NotFound => None,
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_new_value_is_seen_at_once_with_another_revision() {
    let Scene {
        secrets,
        plugin,
        label,
        folder: _folder,
        ..
    } = scene(Config::default()).await;
    assert_eq!(value(&secrets, &plugin, &label).await, None);
    let first = secrets.set(&plugin, &label, b"one").await.unwrap();
    assert_eq!(secrets.get(&plugin, &label).await.unwrap().revision, first);
    let second = secrets.set(&plugin, &label, b"two").await.unwrap();
    assert_ne!(first, second);
    assert_eq!(
        value(&secrets, &plugin, &label).await,
        Some(b"two".to_vec())
    );
    let listed = secrets.list(&plugin).await.unwrap();
    assert_eq!((&listed[0].label, &listed[0].revision), (&label, &second));
    assert!(secrets.delete(&plugin, &label).await.unwrap());
    assert!(!secrets.delete(&plugin, &label).await.unwrap());
    assert_eq!(value(&secrets, &plugin, &label).await, None);
    assert_eq!(
        value(&secrets, &"blog".parse().unwrap(), &label).await,
        None
    );
}

#[tokio::test]
async fn the_value_is_not_in_the_file_nor_in_debug_output() {
    let Scene {
        db,
        secrets,
        plugin,
        label,
        folder,
    } = scene(Config::default()).await;
    let value = b"a-value-that-can-be-found";
    secrets.set(&plugin, &label, value).await.unwrap();
    let secret = secrets.get(&plugin, &label).await.unwrap();
    for shown in [format!("{secret:?}"), format!("{secrets:?}")] {
        assert!(
            !shown.contains("found") && !shown.contains("[97"),
            "{shown}"
        );
    }
    db.close().await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(value.len()).any(|window| window == value));
    }
}

#[tokio::test]
async fn a_sealed_value_opens_only_in_its_own_row_and_with_its_key() {
    let Scene {
        db,
        secrets,
        plugin,
        label,
        folder: _folder,
    } = scene(Config::default()).await;
    secrets.set(&plugin, &label, b"one").await.unwrap();
    let stranger = Secrets::new(db.clone(), [8; 32], Config::default());
    let error = stranger.get(&plugin, &label).await.unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Internal, "secrets.unreadable")
    );
    let (revision, sealed) = store::find(&db, &plugin, &label).await.unwrap().unwrap();
    let thief: PluginName = "thief".parse().unwrap();
    let mut transaction = db.begin().await.unwrap();
    store::set(&mut transaction, &thief, &label, &revision, &sealed, 0, 10)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        secrets.get(&thief, &label).await.unwrap_err().code,
        "secrets.unreadable"
    );
    assert_eq!(
        value(&secrets, &plugin, &label).await,
        Some(b"one".to_vec())
    );
}

#[tokio::test]
async fn size_and_number_have_limits() {
    let config = Config {
        value_bytes_max: 4,
        secrets_max: 2,
        ..Config::default()
    };
    let Scene {
        secrets,
        plugin,
        label,
        folder: _folder,
        ..
    } = scene(config).await;
    for (value, code) in [
        (b"".as_slice(), "secrets.value_empty"),
        (b"12345", "secrets.value_too_large"),
    ] {
        assert_eq!(
            secrets.set(&plugin, &label, value).await.unwrap_err().code,
            code
        );
    }
    secrets.set(&plugin, &label, b"1234").await.unwrap();
    secrets
        .set(&plugin, &"two".parse().unwrap(), b"x")
        .await
        .unwrap();
    let error = secrets
        .set(&plugin, &"three".parse().unwrap(), b"x")
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Limit, "secrets.too_many")
    );
    secrets.set(&plugin, &label, b"5678").await.unwrap();
    secrets
        .set(&"blog".parse().unwrap(), &label, b"x")
        .await
        .unwrap();
}

#[tokio::test]
async fn deleting_a_plugin_deletes_its_secrets_only() {
    let Scene {
        secrets,
        plugin,
        label,
        folder: _folder,
        ..
    } = scene(Config::default()).await;
    let other: PluginName = "blog".parse().unwrap();
    secrets.set(&plugin, &label, b"x").await.unwrap();
    secrets
        .set(&plugin, &"two".parse().unwrap(), b"x")
        .await
        .unwrap();
    secrets.set(&other, &label, b"x").await.unwrap();
    secrets.delete_plugin(&plugin).await.unwrap();
    assert_eq!(value(&secrets, &plugin, &label).await, None);
    assert_eq!(secrets.list(&plugin).await.unwrap(), []);
    assert!(value(&secrets, &other, &label).await.is_some());
}
