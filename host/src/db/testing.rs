//! Rows for unit tests: in a file, or on Postgres if the environment says so (`TESTS_DB=postgres`). The tests are the same.

#[path = "../../../tests/harness/src/postgres/server.rs"]
mod server;

use std::{path::Path, time::Duration};

use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection};

use super::{Config, Db};

const PATIENCE: Duration = Duration::from_secs(30);

/// The rows of a folder. The same folder has the same rows.
pub(crate) async fn open(folder: &Path) -> Db {
    let mut config = Config::default();
    if is_on_server() {
        config.url = database(folder).await.into();
        // Many at once, on a small machine.
        config.wait_ms = 20_000;
        config.readers = 2;
    }
    Db::open(&folder.join("rows"), &config).await.unwrap()
}

/// Whether they are on Postgres.
pub(crate) fn is_on_server() -> bool {
    std::env::var_os("TESTS_DB").is_some_and(|name| name == "postgres")
}

async fn database(folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (port, password) = (server::port(root), server::PASSWORD);
    let url = |name: &str| format!("postgres://gantry:{password}@127.0.0.1:{port}/{name}");
    let digest = hex::encode(Sha256::digest(folder.as_os_str().as_encoded_bytes()));
    let name = format!("test_{}", &digest[..24]);
    let began = std::time::Instant::now();
    let mut connection = loop {
        match PgConnection::connect(&url("postgres")).await {
            Ok(connection) => break connection,
            Err(error) => assert!(
                began.elapsed() < PATIENCE,
                "Postgres does not start: {error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let is_there: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
        .bind(&name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    if is_there == 0 {
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    url(&name)
}

#[tokio::test]
async fn every_text_is_ordered_by_its_bytes() {
    if !is_on_server() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).await;
    // Whatever order the database itself has.
    let others: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || '.' || column_name FROM information_schema.columns
         WHERE table_schema = current_schema() AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'
         AND table_name <> '_sqlx_migrations'",
    )
    .fetch_all(db.reader())
    .await
    .unwrap();
    assert_eq!(others, Vec::<String>::new(), "say COLLATE \"C\"");
}

#[tokio::test]
async fn the_system_looks_whether_the_server_is_still_there() {
    if !is_on_server() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path()).await;
    let one_by_one = db.clone().one_by_one(super::Rows::Accounts);
    let _held = (db.begin().await.unwrap(), one_by_one.begin().await.unwrap());
    let _reading = db.reader().acquire().await.unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (watched, all) = super::watched::count(server::port(root));
    // Other tests of this process have connections that they are just opening.
    assert!(watched >= 3 && all >= watched, "{watched} of {all}");
}
