use super::*;
use crate::db;

struct Scene {
    db: Db,
    logs: Logs,
    plugin: PluginName,
    _folder: tempfile::TempDir,
}

async fn scene(config: Config) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let db = db::testing::open(folder.path()).await;
    let logs = Logs::new(db.clone(), config);
    Scene {
        db,
        logs,
        plugin: "shop".parse().unwrap(),
        _folder: folder,
    }
}

impl Scene {
    fn entry(&self, level: Level, message: &str) -> Entry {
        Entry {
            plugin: self.plugin.clone(),
            deployment: Some(DeploymentId::new()),
            request_id: None,
            level,
            context: String::new(),
            message: message.to_owned(),
            at_ms: now_ms(),
        }
    }

    fn log(&self, message: &str) {
        self.logs.append(self.entry(Level::Info, message));
    }

    async fn messages(&self, filter: Filter) -> Vec<String> {
        self.logs.flush().await;
        let page = self.logs.query(&self.plugin, &filter).await.unwrap();
        page.entries
            .into_iter()
            .map(|entry| entry.message)
            .collect()
    }
}

#[tokio::test]
async fn entries_come_back_as_they_were_newest_first() {
    let scene = scene(Config::default()).await;
    let mut first = scene.entry(Level::Critical, "first");
    first.context = "orders".to_owned();
    first.request_id = Some(RequestId::new());
    let second = scene.entry(Level::Trace, "second");
    scene.logs.append(first.clone());
    scene.logs.append(second.clone());
    let mut strange = second.clone();
    strange.plugin = "blog".parse().unwrap();
    scene.logs.append(strange);
    scene.logs.flush().await;
    let page = scene
        .logs
        .query(&scene.plugin, &Filter::default())
        .await
        .unwrap();
    assert_eq!(
        page,
        Page {
            entries: vec![second, first],
            cursor: None
        }
    );
}

#[tokio::test]
async fn filters_leave_out_the_rest() {
    let scene = scene(Config::default()).await;
    let request_id = Some(RequestId::new());
    scene.logs.append(Entry {
        at_ms: now_ms() - 10_000,
        ..scene.entry(Level::Error, "old")
    });
    scene.logs.append(Entry {
        request_id,
        ..scene.entry(Level::Info, "mine")
    });
    scene.logs.append(Entry {
        request_id,
        ..scene.entry(Level::Debug, "mine, quiet")
    });
    scene.logs.append(scene.entry(Level::Warn, "other"));
    let by_level = Filter {
        level_min: Some(Level::Warn),
        ..Filter::default()
    };
    assert_eq!(scene.messages(by_level).await, ["other", "old"]);
    let by_request = Filter {
        request_id,
        ..Filter::default()
    };
    assert_eq!(scene.messages(by_request).await, ["mine, quiet", "mine"]);
    let by_both = Filter {
        request_id,
        level_min: Some(Level::Info),
        ..Filter::default()
    };
    assert_eq!(scene.messages(by_both).await, ["mine"]);
    let by_time = Filter {
        since_ms: Some(now_ms() - 5000),
        ..Filter::default()
    };
    assert_eq!(
        scene.messages(by_time).await,
        ["other", "mine, quiet", "mine"]
    );
}

