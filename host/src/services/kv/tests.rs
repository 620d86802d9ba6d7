use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::*;
use crate::db;

/// A store on real rows with a clock that the test moves.
struct Scene {
    kv: Kv,
    now_ms: Arc<AtomicI64>,
    plugin: PluginName,
    label: Label,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = db::testing::open(folder.path()).await;
        let now_ms = Arc::new(AtomicI64::new(1_000_000));
        let clock = now_ms.clone();
        let kv = Kv::with_clock(db, config, Arc::new(move || clock.load(Ordering::Relaxed)));
        let (plugin, label) = ("shop".parse().unwrap(), "main".parse().unwrap());
        Self {
            kv,
            now_ms,
            plugin,
            label,
            _folder: folder,
        }
    }

    fn pass_ms(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }

    async fn get(&self, key: &str) -> Option<Entry> {
        self.kv.get(&self.plugin, &self.label, key).await.unwrap()
    }

    async fn put(&self, key: &str, value: &[u8], options: PutOptions) -> Result<String, Error> {
        self.kv
            .put(&self.plugin, &self.label, key, value, &options)
            .await
    }

    async fn set(&self, key: &str, value: &str) -> String {
        self.put(key, value.as_bytes(), PutOptions::default())
            .await
            .unwrap()
    }

    async fn set_for(&self, key: &str, value: &str, ttl_ms: u64) {
        let options = PutOptions {
            ttl_ms: Some(ttl_ms),
            ..PutOptions::default()
        };
        self.put(key, value.as_bytes(), options).await.unwrap();
    }

    async fn increment(&self, key: &str, delta: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        self.kv
            .increment(&self.plugin, &self.label, key, delta, ttl_ms)
            .await
    }

    async fn usage(&self) -> (u64, u64) {
        let usage = self.kv.usage(&self.plugin).await.unwrap();
        (usage.entries, usage.total_bytes)
    }
}

#[tokio::test]
async fn a_value_comes_back_as_it_was_put() {
    let scene = Scene::start().await;
    assert_eq!(scene.get("a").await, None);
    for value in [b"".as_slice(), b"\0\xff", b"text"] {
        let version = scene.put("a", value, PutOptions::default()).await.unwrap();
        assert_eq!(
            scene.get("a").await,
            Some(Entry {
                value: value.to_vec(),
                version
            })
        );
    }
    assert_eq!(scene.usage().await, (1, 5));
}

#[tokio::test]
async fn stores_with_another_label_or_plugin_are_apart() {
    let scene = Scene::start().await;
    scene.set("a", "1").await;
    let (other_plugin, other_label) = ("blog".parse().unwrap(), "other".parse().unwrap());
    assert_eq!(
        scene
            .kv
            .get(&scene.plugin, &other_label, "a")
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        scene
            .kv
            .get(&other_plugin, &scene.label, "a")
            .await
            .unwrap(),
        None
    );
    assert!(
        !scene
            .kv
            .delete(&other_plugin, &scene.label, "a", None)
            .await
            .unwrap()
    );
    assert!(scene.get("a").await.is_some());
}

#[tokio::test]
async fn a_write_with_an_old_version_is_a_conflict_and_changes_nothing() {
    let scene = Scene::start().await;
    let first = scene.set("a", "1").await;
    let second = scene.set("a", "2").await;
    assert_ne!(first, second);
    let with = |version: &str| PutOptions {
        if_version: Some(version.to_owned()),
        ..PutOptions::default()
    };
    let refused = scene.put("a", b"3", with(&first)).await.unwrap_err();
    assert_eq!(
        (refused.kind, &*refused.code),
        (Kind::Conflict, "kv.version_mismatch")
    );
    let refused = scene
        .kv
        .delete(&scene.plugin, &scene.label, "a", Some(&first))
        .await;
    assert_eq!(refused.unwrap_err().kind, Kind::Conflict);
    assert_eq!(scene.get("a").await.unwrap().value, b"2");
    scene.put("a", b"3", with(&second)).await.unwrap();
    assert_eq!(scene.get("a").await.unwrap().value, b"3");
}

