use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::db;
use crate::ids::{Digest, PluginName};
use crate::plugins::store::{Config, Store, StoreError};
use crate::runtime::EntryKind;

async fn store(deployments_kept_max: u32) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let db = db::testing::open(folder.path()).await;
    (
        folder,
        Store::new(
            db,
            Config {
                deployments_kept_max,
                ..Config::default()
            },
        ),
    )
}

fn row(plugin: &str, version: &str) -> LiveRow {
    let Value::Object(config) = json!({ "currency": "EUR" }) else {
        unreachable!()
    };
    LiveRow {
        plugin: plugin.parse().unwrap(),
        deployment: DeploymentId::new(),
        manifest: format!("the manifest of {version}"),
        version: version.parse().unwrap(),
        component: Digest::of(version.as_bytes()),
        entry: EntryKind::WasiHttp02,
        mount: Mount::new(None, &format!("/{plugin}")).unwrap(),
        config,
        grants: ["kv:carts", "http:*.example.com"]
            .iter()
            .map(|g| g.parse().unwrap())
            .collect(),
    }
}

async fn make(store: &Store, plugin: &PluginName, change: Change) -> Result<Changed, StoreError> {
    let mut tx = store.begin().await?;
    let changed = store.apply(&mut tx, plugin, &change, "ben").await?;
    tx.commit().await?;
    Ok(changed)
}

fn live(changed: Changed) -> (Deployment, Option<DeploymentId>) {
    match changed {
        Changed::Live {
            deployment,
            replaced,
        } => (*deployment, replaced),
        other => panic!("nothing became live: {other:?}"),
    }
}

/// A deployment that nobody interferes with.
async fn record(
    store: &Store,
    wanted: &LiveRow,
    grant: GrantMode,
    note: Option<&str>,
) -> Result<(Deployment, Option<DeploymentId>), StoreError> {
    let change = Change::Record(Box::new(Record {
        wanted: wanted.clone(),
        began_from: revision(store, &wanted.plugin).await,
        grant,
        is_nested_accepted: true,
        note: note.map(str::to_owned),
        canary: None,
        breaks: Vec::new(),
        approved: None,
    }));
    make(store, &wanted.plugin, change).await.map(live)
}

async fn live_rows(store: &Store) -> Vec<LiveRow> {
    let wanted = store.wanted().await.unwrap();
    wanted.into_iter().map(|wanted| wanted.stable).collect()
}

async fn revision(store: &Store, plugin: &PluginName) -> Option<i64> {
    let row = store.find_plugin(plugin).await.unwrap();
    row.map(|row| row.revision)
}

async fn roll_back(
    store: &Store,
    plugin: &PluginName,
    to: Option<DeploymentId>,
) -> Result<(Deployment, Option<DeploymentId>), StoreError> {
    make(store, plugin, Change::RollBack { to, reason: None })
        .await
        .map(live)
}

#[tokio::test]
async fn what_is_recorded_is_live_and_the_same() {
    let (_folder, store) = store(100).await;
    let wanted = row("shop", "1.0.0");

    let (deployment, replaced) = record(&store, &wanted, GrantMode::AllAsked, Some("first"))
        .await
        .unwrap();

    assert_eq!(replaced, None);
    assert_eq!(live_rows(&store).await, [wanted]);
    let name = deployment.plugin.clone();
    assert_eq!(
        store.deployments(&name, None, 10).await.unwrap(),
        [deployment]
    );
}

