//! The connections of one database: a fixed number, handed out in the order of asking, and clean when handed out.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::{
    Config, RowSet, RunResult, Value,
    sandbox::Rights,
    statement::Effect,
    store::{Connection, Control, Purpose, busy, explain, timeout},
};
use crate::services::{Allowance, Error, Kind, Quota};

/// How much longer than its deadline a statement may take before we stop waiting for the database to notice.
const GRACE: Duration = Duration::from_secs(2);

/// What all databases of one plugin share.
pub(super) struct Share {
    /// Places for statements that run.
    statements: Semaphore,
    pub(super) temp_folder: PathBuf,
    pub(super) temp: Quota,
}

impl Share {
    pub(super) fn new(config: &Config, temp_folder: PathBuf, temp: Quota) -> Self {
        Self {
            statements: Semaphore::new(config.statements_per_plugin_max.max(1)),
            temp_folder,
            temp,
        }
    }

    /// A place for a statement, as soon as one is free.
    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Error> {
        let place = timeout_at(deadline, self.statements.acquire()).await;
        place.map_err(|_| busy())?.map_err(|_| closed())
    }
}

pub(super) struct Pool {
    file: PathBuf,
    purpose: Purpose,
    size: u32,
    config: Arc<Config>,
    share: Arc<Share>,
    permits: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Connections opened before the last change of the schema are not used again: sqlx remembers the columns of
    /// prepared statements.
    generation: u64,
}

impl Pool {
    pub(super) fn new(
        file: PathBuf,
        purpose: Purpose,
        size: u32,
        config: Arc<Config>,
        share: Arc<Share>,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(size as usize));
        Arc::new(Self {
            file,
            purpose,
            size,
            config,
            share,
            permits,
            idle: Mutex::default(),
        })
    }

    /// A connection, as soon as one is free. `sql.busy` after the wait that the settings allow.
    pub(super) async fn acquire(self: &Arc<Self>, deadline: Instant) -> Result<Lease, Error> {
        let wait_until = Instant::now() + Duration::from_millis(self.config.wait_ms);
        let permit = match timeout_at(
            wait_until.min(deadline),
            self.permits.clone().acquire_owned(),
        )
        .await
        {
            Ok(permit) => permit.map_err(|_| closed())?,
            Err(_) if deadline < wait_until => return Err(timeout()),
            Err(_) => return Err(busy()),
        };
        let (idle, generation) = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            (idle.connections.pop(), idle.generation)
        };
        let connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.file, self.purpose, &self.config, &self.share)
                .await
                .map_err(|error| Error::internal("sql.open_failed", &error))?,
        };
        let (pool, state) = (self.clone(), State::Clean);
        Ok(Lease {
            connection: Some(connection),
            pool,
            generation,
            state,
            permit: Some(permit),
        })
    }

    /// Keeps everybody out until the permit is dropped, and connections used so far from being used again.
    pub(super) async fn lock(&self, until: Instant) -> Result<OwnedSemaphorePermit, Error> {
        let permits = self.permits.clone().acquire_many_owned(self.size);
        let permit = timeout_at(until, permits).await.map_err(|_| busy())?;
        permit.map_err(|_| closed())
    }

    /// From now on only new connections are handed out.
    pub(super) fn renew(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.generation += 1;
        idle.connections.clear();
    }

    /// Hands out no more connections and closes those that are idle; the others close when they come back.
    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut idle.connections)
        };
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::warn!(error.cause = %error, "A plugin's database did not close well");
            }
        }
    }

    fn give_back(&self, connection: Connection, generation: u64) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.generation == generation && !self.permits.is_closed() {
            idle.connections.push(connection);
        }
    }
}

/// A connection in use. Dropping it stops what is under way, rolls back and gives the connection back.
pub(super) struct Lease {
    /// Nothing only while it is being dropped.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    generation: u64,
    state: State,
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Clean,
    /// A transaction is open and no statement under way.
    Transaction,
    /// A statement may be under way, because the future that waited for it was dropped.
    Unknown,
}

impl Lease {
    pub(super) async fn query(
        &mut self,
        sql: &str,
        params: Vec<Value>,
        deadline: Instant,
        allowance: &Allowance,
    ) -> Result<RowSet, Error> {
        let (before, pool) = (self.state, self.pool.clone());
        let _place = pool.share.place(deadline).await?;
        let connection = self.enter(deadline, allowance)?;
        let work = connection.query(sql, params, &pool.config, allowance);
        let result = timeout_at(deadline + GRACE, work).await;
        self.leave(before, result.unwrap_or_else(|_| Err(timeout())))
            .await
    }

