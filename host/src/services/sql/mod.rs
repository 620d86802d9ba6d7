//! A database of its own for each plugin and label: one writer, many readers, limits on everything a statement can
//! take. Who may open which database is decided by the caller.
//!
//! Today every database is a SQLite file. The public types say nothing of that, so that Postgres can stand behind them.
//! Work per process: none. Per deployment: migrations. Per call: a statement on a connection that is open already.

mod functions;
pub mod host;
mod migrations;
mod pool;
mod sandbox;
mod statement;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex as AsyncMutex, OnceCell},
    task::AbortHandle,
    time::Instant,
};

use crate::ids::{Label, PluginName};
use crate::services::{Error, Kind};
pub use migrations::{MigrateError, Migration};
use pool::{Lease, Pool};
use statement::{Effect, Statement};
use store::Purpose;

/// What plugins may take of their databases.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Statements that may read one database at the same time. Default: 4.
    pub readers: u32,
    /// Databases that are open at the same time. Default: 64.
    pub databases_open_max: usize,
    /// A database that nobody used for this long is closed. Default: 300000.
    pub idle_ms_max: u64,
    /// How long a call waits for its turn. Default: 2000.
    pub wait_ms: u64,
    /// Longest time of one statement. Default: 5000.
    pub statement_ms_max: u64,
    /// Longest time of a transaction; then it is rolled back, because others wait for it. Default: 10000.
    pub transaction_ms_max: u64,
    /// Longest time of all migrations of one database together. Default: 60000.
    pub migration_ms_max: u64,
    /// Most rows of one result. Default: 10000.
    pub rows_max: usize,
    /// Most bytes of one result. Default: 16 MiB.
    pub result_bytes_max: usize,
    /// Longest statement. Default: 64 KiB.
    pub statement_bytes_max: usize,
    /// Most parameters of one statement. Default: 1000.
    pub params_max: usize,
    /// Longest text or blob, and longest row. Default: 4 MiB.
    pub value_bytes_max: usize,
    /// Largest database. Default: 1 GiB.
    pub database_bytes_max: u64,
    /// Most memory that all databases together, the host's own included, take for pages, rows and values. A statement
    /// that would need more fails. At a quarter of it, pages that nobody reads now are given back. Default: 1 GiB.
    pub memory_bytes_max: u64,
    /// Whether a transaction that was committed survives a power failure (`full`) or only a crash of the process
    /// (`normal`, several times faster). Default: `full`.
    pub synchronous: Synchronous,
}

/// How durable a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Synchronous {
    Full,
    Normal,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            readers: 4,
            databases_open_max: 64,
            idle_ms_max: 300_000,
            wait_ms: 2000,
            statement_ms_max: 5000,
            transaction_ms_max: 10_000,
            migration_ms_max: 60_000,
            rows_max: 10_000,
            result_bytes_max: 16 << 20,
            statement_bytes_max: 64 << 10,
            params_max: 1000,
            value_bytes_max: 4 << 20,
            database_bytes_max: 1 << 30,
            memory_bytes_max: 1 << 30,
            synchronous: Synchronous::Full,
        }
    }
}

/// A value of a parameter or a column. Everything exotic travels as text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// What a query found.
#[derive(Debug, Clone, PartialEq)]
pub struct RowSet {
    /// The names of the columns, in the order of the values of each row.
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
}

/// What a statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunResult {
    pub rows_affected: u64,
    /// The id that the database gave to the last inserted row, where it has such ids.
    pub last_insert_id: Option<i64>,
}

/// The databases of all plugins. Cheap to clone.
#[derive(Clone)]
pub struct Sql(Arc<Databases>);

struct Databases {
    folder: PathBuf,
    config: Arc<Config>,
    open: Mutex<HashMap<(PluginName, Label), Open>>,
}

struct Open {
    database: Database,
    used_at: Instant,
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql")
            .field("folder", &self.0.folder)
            .finish_non_exhaustive()
    }
}

impl Sql {
    /// Databases kept under this folder, as `<plugin>/<label>.db`. Opens nothing yet.
    pub fn new(folder: PathBuf, config: Config) -> Self {
        sandbox::limit_memory(config.memory_bytes_max);
        Self(Arc::new(Databases {
            folder,
            config: Arc::new(config),
            open: Mutex::default(),
        }))
    }

