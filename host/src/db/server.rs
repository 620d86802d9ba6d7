//! Rows on a Postgres server: how connections are opened, whose changes follow one another, and how a host shows others
//! that the rows are its.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{AnyConnection, AnyPool, Connection as _, any::AnyPoolOptions, postgres::PgListener};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Config, Error, migrations, watched};

/// Rows whose changes follow one another, on whichever connection they are made: each sees what those before have done. In a
/// file that is so for all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Users, roles, keys, sessions, codes, and the keys that sign access tokens.
    Accounts,
    /// Plugins, deployments, rollouts, grants, and the keys that are trusted.
    Plugins,
    /// What the audit trail writes and removes by itself. Its end is locked by whoever appends.
    Trail,
    /// Secrets of plugins.
    Secrets,
    /// What plugins log.
    Logs,
}

/// The first half of the names of our locks, so that they are not those of another program in the same database.
const LOCKS: i64 = 0x67616e74 << 32;
/// The lock of the host that uses the rows.
const PLACE: i64 = LOCKS;
/// How long a start waits for a host that was there before: its connection may end a moment later than it did.
const PATIENCE: Duration = Duration::from_secs(5);
/// An answer that took longer does not tell what time it is there.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(200);
/// How often a host looks whether the rows are still its.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Rows {
    const ALL: [Self; 5] = [
        Self::Accounts,
        Self::Plugins,
        Self::Trail,
        Self::Secrets,
        Self::Logs,
    ];

    /// The lock that stands for them in the database.
    pub(super) fn lock(self) -> i64 {
        LOCKS + 1 + self as i64
    }
}

/// A Postgres server as this host uses it.
pub(super) struct Server {
    url: Zeroizing<String>,
    /// For each of [`Rows`] the one connection that changes them, so that waiting for it is fair.
    one_by_one: [AnyPool; Rows::ALL.len()],
    /// The connection that shows that this host is here.
    place: Mutex<Option<Place>>,
    is_shared: bool,
    /// Whether the place is held, as far as somebody has looked.
    is_ours: AtomicBool,
    /// Told when the place was lost and is taken again.
    taken_again: Notify,
    /// How long it may take to find out.
    wait: Duration,
    port: u16,
    /// How far its clock is ahead of this machine's, as far as somebody has asked.
    ahead_ms: AtomicI64,
}

/// The connection that holds the lock of a place.
struct Place {
    connection: AnyConnection,
    /// Whether nobody else may come now.
    is_alone: bool,
}

/// Whom a host has met at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// No other host uses the rows.
    Alone,
    /// Others do, and all of them know of it.
    Others,
}

/// Tells when another host may have changed something.
pub struct News {
    server: Option<Arc<Server>>,
    listener: Option<PgListener>,
}

impl News {
    pub(super) fn of(server: Option<Arc<Server>>) -> Self {
        let listener = None;
        Self { server, listener }
    }