#[tokio::test]
async fn rolling_back_makes_the_one_before_live_again() {
    let (_folder, store) = store(100).await;
    let (first, second) = (row("shop", "1.0.0"), row("shop", "1.1.0"));
    record(&store, &first, GrantMode::AllAsked, None)
        .await
        .unwrap();
    let (_, replaced) = record(&store, &second, GrantMode::AllAsked, None)
        .await
        .unwrap();
    assert_eq!(replaced, Some(first.deployment));
    let name = &first.plugin;

    let (deployment, replaced) = roll_back(&store, name, None).await.unwrap();

    assert_eq!(
        (deployment.id, replaced),
        (first.deployment, Some(second.deployment))
    );
    assert_eq!(live_rows(&store).await, std::slice::from_ref(&first));
    assert_eq!(
        store.find_plugin(name).await.unwrap().unwrap().live_by,
        "ben"
    );
    let listed = store.deployments(name, None, 10).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|d| (d.id, d.is_live)).collect();
    assert_eq!(
        listed,
        [(second.deployment, false), (first.deployment, true)]
    );
    let older = store
        .deployments(name, Some(second.deployment), 10)
        .await
        .unwrap();
    assert_eq!(older.len(), 1);
    // There is nothing before the first one, and a named one may be newer.
    let none = roll_back(&store, name, None).await;
    assert!(
        matches!(none, Err(StoreError::DeploymentNotFound { .. })),
        "{none:?}"
    );
    roll_back(&store, name, Some(second.deployment))
        .await
        .unwrap();
    assert_eq!(live_rows(&store).await, [second]);
}