#[tokio::test]
async fn pages_meet_each_entry_once() {
    let scene = scene(Config::default()).await;
    for number in 0..7 {
        scene.log(&number.to_string());
    }
    scene.logs.flush().await;
    let (mut messages, mut cursor) = (Vec::new(), None);
    loop {
        let filter = Filter {
            cursor,
            limit: Some(3),
            ..Filter::default()
        };
        let page = scene.logs.query(&scene.plugin, &filter).await.unwrap();
        messages.extend(page.entries.into_iter().map(|entry| entry.message));
        // What comes while somebody turns the pages does not move them.
        scene.log("later");
        scene.logs.flush().await;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(messages, ["6", "5", "4", "3", "2", "1", "0"]);
    for (limit, cursor) in [
        (Some(0), None),
        (Some(1001), None),
        (None, Some("x".to_owned())),
    ] {
        let filter = Filter {
            limit,
            cursor,
            ..Filter::default()
        };
        assert!(scene.logs.query(&scene.plugin, &filter).await.is_err());
    }
}

#[tokio::test]
async fn each_plugin_keeps_only_its_newest_entries_and_none_too_old() {
    let config = Config {
        entries_max: 3,
        age_ms_max: 60_000,
        ..Config::default()
    };
    let scene = scene(config).await;
    let mut strange = scene.entry(Level::Info, "strange");
    strange.plugin = "blog".parse().unwrap();
    scene.logs.append(strange.clone());
    for number in 0..10 {
        scene.log(&number.to_string());
    }
    assert_eq!(scene.messages(Filter::default()).await, ["9", "8", "7"]);
    scene.logs.append(Entry {
        at_ms: now_ms() - 60_001,
        ..scene.entry(Level::Info, "too old")
    });
    assert_eq!(scene.messages(Filter::default()).await, ["9", "8"]);
    let others = scene
        .logs
        .query(&strange.plugin, &Filter::default())
        .await
        .unwrap();
    assert_eq!(others.entries.len(), 1);
    // The numbers go on after a restart.
    let again = Logs::new(scene.db.clone(), Config::default());
    again.append(scene.entry(Level::Info, "after"));
    again.flush().await;
    assert_eq!(scene.messages(Filter::default()).await, ["after", "9", "8"]);
}

#[tokio::test]
async fn a_flood_is_dropped_and_counted_and_never_waits() {
    let scene = scene(Config {
        queue_max: 10,
        ..Config::default()
    })
    .await;
    // On this runtime the task that writes does not run before we wait.
    for number in 0..100 {
        scene.log(&number.to_string());
    }
    assert_eq!(scene.logs.dropped(), 90);
    assert_eq!(scene.messages(Filter::default()).await.len(), 10);
    scene.log("again");
    assert_eq!(scene.messages(Filter::default()).await.len(), 11);
}

#[tokio::test]
async fn followers_see_entries_of_their_plugin_and_are_told_what_they_missed() {
    let scene = scene(Config {
        follower_queue_max: 4,
        ..Config::default()
    })
    .await;
    scene.log("before");
    let mut follower = scene.logs.subscribe(&scene.plugin);
    let mut strange = scene.entry(Level::Info, "strange");
    strange.plugin = "blog".parse().unwrap();
    scene.logs.append(strange);
    scene.log("\u{1b}one");
    let Some(Followed::Entry(entry)) = follower.next().await else {
        panic!("an entry")
    };
    assert_eq!(entry.message, "\\u{1b}one");
    for number in 0..6 {
        scene.log(&number.to_string());
    }
    assert_eq!(follower.next().await, Some(Followed::Missed(2)));
    let Some(Followed::Entry(entry)) = follower.next().await else {
        panic!("an entry")
    };
    assert_eq!(entry.message, "2");
}

#[tokio::test]
async fn long_messages_are_cut() {
    let config = Config {
        message_bytes_max: 20,
        context_bytes_max: 12,
        ..Config::default()
    };
    let scene = scene(config).await;
    let mut entry = scene.entry(Level::Info, &"x".repeat(100_000));
    entry.context = "y".repeat(100);
    scene.logs.append(entry);
    scene.logs.flush().await;
    let page = scene
        .logs
        .query(&scene.plugin, &Filter::default())
        .await
        .unwrap();
    assert!(page.entries[0].message.len() <= 20 && page.entries[0].message.ends_with("[cut]"));
    assert!(page.entries[0].context.len() <= 12);
}

#[test]
fn a_budget_complains_once() {
    let mut budget = Budget::new(10);
    let wanted = [
        (4, Verdict::Fits),
        (7, Verdict::IsFirstTooMany),
        (1, Verdict::IsTooMany),
        (0, Verdict::IsTooMany),
    ];
    for (bytes, verdict) in wanted {
        assert_eq!(budget.take(bytes), verdict);
    }
}

#[tokio::test]
async fn deleting_a_plugin_removes_its_entries_only() {
    let scene = scene(Config::default()).await;
    let mut strange = scene.entry(Level::Info, "strange");
    strange.plugin = "blog".parse().unwrap();
    scene.logs.append(strange.clone());
    scene.log("mine");
    scene.logs.delete_plugin(&scene.plugin).await.unwrap();
    assert_eq!(
        scene.messages(Filter::default()).await,
        Vec::<String>::new()
    );
    let kept = scene
        .logs
        .query(&strange.plugin, &Filter::default())
        .await
        .unwrap();
    assert_eq!(kept.entries.len(), 1);
}