    /// The database of a plugin. Touches no file; keep it as long as the caller works with it. `unavailable` if too
    /// many databases are in use.
    pub fn open(&self, plugin: &PluginName, label: &Label) -> Result<Database, Error> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, used_at) = ((plugin.clone(), label.clone()), Instant::now());
        if let Some(open) = open.get_mut(&key) {
            open.used_at = used_at;
            return Ok(open.database.clone());
        }
        if open.len() >= self.0.config.databases_open_max {
            let unused = open.iter().filter(|(_, open)| !open.is_in_use());
            let oldest = unused
                .min_by_key(|(_, open)| open.used_at)
                .map(|(key, _)| key.clone());
            let oldest = oldest.ok_or_else(|| {
                let message = "too many databases are in use; try again soon";
                let error = Error::new(Kind::Unavailable, "sql.too_many_open", message);
                Error {
                    retry_after_ms: Some(1000),
                    ..error
                }
            })?;
            open.remove(&oldest);
        }
        let file = self
            .0
            .folder
            .join(plugin.as_str())
            .join(format!("{label}.db"));
        let database = Database(Arc::new(Inner::new(file, self.0.config.clone())));
        open.insert(
            key,
            Open {
                database: database.clone(),
                used_at,
            },
        );
        Ok(database)
    }

    /// Applies the migrations that have not been applied yet, each in a transaction of its own, and returns their
    /// versions. Once per deployment; a second one at the same time waits.
    pub async fn migrate(
        &self,
        plugin: &PluginName,
        label: &Label,
        migrations: &[Migration],
    ) -> Result<Vec<i64>, MigrateError> {
        let database = self
            .open(plugin, label)
            .map_err(MigrateError::Unreachable)?;
        migrations::apply(&database.0, migrations).await
    }

    /// Removes all databases of a plugin. Those still in use answer `unavailable` from now on.
    pub async fn delete(&self, plugin: &PluginName) -> Result<(), Error> {
        let removed: Vec<Open> = {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            let of_plugin = open.extract_if(|(owner, _), _| owner == plugin);
            of_plugin.map(|(_, open)| open).collect()
        };
        for open in removed {
            open.database.0.close().await;
        }
        match tokio::fs::remove_dir_all(self.0.folder.join(plugin.as_str())).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::internal("sql.delete_failed", &error))
            }
            _ => Ok(()),
        }
    }

    /// Closes databases that nobody used for a while. A chore.
    pub fn close_idle(&self) {
        let idle = Duration::from_millis(self.0.config.idle_ms_max);
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, open| open.is_in_use() || open.used_at.elapsed() < idle);
    }

    /// Closes everything. Once, when the process ends.
    pub async fn close(&self) {
        let all: Vec<Open> = {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.drain().map(|(_, open)| open).collect()
        };
        for open in all {
            open.database.0.close().await;
        }
    }
}

impl Open {
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.database.0) > 1
    }
}

/// One database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    file: PathBuf,
    config: Arc<Config>,
    writer: Arc<Pool>,
    readers: Arc<Pool>,
    /// Set once the file is there: readers cannot make it.
    created: OnceCell<()>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("file", &self.0.file)
            .finish_non_exhaustive()
    }
}

impl Database {
    /// Reads rows, beside writers. A statement that writes and returns rows (`INSERT … RETURNING`) runs as `execute`
    /// does. `limit` if there are more rows or bytes than allowed.
    pub async fn query(
        &self,
        sql: &str,
        params: Vec<Value>,
        deadline: Instant,
    ) -> Result<RowSet, Error> {
        let statement = self.0.check(sql, &params)?;
        let deadline = self.0.statement_deadline(deadline);
        self.0.ready(deadline).await?;
        let pool = match statement.effect {
            Effect::Reads => &self.0.readers,
            Effect::Writes => &self.0.writer,
        };
        pool.acquire(deadline)
            .await?
            .query(sql, params, deadline)
            .await
    }

    /// Writes, in a transaction of its own.
    pub async fn execute(
        &self,
        sql: &str,
        params: Vec<Value>,
        deadline: Instant,
    ) -> Result<RunResult, Error> {
        let statement = self.0.check(sql, &params)?;
        let deadline = self.0.statement_deadline(deadline);
        self.0.ready(deadline).await?;
        let mut lease = self.0.writer.acquire(deadline).await?;
        lease.execute(sql, params, statement.effect, deadline).await
    }

