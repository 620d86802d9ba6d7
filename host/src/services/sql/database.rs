//! One database: which of its connections a statement takes, and transactions, which end at their deadline.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OnceCell},
    task::AbortHandle,
    time::Instant,
};

use super::{
    Config, RowSet, RunResult, Value,
    pool::{Lease, Pool, Share},
    statement::{self, Effect, Statement},
    store::Purpose,
};
use crate::services::{Allowance, Error, Kind};

/// One database. Cheap to clone.
#[derive(Clone)]
pub struct Database(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) file: PathBuf,
    pub(super) config: Arc<Config>,
    pub(super) share: Arc<Share>,
    pub(super) writer: Arc<Pool>,
    pub(super) readers: Arc<Pool>,
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
        allowance: &Allowance,
    ) -> Result<RowSet, Error> {
        let statement = self.0.check(sql, &params)?;
        let _held = allowance.hold(bytes(&params))?;
        let deadline = self.0.statement_deadline(allowance.deadline());
        self.0.ready(deadline).await?;
        match statement.effect {
            Effect::Reads => {
                let mut lease = self.0.readers.acquire(deadline).await?;
                lease.query(sql, params, deadline, allowance).await
            }
            // The rows come after they were written: if they are too many, it must not have happened.
            Effect::Writes => {
                let mut lease = self.0.write(deadline).await?;
                lease.begin().await?;
                let rows = lease.query(sql, params, deadline, allowance).await;
                if rows.is_ok() {
                    lease.commit(allowance).await?;
                } else if lease.is_in_transaction() {
                    lease.roll_back(allowance).await?;
                }
                rows
            }
        }
    }

    /// Writes, in a transaction of its own.
    pub async fn execute(
        &self,
        sql: &str,
        params: Vec<Value>,
        allowance: &Allowance,
    ) -> Result<RunResult, Error> {
        let statement = self.0.check(sql, &params)?;
        let _held = allowance.hold(bytes(&params))?;
        let deadline = self.0.statement_deadline(allowance.deadline());
        self.0.ready(deadline).await?;
        let mut lease = self.0.write(deadline).await?;
        lease
            .execute(sql, params, statement.effect, deadline, allowance)
            .await
    }

    /// Begins a transaction that may write; waits until no other is open. It ends by itself at the deadline.
    pub async fn begin(&self, allowance: &Allowance) -> Result<Transaction, Error> {
        let longest = Duration::from_millis(self.0.config.transaction_ms_max);
        let deadline = allowance.deadline();
        self.0.ready(deadline).await?;
        let mut lease = self.0.write(deadline).await?;
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
            allowance: allowance.clone(),
            watch,
        })
    }
}

impl Inner {
    pub(super) fn new(file: PathBuf, config: Arc<Config>, share: Arc<Share>) -> Self {
        let pool = |purpose: Purpose, size: u32| {
            Pool::new(file.clone(), purpose, size, config.clone(), share.clone())
        };
        let writer = pool(Purpose::Writing, 1);
        let readers = pool(Purpose::Reading, config.readers.max(1));
        Self {
            file,
            config,
            share,
            writer,
            readers,
            created: OnceCell::new(),
        }
    }

    /// Makes the file, the first time.
    pub(super) async fn ready(&self, deadline: Instant) -> Result<(), Error> {
        let create = || async {
            let folder = self.file.parent().unwrap_or(Path::new("."));
            create_folder(folder)
                .and_then(|()| create_folder(&self.share.temp_folder))
                .map_err(|error| Error::internal("sql.open_failed", &error))?;
            self.writer.acquire(deadline).await.map(drop)
        };
        self.created.get_or_try_init(create).await.copied()
    }

    /// Whether nobody has put anything into it.
    pub(super) async fn has_no_tables(&self) -> bool {
        let until = Instant::now() + Duration::from_millis(self.config.wait_ms);
        match self.writer.acquire(until).await {
            Ok(mut lease) => lease.has_no_tables().await,
            Err(_) => false,
        }
    }

    /// The connection that writes. Statements that read, one after the other without a gap, would keep the log from being
    /// worked off, and it would grow without end: before it is too long, they wait.
    async fn write(&self, deadline: Instant) -> Result<Lease, Error> {
        let mut lease = self.writer.acquire(deadline).await?;
        let mut log = self.file.clone().into_os_string();
        log.push("-wal");
        let log_bytes = std::fs::metadata(log).map_or(0, |log| log.len());
        if log_bytes > self.config.wal_bytes_max {
            let wait_until = Instant::now() + Duration::from_millis(self.config.wait_ms);
            let _readers = self.readers.lock(deadline.min(wait_until)).await?;
            lease.work_off_log().await?;
        }
        Ok(lease)
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
        // SQLite would keep nothing in its place, without a word.
        let is_nan = |value: &Value| matches!(value, Value::Real(real) if real.is_nan());
        if let Some(place) = params.iter().position(is_nan) {
            let message = format!("${} is no number (NaN); send null, or text", place + 1);
            return Err(Error::invalid("sql.value_invalid", message));
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

    pub(super) async fn close(&self) {
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
    allowance: Allowance,
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
        let statement = self.database.check(sql, &params)?;
        let _held = self.allowance.hold(bytes(&params))?;
        let deadline = self.database.statement_deadline(self.deadline);
        let mut lease = self.lease.lock().await;
        let lease = open_lease(&mut lease)?;
        match statement.effect {
            Effect::Reads => lease.query(sql, params, deadline, &self.allowance).await,
            Effect::Writes => {
                lease
                    .query_or_undo(sql, params, deadline, &self.allowance)
                    .await
            }
        }
    }

    /// Writes.
    pub async fn execute(&mut self, sql: &str, params: Vec<Value>) -> Result<RunResult, Error> {
        let statement = self.database.check(sql, &params)?;
        let _held = self.allowance.hold(bytes(&params))?;
        let deadline = self.database.statement_deadline(self.deadline);
        let mut lease = self.lease.lock().await;
        open_lease(&mut lease)?
            .execute(sql, params, statement.effect, deadline, &self.allowance)
            .await
    }

    /// Keeps what was written. After an error nothing was.
    pub async fn commit(self) -> Result<(), Error> {
        self.take().await?.commit(&self.allowance).await
    }

    /// Forgets what was written.
    pub async fn rollback(self) -> Result<(), Error> {
        self.take().await?.roll_back(&self.allowance).await
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

/// What parameters take while a statement waits and runs.
fn bytes(params: &[Value]) -> usize {
    params.iter().map(Value::bytes).sum()
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