#[tokio::test]
async fn a_key_deleted_and_written_again_has_another_version() {
    let scene = Scene::start().await;
    let before = scene.set("a", "1").await;
    assert!(
        scene
            .kv
            .delete(&scene.plugin, &scene.label, "a", Some(&before))
            .await
            .unwrap()
    );
    assert!(
        !scene
            .kv
            .delete(&scene.plugin, &scene.label, "a", None)
            .await
            .unwrap()
    );
    let after = scene.set("a", "1").await;
    assert_ne!(before, after);
}

#[tokio::test]
async fn only_the_first_of_many_wins_if_absent() {
    let scene = Scene::start().await;
    let put = |value: u8| {
        let (kv, plugin, label) = (scene.kv.clone(), scene.plugin.clone(), scene.label.clone());
        let options = PutOptions {
            if_absent: true,
            ..PutOptions::default()
        };
        async move { kv.put(&plugin, &label, "lock", &[value], &options).await }
    };
    let results = futures_util::future::join_all((0..20).map(put)).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let codes = results.iter().filter_map(|result| result.as_ref().err());
    assert!(codes.into_iter().all(|error| error.code == "kv.exists"));
}

#[tokio::test]
async fn an_expired_entry_is_absent_at_once_everywhere() {
    let scene = Scene::start().await;
    scene.set_for("a", "5", 1000).await;
    scene.pass_ms(999);
    assert!(scene.get("a").await.is_some());
    scene.pass_ms(1);
    assert!(scene.get("a").await.is_none());
    let page = scene
        .kv
        .keys(&scene.plugin, &scene.label, "", None, 10)
        .await
        .unwrap();
    assert_eq!(page.keys, Vec::<String>::new());
    let many = scene
        .kv
        .get_many(&scene.plugin, &scene.label, &["a".to_owned()])
        .await
        .unwrap();
    assert_eq!(many, [None]);
    assert!(
        !scene
            .kv
            .delete(&scene.plugin, &scene.label, "a", None)
            .await
            .unwrap()
    );
    assert_eq!(scene.increment("a", 1, None).await.unwrap(), 1);
    scene.pass_ms(1_000_000);
    assert_eq!(
        scene.get("a").await.unwrap().value,
        b"1",
        "the old ttl does not live on"
    );
    assert_eq!(scene.usage().await, (1, 2));
}

#[tokio::test]
async fn the_sweeper_removes_what_expired_and_no_more_than_asked() {
    let scene = Scene::start().await;
    for key in ["a", "b", "c"] {
        scene.set_for(key, "x", 10).await;
    }
    scene.set("stays", "x").await;
    scene.set_for("later", "x", 10_000).await;
    scene.pass_ms(10);
    assert_eq!(scene.kv.sweep(2).await.unwrap(), 2);
    assert_eq!(scene.kv.sweep(2).await.unwrap(), 1);
    assert_eq!(scene.kv.sweep(2).await.unwrap(), 0);
    assert_eq!(scene.usage().await, (2, 12));
}

#[tokio::test]
async fn increments_at_the_same_time_all_count() {
    let scene = Scene::start().await;
    let add = |_| scene.increment("hits", 2, None);
    for result in futures_util::future::join_all((0..20).map(add)).await {
        result.unwrap();
    }
    assert_eq!(scene.get("hits").await.unwrap().value, b"40");
}

#[tokio::test]
async fn an_increment_keeps_the_ttl_unless_it_brings_one() {
    let scene = Scene::start().await;
    scene.increment("hits", 1, Some(1000)).await.unwrap();
    scene.pass_ms(900);
    scene.increment("hits", 1, None).await.unwrap();
    scene.pass_ms(100);
    assert!(scene.get("hits").await.is_none());
    scene.increment("hits", 1, Some(1000)).await.unwrap();
    scene.pass_ms(900);
    assert_eq!(scene.increment("hits", 1, Some(1000)).await.unwrap(), 2);
    scene.pass_ms(900);
    assert!(scene.get("hits").await.is_some());
}

#[tokio::test]
async fn what_is_no_number_or_too_large_cannot_be_incremented() {
    let scene = Scene::start().await;
    scene.set("word", "one").await;
    scene.set("most", &i64::MAX.to_string()).await;
    for (key, code) in [("word", "kv.not_a_number"), ("most", "kv.number_overflow")] {
        let refused = scene.increment(key, 1, None).await.unwrap_err();
        assert_eq!((refused.kind, &*refused.code), (Kind::Invalid, code));
    }
    assert_eq!(
        scene.increment("most", -1, None).await.unwrap(),
        i64::MAX - 1
    );
}

