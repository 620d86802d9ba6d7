//! The host's own rows. SQLite in one file by default; the same SQL is written to run on Postgres.
//!
//! SQL itself stands in the `store.rs` files of the modules that own the tables. Placeholders are `$1`, `$2`, …, times
//! are `BIGINT` milliseconds since 1970, ids and names are `TEXT`, truth is `BIGINT` 0 or 1: all of it means the same
//! in both databases.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sqlx::{
    AnyPool,
    any::{AnyPoolOptions, install_default_drivers},
};

/// A transaction on the host's rows.
pub type Transaction = sqlx::Transaction<'static, sqlx::Any>;

/// How many connections the host keeps to its rows.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Connections that read. Default: 4.
    pub readers: u32,
    /// How long to wait for a connection or a lock. Default: 5000.
    pub wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            readers: 4,
            wait_ms: 5000,
        }
    }
}

/// Why the rows cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the database {path}")]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("cannot bring the database to this version's schema")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// Handles to the host's rows. Cheap to clone.
///
/// SQLite takes one writer at a time, so there is one connection for writing, and waiting for it is fair. Readers
/// never wait for the writer (write-ahead log).
#[derive(Debug, Clone)]
pub struct Db {
    reader: AnyPool,
    writer: AnyPool,
}

impl Db {
    /// Opens (and creates, if need be) the database file and applies the migrations. Once per process.
    pub async fn open(file: &Path, config: &Config) -> Result<Self, Error> {
        install_default_drivers();
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let open = |connections: u32| {
            let wait_ms = config.wait_ms;
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(std::time::Duration::from_millis(wait_ms))
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        let settings = format!(
                            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                             PRAGMA busy_timeout = {wait_ms};"
                        );
                        sqlx::raw_sql(sqlx::AssertSqlSafe(settings)).execute(connection).await?;
                        Ok(())
                    })
                })
                .connect(&url)
        };
        let failed = |source| Error::Open {
            path: file.to_owned(),
            source,
        };
        let writer = open(1).await.map_err(failed)?;
        sqlx::migrate!("../migrations/sqlite").run(&writer).await?;
        let reader = open(config.readers).await.map_err(failed)?;
        Ok(Self { reader, writer })
    }

    /// For statements that only read.
    pub fn reader(&self) -> &AnyPool {
        &self.reader
    }

    /// For single statements that write.
    pub fn writer(&self) -> &AnyPool {
        &self.writer
    }

    /// A transaction that may write. Rolls back when dropped.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        self.writer.begin().await
    }

    /// Whether the rows can be reached now.
    pub async fn check(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT 1")
            .execute(&self.reader)
            .await
            .map(drop)
    }

    /// Finishes what is under way and closes all connections.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// Now, as the rows keep time: milliseconds since 1970-01-01T00:00:00Z.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
