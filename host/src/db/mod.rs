//! The host's own rows: SQLite in one file by default, or a Postgres server. The same SQL runs on both.
//!
//! SQL itself stands in the `store.rs` files of the modules that own the tables. Placeholders are `$1`, `$2`, …, times
//! are `BIGINT` milliseconds since 1970, ids and names are `TEXT`, truth is `BIGINT` 0 or 1: all of it means the same
//! in both databases.

mod config;
mod migrations;
mod server;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
mod watched;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{
    AnyPool,
    any::{AnyPoolOptions, install_default_drivers},
};
use tokio_util::sync::CancellationToken;

use crate::ledger::{Event, Ledger};

pub use config::Config;
pub use server::{Company, News, Rows};
pub use thread::{THREAD_CLOCK, ThreadClock};

use server::{Server, Use};

/// A transaction on the host's rows.
pub type Transaction = sqlx::Transaction<'static, sqlx::Any>;
/// A connection to the host's rows, which goes back when it is dropped.
pub type Connection = sqlx::pool::PoolConnection<sqlx::Any>;

/// Why the rows cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the database {path}")]
    Open { path: PathBuf, source: sqlx::Error },
    #[error(
        "cannot open the database {address}; is the server there, do user and password fit, and does the database exist?"
    )]
    Server {
        /// Without its password.
        address: String,
        source: sqlx::Error,
    },
    #[error("`db.url` and `db.password_file` cannot be used")]
    Address { source: io::Error },
    #[error(
        "another host uses the rows at {address}; stop it first, give this one a database of its own, or let both share the \
         rows (`db.shared`)"
    )]
    InUse { address: String },
    #[error(
        "the rows at {place} belong to a host with other keys: copy the folder `keys/` of that host into this data directory, \
         or use another database"
    )]
    OtherKeys { place: String },
    #[error("the rows cannot be read")]
    Rows(#[from] sqlx::Error),
    #[error("cannot bring the database to this version's schema")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// Handles to the host's rows. Cheap to clone.
///
/// SQLite takes one writer at a time, so there is one connection for writing, and waiting for it is fair. Readers
/// never wait for the writer (write-ahead log). Postgres takes many: there, who must be alone says so with
/// [`Db::one_by_one`].
#[derive(Clone)]
pub struct Db {
    reader: AnyPool,
    writer: Single,
    /// For statements whose processor time somebody pays. Opened when they are first used.
    metered: Arc<[Single]>,
    next: Arc<AtomicUsize>,
    /// Where changes are recorded; nothing where nobody asks for it.
    ledger: Option<Ledger>,
    /// Nothing for a file.
    server: Option<Arc<Server>>,
    /// Whose turn a transaction waits for before it begins.
    rows: Option<Rows>,
}

/// A single connection to a file, and the clock of the thread that works for it; or connections to a server, without a clock.
#[derive(Clone)]
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
    /// Processor time so far. Nothing on a server: it works on a machine of its own, within the time that a statement may take.
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
    /// Opens the rows on the server of the settings or else, creating it if need be, in this file, and applies the
    /// migrations. Once per process.
    pub async fn open(file: &Path, config: &Config) -> Result<Self, Error> {
        install_default_drivers();
        match config.has_server() {
            true => Self::open_server(config).await,
            false => Self::open_file(file, config).await,
        }
    }

    async fn open_server(config: &Config) -> Result<Self, Error> {
        let server = Server::open(config).await?;
        let pool = |count, to| server.pool(count, config, to);
        let without_clock = |pool| Single {
            pool,
            clock: Arc::default(),
        };
        Ok(Self {
            reader: pool(config.readers, Use::Read)?,
            writer: without_clock(pool(config.writers, Use::Write)?),
            metered: [without_clock(pool(config.readers, Use::Read)?)].into(),
            next: Arc::default(),
            ledger: None,
            rows: None,
            server: Some(server),
        })
    }

    async fn open_file(file: &Path, config: &Config) -> Result<Self, Error> {
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
        migrations::of_sqlite().run(&writer.pool).await?;
        let reader = options(config.readers, config, None).connect(&url);
        let metered: Result<Arc<[_]>, _> = (0..config.readers.max(1)).map(|_| single()).collect();
        Ok(Self {
            reader: reader.await.map_err(failed)?,
            writer,
            metered: metered?,
            next: Arc::default(),
            ledger: None,
            rows: None,
            server: None,
        })
    }

    /// The same for an owner whose transactions follow one another: what one of them has read stays so until it has written.
    #[must_use]
    pub fn one_by_one(mut self, rows: Rows) -> Self {
        if let Some(server) = &self.server {
            self.writer.pool = server.writer_of(rows);
            self.rows = Some(rows);
        }
        self
    }

    /// Notes at the first start whose rows they are. [`Error::OtherKeys`] if those of a host with other keys.
    pub async fn recognize(&self, fingerprint: &str, place: &str) -> Result<(), Error> {
        let query =
            "INSERT INTO host_keys (id, fingerprint) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
        sqlx::query(query)
            .bind(fingerprint)
            .execute(self.writer())
            .await?;
        let known: String = sqlx::query_scalar("SELECT fingerprint FROM host_keys WHERE id = 1")
            .fetch_one(self.writer())
            .await?;
        match known == fingerprint {
            true => Ok(()),
            false => Err(Error::OtherKeys {
                place: place.to_owned(),
            }),
        }
    }

    /// Whether several hosts use these rows.
    pub fn is_shared(&self) -> bool {
        self.server
            .as_ref()
            .is_some_and(|server| server.is_shared())
    }

    /// Whether the rows are on a server.
    pub fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// Tells when another host may have changed something; never, where the rows are in a file.
    pub fn news(&self) -> News {
        News::of(self.server.clone())
    }

    /// How far the clock of the server is ahead of this machine's, in milliseconds. Nothing for a file, or if the answer took
    /// too long to tell.
    pub async fn clock_ahead_ms(&self) -> Result<Option<i64>, sqlx::Error> {
        match &self.server {
            Some(server) => server.clock_ahead_ms(&self.reader).await,
            None => Ok(None),
        }
    }

    /// Now, in milliseconds since 1970, by the clock of the server if that was asked.
    pub fn now_ms(&self) -> i64 {
        let server = self.server.as_ref();
        now_ms().saturating_add(server.map_or(0, |server| server.ahead_ms()))
    }

    /// Shows other hosts that this one uses the rows. Whoever is alone stays so until [`Db::settle`]. [`Error::InUse`] if
    /// another one is there and the two do not share.
    pub async fn take_place(&self, config: &Config) -> Result<Company, Error> {
        let Some(server) = &self.server else {
            return Ok(Company::Alone);
        };
        let company = server.take_place().await;
        let company = company.map_err(|source| server::failed(config, source))?;
        company.ok_or_else(|| Error::InUse {
            address: config.url.to_string(),
        })
    }

    /// Lets others come to rows that are shared.
    pub async fn settle(&self) -> Result<(), sqlx::Error> {
        match &self.server {
            Some(server) => server.settle().await,
            None => Ok(()),
        }
    }

    /// Goes on showing it, until `stop` is cancelled.
    pub async fn keep_place(self, stop: CancellationToken) {
        if let Some(server) = &self.server {
            server.keep_place(stop).await;
        }
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

    /// Has it looked whether something suspicious was recorded, once the transaction is committed.
    pub fn note_recorded(&self, event: Event) {
        if let Some(ledger) = &self.ledger {
            ledger.note_written(event);
        }
    }

    /// Where changes are recorded, if they are.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The rows on the server of the settings or else in this file, which another process may be using, to be read and
    /// nothing else.
    pub async fn look(file: &Path, config: &Config) -> Result<AnyPool, Error> {
        install_default_drivers();
        if config.has_server() {
            let password = config.password_file.as_deref();
            let unusable = |source| Error::Address { source };
            let url = config.url.whole(password).map_err(unusable)?;
            let pool = server::options(1, config, Use::Read).connect(&url).await;
            return pool.map_err(|source| server::failed(config, source));
        }
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
        let mut transaction = self.writer.pool.begin().await?;
        if let Some(rows) = self.rows {
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(rows.lock())
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction)
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

    /// Whether the rows can be reached now, and are this host's.
    pub async fn check(&self) -> Result<(), sqlx::Error> {
        let look = sqlx::query("SELECT 1").execute(&self.reader);
        match &self.server {
            None => look.await.map(drop),
            Some(server) => {
                server.check_place()?;
                // A server that has stopped answers nothing, and whoever asks this cannot wait for it.
                let looked = tokio::time::timeout(server.wait(), look).await;
                looked.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(drop)
            }
        }
    }

    /// Finishes what is under way and closes all connections.
    pub async fn close(&self) {
        self.reader.close().await;
        for single in self.metered.iter() {
            single.pool.close().await;
        }
        self.writer.pool.close().await;
        if let Some(server) = &self.server {
            server.close().await;
        }
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Db")
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