#[tokio::test]
async fn pages_of_keys_meet_each_key_once_in_order() {
    let scene = Scene::start().await;
    let wanted = ["a/", "a/1", "a/10", "a/2", "a/ü", "a/\u{10ffff}"];
    for key in wanted.iter().chain(&["a", "a0", "b/1", "A/1"]) {
        scene.set(key, "x").await;
    }
    for max in 1..=7 {
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = scene
                .kv
                .keys(&scene.plugin, &scene.label, "a/", cursor.as_deref(), max)
                .await;
            let page = page.unwrap();
            assert!(page.keys.len() <= max as usize);
            keys.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(keys, wanted, "{max} at a time");
    }
}

#[tokio::test]
async fn many_keys_come_back_in_the_order_asked() {
    let scene = Scene::start().await;
    scene.set("a", "1").await;
    scene.set("b", "2").await;
    let keys = ["b", "nothing", "a", "b"].map(str::to_owned);
    let found = scene
        .kv
        .get_many(&scene.plugin, &scene.label, &keys)
        .await
        .unwrap();
    let values: Vec<_> = found
        .into_iter()
        .map(|entry| entry.map(|entry| entry.value))
        .collect();
    assert_eq!(
        values,
        [
            Some(b"2".to_vec()),
            None,
            Some(b"1".to_vec()),
            Some(b"2".to_vec())
        ]
    );
}

#[tokio::test]
async fn requests_outside_the_contract_are_refused() {
    let scene = Scene::start().await;
    let (plugin, label) = (&scene.plugin, &scene.label);
    for key in ["", "a\0b", &"k".repeat(513)] {
        let refused = scene
            .put(key, b"", PutOptions::default())
            .await
            .unwrap_err();
        assert_eq!(
            (refused.kind, &*refused.code),
            (Kind::Invalid, "kv.key_invalid")
        );
        assert_eq!(
            scene.kv.get(plugin, label, key).await.unwrap_err().code,
            "kv.key_invalid"
        );
    }
    scene.set(&"k".repeat(512), "").await;
    let keys = vec!["a".to_owned(); 101];
    let refused = scene.kv.get_many(plugin, label, &keys).await.unwrap_err();
    assert_eq!(refused.code, "kv.too_many_keys");
    for max in [0, 1001] {
        let refused = scene
            .kv
            .keys(plugin, label, "", None, max)
            .await
            .unwrap_err();
        assert_eq!(refused.code, "kv.page_size_invalid");
    }
    for cursor in ["%", "", "_w", &"A".repeat(5000)] {
        let refused = scene
            .kv
            .keys(plugin, label, "", Some(cursor), 1)
            .await
            .unwrap_err();
        assert_eq!(refused.code, "kv.cursor_invalid", "{cursor}");
    }
}

#[tokio::test]
async fn the_quotas_are_exact() {
    let config = Config {
        value_bytes_max: 50,
        entries_max: 3,
        total_bytes_max: 100,
        ..Config::default()
    };
    let scene = Scene::with(config).await;
    let refused = scene
        .put("a", &[0; 51], PutOptions::default())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind, &*refused.code),
        (Kind::Limit, "kv.value_too_large")
    );
    scene
        .put("a", &[0; 49], PutOptions::default())
        .await
        .unwrap();
    scene
        .put("b", &[0; 49], PutOptions::default())
        .await
        .unwrap();
    assert_eq!(scene.usage().await, (2, 100));
    let refused = scene
        .put("c", &[], PutOptions::default())
        .await
        .unwrap_err();
    assert_eq!((refused.kind, &*refused.code), (Kind::Limit, "kv.full"));
    assert_eq!(
        scene.usage().await,
        (2, 100),
        "a refused write leaves nothing behind"
    );
    scene.set("a", "").await;
    scene.set("c", "").await;
    assert_eq!(
        scene
            .put("d", &[], PutOptions::default())
            .await
            .unwrap_err()
            .code,
        "kv.full"
    );
    scene.set("a", "the number of entries stays").await;
    scene
        .kv
        .delete(&scene.plugin, &scene.label, "b", None)
        .await
        .unwrap();
    scene.set("d", "").await;
    assert_eq!(scene.usage().await, (3, 30));
}