    /// For a statement that writes and returns rows, inside a transaction: an error leaves nothing of it behind.
    pub(super) async fn query_or_undo(
        &mut self,
        sql: &str,
        params: Vec<Value>,
        deadline: Instant,
        allowance: &Allowance,
    ) -> Result<RowSet, Error> {
        self.control(Control::Mark).await?;
        let rows = self.query(sql, params, deadline, allowance).await;
        if rows.is_err() && self.is_in_transaction() {
            self.control(Control::Undo).await?;
        }
        if self.is_in_transaction() {
            self.control(Control::Unmark).await?;
        }
        rows
    }

    pub(super) async fn execute(
        &mut self,
        sql: &str,
        params: Vec<Value>,
        effect: Effect,
        deadline: Instant,
        allowance: &Allowance,
    ) -> Result<RunResult, Error> {
        let (before, pool) = (self.state, self.pool.clone());
        let _place = pool.share.place(deadline).await?;
        let connection = self.enter(deadline, allowance)?;
        let work = connection.execute(sql, params, allowance);
        let result = timeout_at(deadline + GRACE, work).await;
        let result = self
            .leave(before, result.unwrap_or_else(|_| Err(timeout())))
            .await?;
        match effect {
            Effect::Writes => Ok(result),
            // SQLite still tells of the last statement that did write.
            Effect::Reads => Ok(RunResult {
                rows_affected: 0,
                last_insert_id: None,
            }),
        }
    }

    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        self.control(Control::Begin).await
    }

    /// Ends the transaction. If it cannot be committed, it is rolled back.
    pub(super) async fn commit(mut self, allowance: &Allowance) -> Result<(), Error> {
        let _charge = self.connection()?.charge(allowance);
        // If the caller stops waiting, the commit happens or not, and dropping finds out which.
        self.control(Control::Commit).await
    }

    pub(super) async fn roll_back(mut self, allowance: &Allowance) -> Result<(), Error> {
        let _charge = self.connection()?.charge(allowance);
        self.control(Control::RollBack).await
    }

    async fn control(&mut self, control: Control) -> Result<(), Error> {
        self.state = State::Unknown;
        let done = self.connection()?.control(control).await;
        done.map_err(|error| explain(&error))?;
        self.state = match control {
            Control::Commit | Control::RollBack => State::Clean,
            Control::Begin | Control::Mark | Control::Undo | Control::Unmark => State::Transaction,
        };
        Ok(())
    }

    /// Brings what the log has into the database, and empties it. Nobody may read meanwhile.
    pub(super) async fn work_off_log(&mut self) -> Result<(), Error> {
        self.state = State::Unknown;
        let done = self.connection()?.work_off_log().await;
        done.map_err(|error| explain(&error))?;
        self.state = State::Clean;
        Ok(())
    }

    /// Whether nobody has put anything into the database.
    pub(super) async fn has_no_tables(&mut self) -> bool {
        match self.connection() {
            Ok(connection) => connection.has_no_tables().await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// Whether the transaction that was begun is still open. SQLite ends it by itself after some errors.
    pub(super) fn is_in_transaction(&self) -> bool {
        self.state == State::Transaction
    }

    fn enter(
        &mut self,
        deadline: Instant,
        allowance: &Allowance,
    ) -> Result<&mut Connection, Error> {
        let cpu_left = allowance.cpu_left();
        if Instant::now() >= deadline || cpu_left.is_zero() {
            return Err(timeout());
        }
        self.state = State::Unknown;
        let connection = self.connection()?;
        connection
            .guard()
            .restrict(Rights::Guest, deadline, Some(cpu_left));
        Ok(connection)
    }

    /// After a statement: knows again in which state the connection is.
    async fn leave<T>(&mut self, before: State, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_ok() {
            self.state = before;
        } else if before == State::Transaction {
            let settled = timeout_at(Instant::now() + GRACE, self.connection()?.settle()).await;
            self.state = match settled {
                Ok(Ok(true)) => State::Transaction,
                Ok(Ok(false)) => State::Clean,
                Ok(Err(_)) | Err(_) => State::Unknown,
            };
        }
        result
    }

    fn connection(&mut self) -> Result<&mut Connection, Error> {
        self.connection.as_mut().ok_or_else(closed)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if self.state == State::Clean {
            self.pool.give_back(connection, self.generation);
            return;
        }
        connection.guard().interrupt();
        // Without a runtime the connection is closed, which rolls back too.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let (pool, generation, permit) = (self.pool.clone(), self.generation, self.permit.take());
        runtime.spawn(async move {
            let is_clean = match connection.settle().await {
                Ok(true) => connection.control(Control::RollBack).await.is_ok(),
                Ok(false) => true,
                Err(_) => false,
            };
            if is_clean {
                pool.give_back(connection, generation);
            }
            // The next one may come only now that the connection is clean.
            drop(permit);
        });
    }
}

fn closed() -> Error {
    Error::new(
        Kind::Unavailable,
        "sql.closed",
        "the database has been closed",
    )
}