#[tokio::test]
async fn a_deployment_of_another_plugin_is_not_rolled_back_to() {
    let (_folder, store) = store(100).await;
    let (shop, blog) = (row("shop", "1.0.0"), row("blog", "1.0.0"));
    record(&store, &shop, GrantMode::AllAsked, None)
        .await
        .unwrap();
    record(&store, &blog, GrantMode::AllAsked, None)
        .await
        .unwrap();

    let refused = roll_back(&store, &shop.plugin, Some(blog.deployment)).await;

    assert!(
        matches!(refused, Err(StoreError::DeploymentNotFound { .. })),
        "{refused:?}"
    );
    let nobody = roll_back(&store, &"nobody".parse().unwrap(), None).await;
    assert!(
        matches!(nobody, Err(StoreError::PluginNotFound(_))),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn a_mount_belongs_to_one_plugin() {
    let (_folder, store) = store(100).await;
    let shop = row("shop", "1.0.0");
    record(&store, &shop, GrantMode::AllAsked, None)
        .await
        .unwrap();
    let mut blog = row("blog", "1.0.0");
    blog.mount = shop.mount.clone();

    let refused = record(&store, &blog, GrantMode::AllAsked, None).await;

    assert!(matches!(refused, Err(StoreError::MountTaken { by, .. }) if by == shop.plugin));
    assert_eq!(
        store.plugins().await.unwrap().len(),
        1,
        "nothing of it was written"
    );
    blog.mount = Mount::new(Some("blog.example.com"), "/shop").unwrap();
    record(&store, &blog, GrantMode::AllAsked, None)
        .await
        .unwrap();
    let to = |mount| Change::Mount {
        mount,
        is_nested_accepted: true,
    };
    let refused = make(&store, &blog.plugin, to(shop.mount)).await;
    assert!(
        matches!(refused, Err(StoreError::MountTaken { .. })),
        "{refused:?}"
    );
    let root = Mount::new(None, "/").unwrap();
    make(&store, &blog.plugin, to(root)).await.unwrap();
    let [blog, _] = &live_rows(&store).await[..] else {
        panic!()
    };
    assert_eq!(blog.mount.to_string(), "/");
}

#[tokio::test]
async fn grants_and_settings_are_replaced_as_a_whole() {
    let (_folder, store) = store(100).await;
    let shop = row("shop", "1.0.0");
    record(&store, &shop, GrantMode::AllAsked, None)
        .await
        .unwrap();
    let grants: Grants = std::iter::once("sql:main".parse().unwrap()).collect();

    let changes = [
        Change::SetGrants(grants.clone()),
        Change::Config(Map::new()),
    ];
    for change in changes.clone() {
        make(&store, &shop.plugin, change).await.unwrap();
    }

    let [live] = &live_rows(&store).await[..] else {
        panic!()
    };
    assert_eq!(live.grants, grants);
    assert_eq!(live.config, Map::new());
    let nobody = "nobody".parse().unwrap();
    for change in changes {
        make(&store, &nobody, change).await.unwrap_err();
    }
}

#[tokio::test]
async fn whatever_changed_since_a_deployment_began_is_not_undone_by_it() {
    let blog_mount = Mount::new(None, "/elsewhere").unwrap();
    let one: Grant = "kv:other".parse().unwrap();
    let meanwhile = [
        Change::SetGrants(Grants::default()),
        Change::AddGrants(vec![one]),
        Change::RemoveGrant("kv:carts".parse().unwrap()),
        Change::Config(Map::new()),
        Change::Mount {
            mount: blog_mount,
            is_nested_accepted: false,
        },
        Change::RollBack {
            to: None,
            reason: None,
        },
        Change::Delete { with_data: false },
    ];
    for change in meanwhile {
        let (_folder, store) = store(100).await;
        let (first, second, third) = (
            row("shop", "1.0.0"),
            row("shop", "1.1.0"),
            row("shop", "1.2.0"),
        );
        for row in [&first, &second] {
            record(&store, row, GrantMode::AllAsked, None)
                .await
                .unwrap();
        }
        let name = &first.plugin;
        let late = Change::Record(Box::new(Record {
            wanted: third,
            began_from: revision(&store, name).await,
            grant: GrantMode::AllAsked,
            is_nested_accepted: false,
            note: None,
            canary: None,
            breaks: Vec::new(),
            approved: None,
        }));
        make(&store, name, change.clone()).await.unwrap();
        let left = (
            live_rows(&store).await,
            store.find_plugin(name).await.unwrap(),
        );

        let refused = make(&store, name, late).await;

        assert!(
            matches!(refused, Err(StoreError::Changed { .. })),
            "{change:?}: {refused:?}"
        );
        let now = (
            live_rows(&store).await,
            store.find_plugin(name).await.unwrap(),
        );
        assert_eq!(now, left, "{change:?}");
    }
}

#[tokio::test]
async fn only_the_canary_that_was_looked_at_is_promoted() {
    let (_folder, store) = store(100).await;
    let rows = ["1.0.0", "1.1.0", "1.2.0"].map(|version| row("shop", version));
    let [stable, first, second] = &rows;
    let name = &stable.plugin;
    let promote = |canary| Change::Promote {
        canary,
        reason: None,
        breaks: Vec::new(),
    };
    record(&store, stable, GrantMode::AllAsked, None)
        .await
        .unwrap();
    let nothing = make(&store, name, promote(first.deployment)).await;
    assert!(
        matches!(nothing, Err(StoreError::RolloutNotFound { .. })),
        "{nothing:?}"
    );
    for wanted in [first, second] {
        let change = Change::Record(Box::new(Record {
            wanted: wanted.clone(),
            began_from: revision(&store, name).await,
            grant: GrantMode::AllAsked,
            is_nested_accepted: true,
            note: None,
            canary: Some(Weight::new(5).unwrap()),
            breaks: Vec::new(),
            approved: None,
        }));
        make(&store, name, change).await.unwrap();
        let (canary, manifest) = store.canary(name).await.unwrap();
        assert_eq!((canary, &manifest), (wanted.deployment, &wanted.manifest));
    }

    let refused = make(&store, name, promote(first.deployment)).await;

    assert!(
        matches!(refused, Err(StoreError::Changed { .. })),
        "{refused:?}"
    );
    assert_eq!(live_rows(&store).await, std::slice::from_ref(stable));
    let promoted = make(&store, name, promote(second.deployment)).await;
    assert_eq!(live(promoted.unwrap()).0.id, second.deployment);
    let nobody = store.canary(&"nobody".parse().unwrap()).await;
    assert!(
        matches!(nobody, Err(StoreError::PluginNotFound(_))),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn of_two_first_deployments_the_later_one_is_refused_and_harms_nothing() {
    let (_folder, store) = store(100).await;
    let (first, second) = (row("shop", "1.0.0"), row("shop", "1.1.0"));
    record(&store, &first, GrantMode::AllAsked, None)
        .await
        .unwrap();
    let late = Change::Record(Box::new(Record {
        wanted: second.clone(),
        began_from: None,
        grant: GrantMode::AllAsked,
        is_nested_accepted: false,
        note: None,
        canary: None,
        breaks: Vec::new(),
        approved: None,
    }));
    let refused = make(&store, &first.plugin, late.clone()).await;
    assert!(
        matches!(refused, Err(StoreError::Changed { .. })),
        "{refused:?}"
    );
    assert_eq!(live_rows(&store).await, std::slice::from_ref(&first));
    // Nor does one that began before the plugin was removed and came back.
    let old = revision(&store, &first.plugin).await;
    make(&store, &first.plugin, Change::Delete { with_data: false })
        .await
        .unwrap();
    record(&store, &row("shop", "2.0.0"), GrantMode::AllAsked, None)
        .await
        .unwrap();
    make(&store, &first.plugin, Change::Config(Map::new()))
        .await
        .unwrap();
    let late = match late {
        Change::Record(record) => Change::Record(Box::new(Record {
            began_from: old,
            ..*record
        })),
        other => other,
    };
    let refused = make(&store, &first.plugin, late).await;
    assert!(
        matches!(refused, Err(StoreError::Changed { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_mount_inside_another_one_must_be_wanted() {
    for (mine, theirs) in [
        ("/shop/admin", "/shop"),
        ("/", "/shop"),
        ("shop.example.com/shop", "/shop"),
    ] {
        let (_folder, store) = store(100).await;
        let (shop, mut blog) = (row("shop", "1.0.0"), row("blog", "1.0.0"));
        record(&store, &shop, GrantMode::AllAsked, None)
            .await
            .unwrap();
        let (host, path) = mine.split_at(mine.find('/').unwrap());
        blog.mount = Mount::new(Some(host).filter(|host| !host.is_empty()), path).unwrap();
        let record = |is_nested_accepted, began_from| {
            Change::Record(Box::new(Record {
                wanted: LiveRow {
                    deployment: DeploymentId::new(),
                    ..blog.clone()
                },
                began_from,
                grant: GrantMode::Keep,
                is_nested_accepted,
                note: None,
                canary: None,
                breaks: Vec::new(),
                approved: None,
            }))
        };
        let refused = make(&store, &blog.plugin, record(false, None)).await;
        let text = refused.unwrap_err().to_string();
        for named in [mine, theirs, "`blog`", "`shop`"] {
            assert!(text.contains(named), "{text}");
        }
        make(&store, &blog.plugin, record(true, None))
            .await
            .unwrap();
        // Once it hangs there, it need not be said again.
        let began_from = revision(&store, &blog.plugin).await;
        make(&store, &blog.plugin, record(false, began_from))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn the_live_deployment_is_never_forgotten() {
    let (_folder, store) = store(1).await;
    // Begun earlier, and so with the smaller id, but recorded later.
    let (slow, fast) = (row("shop", "1.0.0"), row("shop", "1.1.0"));
    for row in [&fast, &slow] {
        record(&store, row, GrantMode::AllAsked, None)
            .await
            .unwrap();
    }
    assert_eq!(live_rows(&store).await, [slow]);
}

#[tokio::test]
async fn only_so_many_deployments_are_kept() {
    let (_folder, store) = store(2).await;
    let rows = [
        row("shop", "1.0.0"),
        row("shop", "1.1.0"),
        row("shop", "1.2.0"),
    ];
    for row in &rows {
        record(&store, row, GrantMode::AllAsked, None)
            .await
            .unwrap();
    }

    let kept = store.deployments(&rows[0].plugin, None, 10).await.unwrap();

    assert_eq!(
        kept.iter().map(|d| d.id).collect::<Vec<_>>(),
        [rows[2].deployment, rows[1].deployment]
    );
    let artifacts = BTreeSet::from([rows[1].component, rows[2].component]);
    assert_eq!(store.referenced_artifacts().await.unwrap(), artifacts);
}

#[tokio::test]
async fn a_deleted_plugin_leaves_nothing_and_can_come_back() {
    let (_folder, store) = store(100).await;
    let shop = row("shop", "1.0.0");
    record(&store, &shop, GrantMode::AllAsked, None)
        .await
        .unwrap();

    make(&store, &shop.plugin, Change::Delete { with_data: false })
        .await
        .unwrap();

    assert_eq!(live_rows(&store).await, []);
    assert_eq!(store.grants(&shop.plugin).await.unwrap(), Grants::default());
    assert!(store.referenced_artifacts().await.unwrap().is_empty());
    make(&store, &shop.plugin, Change::Delete { with_data: false })
        .await
        .unwrap_err();
    let again = row("shop", "2.0.0");
    record(&store, &again, GrantMode::AllAsked, None)
        .await
        .unwrap();
}
