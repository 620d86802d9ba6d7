//! Databases, used by a guest that runs whatever statement it is sent.

use futures_util::future::join_all;
use gantry::plugins::{DeployError, GrantMode};
use gantry_harness::{Client, TestHost, guests::guest, pack};
use http::Method;
use serde_json::Value;

use crate::manifests;

const CREATE: &[u8] = b"CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
INSERT INTO counters VALUES ('home', 0);";

fn manifest(name: &str) -> String {
    manifests::with(
        name,
        "[capabilities]\nsql = [{ label = \"main\", migrations = \"migrations/\" }]\n",
    )
}

async fn run(client: &Client, path: &str, statement: &str) -> Value {
    let request = client
        .request(Method::POST, path)
        .body(statement.to_owned());
    client.send(request).await.assert_status(200).json()
}

/// How many rows there are.
async fn count(client: &Client, plugin: &str, query: &str) -> u64 {
    let answer = run(client, &format!("/{plugin}/"), query).await;
    answer["rows"]
        .as_u64()
        .unwrap_or_else(|| panic!("{query}: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_many_at_once_lose_nothing_and_survive_a_restart() {
    let host = TestHost::start().await;
    let files = [("migrations/0001_counters.sql", CREATE)];
    host.deploy_with(&manifest("shop"), guest("sql-abuse"), &files)
        .await;
    let add = "UPDATE counters SET n = n + 1 WHERE name = 'home'";
    let writers = (0..60).map(|number| {
        let host = &host;
        let path = ["/shop/execute", "/shop/execute?in_transaction=true"][number % 2];
        async move {
            let answer = run(host, path, add).await;
            assert_eq!(answer["rows_affected"], 1, "{answer}");
            // Readers are never held up by writers.
            assert_eq!(count(host, "shop", "SELECT * FROM counters").await, 1);
        }
    });
    join_all(writers).await;
    let all = "SELECT 1 FROM counters WHERE n = 60";
    assert_eq!(count(&host, "shop", all).await, 1);
    let host = host.restart().await;
    assert_eq!(count(&host, "shop", all).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_belongs_to_one_plugin_whatever_its_label() {
    let host = TestHost::start().await;
    let files = [("migrations/0001_counters.sql", CREATE)];
    for name in ["ann", "bob"] {
        host.deploy_with(&manifest(name), guest("sql-abuse"), &files)
            .await;
    }
    run(
        &host,
        "/ann/execute",
        "INSERT INTO counters VALUES ('ann', 1)",
    )
    .await;
    assert_eq!(count(&host, "ann", "SELECT * FROM counters").await, 2);
    assert_eq!(count(&host, "bob", "SELECT * FROM counters").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_run_once_in_order_and_what_has_run_may_not_change() {
    let host = TestHost::start().await;
    let first = ("migrations/0001_counters.sql", CREATE);
    let second = (
        "migrations/0002_colour.sql",
        &b"ALTER TABLE counters ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';"[..],
    );
    let deployed = host
        .deploy_with(&manifest("shop"), guest("sql-abuse"), &[first])
        .await;
    assert_eq!(deployed.migrated, ["main/1"]);
    let deployed = host
        .deploy_with(&manifest("shop"), guest("sql-abuse"), &[first, second])
        .await;
    assert_eq!(deployed.migrated, ["main/2"]);
    let host = host.restart().await;
    let deployed = host
        .deploy_with(&manifest("shop"), guest("sql-abuse"), &[first, second])
        .await;
    assert_eq!(deployed.migrated, Vec::<String>::new());
    let red = "SELECT * FROM counters WHERE colour = 'red'";
    assert_eq!(count(&host, "shop", red).await, 1);

    let changed = (
        "migrations/0002_colour.sql",
        &b"ALTER TABLE counters ADD COLUMN colour TEXT;"[..],
    );
    let bundle = pack(&manifest("shop"), &guest("sql-abuse"), &[first, changed]);
    let error = host
        .upload(bundle, GrantMode::AllAsked, None)
        .await
        .unwrap_err();
    assert!(matches!(error, DeployError::Migrate { .. }), "{error:?}");
    assert!(error.to_string().contains("colour"), "it is named: {error}");
    assert_eq!(count(&host, "shop", red).await, 1, "the old version serves");

    host.roll_back("shop").await.unwrap();
    assert_eq!(
        count(&host, "shop", red).await,
        1,
        "a rollback leaves the data as they are"
    );
}