    /// Begins a transaction that may write; waits until no other is open. It ends by itself at the deadline.
    pub async fn begin(&self, deadline: Instant) -> Result<Transaction, Error> {
        let longest = Duration::from_millis(self.0.config.transaction_ms_max);
        self.0.ready(deadline).await?;
        let mut lease = self.0.writer.acquire(deadline).await?;
        let deadline = deadline.min(Instant::now() + longest);
        lease.begin().await?;
        let lease = Arc::new(AsyncMutex::new(Some(lease)));
        // The guest may do something else for long, or nothing, while others wait for the writer.
        let watched: Weak<_> = Arc::downgrade(&lease);
        #[expect(
            clippy::disallowed_methods,
            reason = "ends at the deadline or with the transaction; the lease rolls back by itself"
        )]
        let watch = tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            if let Some(lease) = watched.upgrade() {
                lease.lock().await.take();
            }
        });
        let (database, watch) = (self.0.clone(), watch.abort_handle());
        Ok(Transaction {
            database,
            lease,
            deadline,
            watch,
        })
    }
}

impl Inner {
    fn new(file: PathBuf, config: Arc<Config>) -> Self {
        let writer = Pool::new(file.clone(), Purpose::Writing, 1, config.clone());
        let readers = config.readers.max(1);
        let readers = Pool::new(file.clone(), Purpose::Reading, readers, config.clone());
        Self {
            file,
            config,
            writer,
            readers,
            created: OnceCell::new(),
        }
    }

    /// Makes the file, the first time.
    async fn ready(&self, deadline: Instant) -> Result<(), Error> {
        let create = || async {
            let folder = self.file.parent().unwrap_or(Path::new("."));
            create_folder(folder).map_err(|error| Error::internal("sql.open_failed", &error))?;
            self.writer.acquire(deadline).await.map(drop)
        };
        self.created.get_or_try_init(create).await.copied()
    }

    fn check(&self, sql: &str, params: &[Value]) -> Result<Statement, Error> {
        let Config {
            statement_bytes_max,
            params_max,
            ..
        } = *self.config;
        if sql.len() > statement_bytes_max {
            let message = format!("a statement has at most {statement_bytes_max} bytes");
            return Err(Error::limit("sql.statement_too_long", message));
        }
        if params.len() > params_max {
            let message = format!("a statement has at most {params_max} parameters");
            return Err(Error::limit("sql.too_many_params", message));
        }
        let statement = statement::check(sql)?;
        let (needed, given) = (statement.parameters, params.len());
        if needed != given {
            let message = format!("the statement needs {needed} parameters, not {given}");
            return Err(Error::invalid("sql.params_mismatch", message));
        }
        Ok(statement)
    }

    fn statement_deadline(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + Duration::from_millis(self.config.statement_ms_max))
    }

    async fn close(&self) {
        self.readers.close().await;
        // Last, because the last connection to close works off the log.
        self.writer.close().await;
    }
}

/// A transaction that may write. Dropped without `commit`, it is rolled back; so it is at its deadline.
pub struct Transaction {
    database: Arc<Inner>,
    /// Nothing once the deadline has passed.
    lease: Arc<AsyncMutex<Option<Lease>>>,
    deadline: Instant,
    watch: AbortHandle,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("file", &self.database.file)
            .finish_non_exhaustive()
    }
}

impl Transaction {
    /// Reads rows, and sees what the transaction wrote.
    pub async fn query(&mut self, sql: &str, params: Vec<Value>) -> Result<RowSet, Error> {
        self.database.check(sql, &params)?;
        let deadline = self.database.statement_deadline(self.deadline);
        let mut lease = self.lease.lock().await;
        open_lease(&mut lease)?.query(sql, params, deadline).await
    }

    /// Writes.
    pub async fn execute(&mut self, sql: &str, params: Vec<Value>) -> Result<RunResult, Error> {
        let statement = self.database.check(sql, &params)?;
        let deadline = self.database.statement_deadline(self.deadline);
        let mut lease = self.lease.lock().await;
        open_lease(&mut lease)?
            .execute(sql, params, statement.effect, deadline)
            .await
    }

    /// Keeps what was written. After an error nothing was.
    pub async fn commit(self) -> Result<(), Error> {
        self.take().await?.commit().await
    }

    /// Forgets what was written.
    pub async fn rollback(self) -> Result<(), Error> {
        self.take().await?.roll_back().await
    }

    async fn take(&self) -> Result<Lease, Error> {
        let mut lease = self.lease.lock().await;
        open_lease(&mut lease)?;
        lease.take().ok_or_else(expired)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn open_lease(lease: &mut Option<Lease>) -> Result<&mut Lease, Error> {
    let lease = lease.as_mut().ok_or_else(expired)?;
    if lease.is_in_transaction() {
        Ok(lease)
    } else {
        let message = "an earlier error ended the transaction and rolled it back";
        Err(Error::conflict("sql.transaction_ended", message))
    }
}

fn expired() -> Error {
    let message = "the transaction took longer than it may and was rolled back";
    Error::new(Kind::Timeout, "sql.transaction_expired", message)
}

/// Only we may look into it.
fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}