#[tokio::test]
async fn expired_entries_do_not_fill_the_store() {
    let scene = Scene::with(Config {
        entries_max: 2,
        ..Config::default()
    })
    .await;
    scene.set_for("a", "x", 10).await;
    scene.set_for("b", "x", 10).await;
    scene.pass_ms(10);
    scene.set("c", "x").await;
    scene.set("d", "x").await;
    assert_eq!(scene.usage().await, (2, 4));
}

#[tokio::test]
async fn deleting_a_plugin_removes_all_it_kept_and_nothing_else() {
    let scene = Scene::start().await;
    let other = "blog".parse().unwrap();
    scene.set("a", "1").await;
    scene
        .kv
        .put(&other, &scene.label, "a", b"1", &PutOptions::default())
        .await
        .unwrap();
    scene.kv.delete_plugin(&scene.plugin).await.unwrap();
    assert_eq!(scene.get("a").await, None);
    assert_eq!(scene.usage().await, (0, 0));
    assert!(
        scene
            .kv
            .get(&other, &scene.label, "a")
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn many_entries_at_once_are_not_more_than_the_host_wants_to_hold() {
    let scene = Scene::with(Config {
        get_many_bytes_max: 10,
        ..Config::default()
    })
    .await;
    for key in ["a", "b", "c"] {
        scene.set(key, "12345").await;
    }
    let get = async |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        scene.kv.get_many(&scene.plugin, &scene.label, &keys).await
    };
    assert_eq!(get(&["a", "b", "x"]).await.unwrap().len(), 3);
    for keys in [["a", "b", "c"], ["a", "a", "a"]] {
        let error = get(&keys).await.unwrap_err();
        assert_eq!(error.code, "kv.values_too_large");
    }
}

#[tokio::test]
async fn a_flood_by_one_plugin_does_not_make_the_others_wait_behind_all_of_it() {
    let scene = Scene::start().await;
    let written = Arc::new(AtomicU64::new(0));
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..64 {
        let (kv, written) = (scene.kv.clone(), written.clone());
        let (plugin, label): (PluginName, Label) = ("flood".parse().unwrap(), scene.label.clone());
        flood.spawn(async move {
            loop {
                let key = format!("{number}");
                let options = PutOptions::default();
                let put = kv.put(&plugin, &label, &key, b"v", &options);
                put.await.unwrap();
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while written.load(Ordering::Relaxed) < 64 {
        tokio::task::yield_now().await;
    }
    // All on one thread: the order is that of the queues, not that of a busy machine's threads.
    let before = written.load(Ordering::Relaxed);
    for number in 0..20 {
        scene.set(&format!("{number}"), "v").await;
    }
    let meanwhile = written.load(Ordering::Relaxed) - before;
    assert!(
        meanwhile < 20 * 16,
        "{meanwhile} writes of the flood came before 20"
    );
    flood.abort_all();
}

#[tokio::test]
async fn a_plugin_with_too_many_calls_that_wait_is_turned_away_and_the_others_are_not() {
    let scene = Scene::with(Config {
        waiting_max: 3,
        ..Config::default()
    })
    .await;
    let puts = (0..8).map(|number| {
        let scene = &scene;
        async move {
            scene
                .put(&number.to_string(), b"v", PutOptions::default())
                .await
        }
    });
    let neighbour: PluginName = "neighbour".parse().unwrap();
    let options = PutOptions::default();
    let theirs = scene
        .kv
        .put(&neighbour, &scene.label, "key", b"v", &options);
    let (done, theirs) = tokio::join!(futures_util::future::join_all(puts), theirs);
    theirs.unwrap();
    let busy = done.iter().filter(|done| {
        done.as_ref()
            .is_err_and(|error| error.code == "kv.busy" && error.retry_after_ms.is_some())
    });
    assert_eq!(busy.count(), 4, "one writes and three wait: {done:?}");
    scene.set("later", "v").await;
}
