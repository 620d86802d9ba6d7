//! The host's own rows. SQLite in one file by default; the same SQL is written to run on Postgres.
//!
//! SQL itself stands in the `store.rs` files of the modules that own the tables. Placeholders are `$1`, `$2`, …, times
//! are `BIGINT` milliseconds since 1970, ids and names are `TEXT`, truth is `BIGINT` 0 or 1: all of it means the same
//! in both databases.

mod thread;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{
    AnyPool,
    any::{AnyPoolOptions, install_default_drivers},
};

use crate::ledger::{Event, Ledger};

pub use thread::{THREAD_CLOCK, ThreadClock};

/// A transaction on the host's rows.
pub type Transaction = sqlx::Transaction<'static, sqlx::Any>;
/// A connection to the host's rows, which goes back when it is dropped.
pub type Connection = sqlx::pool::PoolConnection<sqlx::Any>;

/// How many connections the host keeps to its rows.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Connections that read for the host, and as many that read for plugins. Default: 4.
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
    writer: Single,
    /// For statements whose processor time somebody pays. Opened when they are first used.
    metered: Arc<[Single]>,
    next: Arc<AtomicUsize>,
    /// Where changes are recorded; nothing where nobody asks for it.
    ledger: Option<Ledger>,
}

/// A single connection, and the clock of the thread that works for it.
#[derive(Debug, Clone)]
struct Single {
    pool: AnyPool,
    clock: Arc<AtomicI32>,
}

/// Tells what a connection has computed since it was taken.
#[derive(Debug)]
pub struct Meter {
    clock: ThreadClock,
    began_ns: u64,
}

impl Meter {
    /// Processor time so far.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.clock.ns().saturating_sub(self.began_ns))
    }
}

impl Single {
    fn meter(&self) -> Meter {
        let clock = ThreadClock::of_id(self.clock.load(Relaxed));
        Meter {
            clock,
            began_ns: clock.ns(),
        }
    }
}

impl Db {
    /// Opens (and creates, if need be) the database file and applies the migrations. Once per process.
    pub async fn open(file: &Path, config: &Config) -> Result<Self, Error> {
        install_default_drivers();
        thread::introduce();
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let failed = |source| Error::Open {
            path: file.to_owned(),
            source,
        };
        let single = || {
            let clock = Arc::default();
            let pool = options(1, config, Some(Arc::clone(&clock))).connect_lazy(&url);
            pool.map(|pool| Single { pool, clock }).map_err(failed)
        };
        let writer = single()?;
        // Here and not at the first write: whether the file can be used must be known now.
        drop(writer.pool.acquire().await.map_err(failed)?);
        sqlx::migrate!("../migrations/sqlite")
            .run(&writer.pool)
            .await?;
        let reader = options(config.readers, config, None).connect(&url);
        let metered: Result<Arc<[_]>, _> = (0..config.readers.max(1)).map(|_| single()).collect();
        Ok(Self {
            reader: reader.await.map_err(failed)?,
            writer,
            metered: metered?,
            next: Arc::default(),
            ledger: None,
        })
    }

    /// The same, with a ledger in which changes are recorded.
    #[must_use]
    pub fn with_ledger(mut self, ledger: Ledger) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Records what a transaction does, in that transaction: both are there, or neither.
    pub async fn record(
        &self,
        transaction: &mut Transaction,
        event: Event,
    ) -> Result<(), sqlx::Error> {
        match &self.ledger {
            Some(ledger) => ledger.append(transaction, &[event]).await,
            None => Ok(()),
        }
    }

    /// Records something that belongs to no transaction, soon, without waiting for it.
    pub fn note(&self, event: Event) {
        if let Some(ledger) = &self.ledger {
            ledger.note(event);
        }
    }

    /// Where changes are recorded, if they are.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The rows in a file that another process may be using, to be read and nothing else.
    pub async fn look(file: &Path) -> Result<AnyPool, Error> {
        install_default_drivers();
        thread::introduce();
        let url = format!("sqlite://{}?mode=rw", file.display());
        let options = AnyPoolOptions::new()
            .max_connections(1)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    let settings = "PRAGMA query_only = ON; PRAGMA busy_timeout = 5000;";
                    sqlx::raw_sql(settings).execute(connection).await.map(drop)
                })
            });
        options.connect(&url).await.map_err(|source| Error::Open {
            path: file.to_owned(),
            source,
        })
    }

    /// For statements that only read.
    pub fn reader(&self) -> &AnyPool {
        &self.reader
    }

    /// For single statements that write.
    pub fn writer(&self) -> &AnyPool {
        &self.writer.pool
    }

    /// A transaction that may write. Rolls back when dropped.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        self.writer.pool.begin().await
    }

    /// The same, and what it computes.
    pub async fn begin_metered(&self) -> Result<(Transaction, Meter), sqlx::Error> {
        let transaction = self.begin().await?;
        Ok((transaction, self.writer.meter()))
    }

    /// A connection for statements that only read, and what they compute.
    pub async fn metered_reader(&self) -> Result<(Connection, Meter), sqlx::Error> {
        let next = self.next.fetch_add(1, Relaxed) % self.metered.len();
        let (before, from_here) = self.metered.split_at(next);
        let in_turn = || from_here.iter().chain(before);
        for single in in_turn() {
            if let Some(connection) = single.pool.try_acquire() {
                return Ok((connection, single.meter()));
            }
        }
        let unopened = in_turn().find(|single| single.pool.size() == 0);
        let single = unopened.unwrap_or(&self.metered[next]);
        let connection = single.pool.acquire().await?;
        Ok((connection, single.meter()))
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
        for single in self.metered.iter() {
            single.pool.close().await;
        }
        self.writer.pool.close().await;
    }
}

/// How connections are opened. With a clock, the one of the thread that works for the connection is kept there.
fn options(connections_max: u32, config: &Config, clock: Option<Arc<AtomicI32>>) -> AnyPoolOptions {
    let wait_ms = config.wait_ms;
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(wait_ms))
        .after_connect(move |connection, _| {
            let clock = clock.clone();
            Box::pin(async move {
                let settings = format!(
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                     PRAGMA busy_timeout = {wait_ms};"
                );
                let settings = sqlx::AssertSqlSafe(settings);
                sqlx::raw_sql(settings).execute(&mut *connection).await?;
                if let Some(clock) = clock {
                    let sql = format!("SELECT {THREAD_CLOCK}()");
                    let query = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql));
                    let id = query.fetch_one(connection).await?;
                    clock.store(i32::try_from(id).unwrap_or_default(), Relaxed);
                }
                Ok(())
            })
        })
}

/// Now, as the rows keep time: milliseconds since 1970-01-01T00:00:00Z.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