    /// Waits until somebody says so, a second at most: what is said may be lost, and what is in the rows is not. A host that
    /// shares its rows with nobody is told when it has taken them again: another one may have been there meanwhile.
    pub async fn next(&mut self) {
        let Some(server) = &self.server else {
            return std::future::pending().await;
        };
        if !server.is_shared {
            return server.taken_again.notified().await;
        }
        if self.listener.is_none() {
            self.listener = server.listen().await.ok();
        }
        let Some(listener) = &mut self.listener else {
            return tokio::time::sleep(LOOK_EVERY).await;
        };
        let heard = tokio::time::timeout(LOOK_EVERY, listener.recv()).await;
        if matches!(heard, Ok(Err(_))) {
            self.listener = None;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl std::fmt::Debug for News {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("News")
    }
}

impl Server {
    pub(super) async fn open(config: &Config) -> Result<Arc<Self>, Error> {
        let file = config.password_file.as_deref();
        let unusable = |source| Error::Address { source };
        let url = config.url.whole(file).map_err(unusable)?;
        let failed = |source| failed(config, source);
        // Not on one of the connections below: bringing the rows up to date may take longer than a statement should.
        let first = AnyPoolOptions::new().max_connections(1).connect(&url);
        let first = first.await.map_err(failed)?;
        migrations::of_postgres().run(&first).await?;
        first.close().await;
        let one = |_| options(1, config, Use::Write).connect_lazy(&url);
        let [a, b, c, d, e] = Rows::ALL.map(one);
        let pools = || -> Result<_, sqlx::Error> { Ok([a?, b?, c?, d?, e?]) };
        Ok(Arc::new(Self {
            one_by_one: pools().map_err(failed)?,
            place: Mutex::default(),
            is_shared: config.shared,
            is_ours: AtomicBool::new(false),
            taken_again: Notify::new(),
            wait: Duration::from_millis(config.wait_ms),
            port: config.port(),
            ahead_ms: AtomicI64::new(0),
            url,
        }))
    }

    pub(super) fn pool(&self, count: u32, config: &Config, to: Use) -> Result<AnyPool, Error> {
        let pool = options(count, config, to).connect_lazy(&self.url);
        pool.map_err(|source| failed(config, source))
    }

    pub(super) fn writer_of(&self, rows: Rows) -> AnyPool {
        self.one_by_one[rows as usize].clone()
    }

    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        let mut listener = PgListener::connect(&self.url).await?;
        watched::watch(self.port).await;
        listener.listen("gantry").await?;
        Ok(listener)
    }

    /// How far the server's clock is ahead of this machine's; nothing if the answer took too long to tell.
    pub(super) async fn clock_ahead_ms(
        &self,
        reader: &AnyPool,
    ) -> Result<Option<i64>, sqlx::Error> {
        let mut connection = reader.acquire().await?;
        let (asked, asked_ms) = (tokio::time::Instant::now(), super::now_ms());
        let query = "SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)";
        let there_ms: i64 = sqlx::query_scalar(query)
            .fetch_one(&mut *connection)
            .await?;
        let took = asked.elapsed();
        if took > ROUND_TRIP_MAX {
            return Ok(None);
        }
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let ahead_ms = there_ms - asked_ms - took_ms / 2;
        self.ahead_ms.store(ahead_ms, Relaxed);
        Ok(Some(ahead_ms))
    }

    /// What was last found of it.
    pub(super) fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Relaxed)
    }

    /// Shows other hosts that this one uses the rows. Nothing if another one does that does not share them.
    pub(super) async fn take_place(&self) -> Result<Option<Company>, sqlx::Error> {
        let began = tokio::time::Instant::now();
        loop {
            let company = self.try_place().await?;
            self.is_ours.store(company.is_some(), Relaxed);
            // One that shares waits for the first one, which does alone what only one may do.
            let patience = PATIENCE * if self.is_shared { 6 } else { 1 };
            if company.is_some() || began.elapsed() > patience {
                return Ok(company);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The place that was taken is as it should be while this host is at work.
    pub(super) async fn settle(&self) -> Result<(), sqlx::Error> {
        let mut place = self.place.lock().await;
        if let (true, Some(place)) = (
            self.is_shared,
            place.as_mut().filter(|place| place.is_alone),
        ) {
            // Only now may others come: what this one did alone is done.
            for query in [
                "SELECT pg_advisory_lock_shared($1)",
                "SELECT pg_advisory_unlock($1)",
            ] {
                let query = sqlx::query(query).bind(PLACE);
                query.execute(&mut place.connection).await?;
            }
            place.is_alone = false;
        }
        Ok(())
    }

    async fn try_place(&self) -> Result<Option<Company>, sqlx::Error> {
        let mut place = self.place.lock().await;
        if let Some(place) = &mut *place {
            let still = sqlx::query("SELECT 1").execute(&mut place.connection).await;
            if still.is_ok() {
                return Ok(Some(Company::Others));
            }
        }
        *place = None;
        let mut connection = AnyConnection::connect(&self.url).await?;
        watched::watch(self.port).await;
        // A host that vanished without a word must not hold the place for hours.
        let settings = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;";
        sqlx::raw_sql(settings).execute(&mut connection).await?;
        let mut tries = vec![("SELECT pg_try_advisory_lock($1)", Company::Alone)];
        if self.is_shared {
            tries.push(("SELECT pg_try_advisory_lock_shared($1)", Company::Others));
        }
        for (query, company) in tries {
            let query = sqlx::query_scalar(query).bind(PLACE);
            if query.fetch_one(&mut connection).await? {
                let is_alone = company == Company::Alone;
                *place = Some(Place {
                    connection,
                    is_alone,
                });
                return Ok(Some(company));
            }
        }
        Ok(None)
    }

    /// Takes the place again when the server was away, until `stop` is cancelled.
    pub(super) async fn keep_place(&self, stop: CancellationToken) {
        let mut is_ours = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let was_ours = is_ours;
            is_ours = match self.try_place_soon().await {
                Ok(Some(Company::Alone)) => {
                    self.taken_again.notify_one();
                    self.settle().await.is_ok()
                }
                Ok(Some(Company::Others)) => true,
                Ok(None) | Err(_) => false,
            };
            self.is_ours.store(is_ours, Relaxed);
            match (was_ours, is_ours) {
                (true, false) => {
                    tracing::error!(
                        "The rows cannot be reached, or another host has taken them; trying again each second"
                    );
                }
                (false, true) => tracing::info!("The rows are this host's again"),
                _ => {}
            }
        }
    }

    /// The same as [`Self::try_place`], for so long at most: a server that does not answer is not there.
    async fn try_place_soon(&self) -> Result<Option<Company>, sqlx::Error> {
        let tried = tokio::time::timeout(self.wait, self.try_place()).await;
        if tried.is_err() {
            // Whatever still comes on this connection is not what the next one asks.
            *self.place.lock().await = None;
        }
        tried.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// How long to wait for what should be there.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Fails if the rows are not this host's now. Waits for nobody.
    pub(super) fn check_place(&self) -> Result<(), sqlx::Error> {
        match self.is_ours.load(Relaxed) {
            true => Ok(()),
            false => Err(sqlx::Error::Io(io::Error::other(
                "the rows are not this host's now",
            ))),
        }
    }

    pub(super) async fn close(&self) {
        for pool in &self.one_by_one {
            pool.close().await;
        }
        if let Some(place) = self.place.lock().await.take() {
            // Whatever became of it, it ends with the process.
            let _ = place.connection.close().await;
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Transactions see what was committed before each of their statements; who must be alone takes a lock.
    Write,
    /// Transactions see one state of the rows.
    Read,
}

pub(super) fn failed(config: &Config, source: sqlx::Error) -> Error {
    Error::Server {
        address: config.url.to_string(),
        source,
    }
}

/// How connections are opened.
pub(super) fn options(connections_max: u32, config: &Config, to: Use) -> AnyPoolOptions {
    let (wait_ms, statement_ms) = (config.wait_ms, config.statement_ms);
    let port = config.port();
    let reading = match to {
        Use::Write => "",
        Use::Read => {
            "SET default_transaction_read_only = on; SET default_transaction_isolation = 'repeatable read';"
        }
    };
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(wait_ms))
        .after_connect(move |connection, _| {
            Box::pin(async move {
                let settings = format!(
                    "SET lock_timeout = {wait_ms}; SET statement_timeout = {statement_ms}; \
                     SET idle_in_transaction_session_timeout = {statement_ms}; {reading}"
                );
                let settings = sqlx::AssertSqlSafe(settings);
                watched::watch(port).await;
                sqlx::raw_sql(settings).execute(connection).await.map(drop)
            })
        })
}
