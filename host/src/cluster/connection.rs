//! The connection: made at the start, used by everybody at once, made again when it is lost. While there is none, commands
//! fail at once, so that nobody waits for a server that is gone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    TlsCertificates, aio::MultiplexedConnection,
};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::cluster::Config;
use crate::cluster::metrics::Metrics;

/// How often a server that nobody asks is asked whether it is there.
const CHECK: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Why a command has no answer, or there is no connection at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`cluster.redis_url` or the files beside it cannot be used: {0}")]
    Settings(String),

    #[error("the shared server cannot be reached")]
    Unreachable,

    #[error("the shared server has not answered within {limit_ms} ms")]
    TimedOut { limit_ms: u64 },

    #[error("{limit} commands to the shared server are waiting already")]
    Busy { limit: usize },

    /// It answered, and not with what was asked for.
    #[error("the shared server refused: {0}")]
    Refused(String),
}

/// A program that runs on the shared server, in one step for everybody else.
#[derive(Debug)]
pub struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    /// A script in Lua. Costs a hash: make it once.
    pub fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }
}

/// The shared server. A copy uses the same connection.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    client: Client,
    config: Config,
    /// `HOST:PORT/DATABASE`, for people.
    name: String,
    connection: ArcSwapOption<MultiplexedConnection>,
    lost: Notify,
    places: Semaphore,
    metrics: Metrics,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({})", self.0.name)
    }
}

impl Cluster {
    /// Connects to the server of these settings; nothing if they name none. A server that cannot be reached now is one that
    /// may be reached later, as long as [`Cluster::run`] runs.
    pub async fn open(
        config: &Config,
        registry: &prometheus::Registry,
    ) -> Result<Option<Self>, Error> {
        if !config.is_on() {
            return Ok(None);
        }
        let client = client(config)?;
        let settings = |error: prometheus::Error| Error::Settings(error.to_string());
        let address = client.get_connection_info();
        let name = format!("{}/{}", address.addr(), address.redis_settings().db());
        let cluster = Self(Arc::new(Shared {
            client,
            config: config.clone(),
            name,
            connection: ArcSwapOption::empty(),
            lost: Notify::new(),
            places: Semaphore::new(config.in_flight_max),
            metrics: Metrics::register(registry).map_err(settings)?,
        }));
        if let Err(reason) = cluster.connect().await {
            let name = &cluster.0.name;
            tracing::warn!(error.cause = %reason, "The shared server {name} cannot be reached; it is tried again");
        }
        Ok(Some(cluster))
    }

    /// Keeps the connection, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let shared = &*self.0;
        let retry_max = Duration::from_millis(shared.config.retry_max_ms);
        let mut pause = RETRY_FIRST.min(retry_max);
        loop {
            let is_there = self.is_reachable() || self.connect().await.is_ok();
            let rest = if is_there {
                pause = RETRY_FIRST.min(retry_max);
                CHECK
            } else {
                // Not all hosts at the same instant.
                let rest = pause.mul_f64(rand::random_range(0.5..1.0));
                pause = (pause * 2).min(retry_max);
                rest
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = shared.lost.notified(), if is_there => {}
                () = tokio::time::sleep(rest) => {
                    if is_there {
                        // What comes of it shows in the connection.
                        let _ = self.query::<()>(&redis::cmd("PING")).await;
                    }
                }
            }
        }
    }

    /// Whether there is a connection, as far as the last command knows.
    pub fn is_reachable(&self) -> bool {
        self.0.connection.load().is_some()
    }

    /// The name that a key has on the server: `PREFIX:REST`. Keys that one script uses have the same part in braces.
    pub fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.0.config.prefix)
    }

    /// What names of keys begin with.
    pub fn prefix(&self) -> &str {
        &self.0.config.prefix
    }

    /// Asks the server. Fails at once if it is known to be unreachable; takes no longer than the settings say.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let result = self.ask(command).await?;
        result.map_err(|error| Error::Refused(error.to_string()))
    }

    /// Runs a script with these keys; `arguments` adds the rest. The server is sent the script itself only if it does not
    /// know it.
    pub async fn run_script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: impl Fn(&mut Cmd),
    ) -> Result<T, Error> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.hash).arg(keys.len()).arg(keys);
        arguments(&mut command);
        let error = match self.ask(&command).await? {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::Server(ServerErrorKind::NoScript) {
            return Err(Error::Refused(error.to_string()));
        }
        // A server that has just started, or whose scripts were flushed. It did nothing yet, and remembers this one.
        let mut command = redis::cmd("EVAL");
        command.arg(script.code).arg(keys.len()).arg(keys);
        arguments(&mut command);
        self.query(&command).await
    }

    /// The inner error is an answer of the server.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<Result<T, RedisError>, Error> {
        let shared = &*self.0;
        let metrics = &shared.metrics;
        let Some(connection) = shared.connection.load_full() else {
            metrics.unreachable.inc();
            return Err(Error::Unreachable);
        };
        let Ok(_place) = shared.places.try_acquire() else {
            metrics.busy.inc();
            let limit = shared.config.in_flight_max;
            return Err(Error::Busy { limit });
        };
        let began = Instant::now();
        let limit_ms = shared.config.command_timeout_ms;
        let mut own = MultiplexedConnection::clone(&connection);
        let answer = command.query_async(&mut own);
        match tokio::time::timeout(Duration::from_millis(limit_ms), answer).await {
            Ok(Ok(answer)) => {
                metrics.answered(began.elapsed());
                Ok(Ok(answer))
            }
            Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                metrics.unreachable.inc();
                self.lose(connection, &error.to_string());
                Err(Error::Unreachable)
            }
            Ok(Err(error)) => {
                metrics.refused.inc();
                Ok(Err(error))
            }
            Err(_) => {
                metrics.timed_out.inc();
                let error = Error::TimedOut { limit_ms };
                self.lose(connection, &error.to_string());
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<(), String> {
        let shared = &*self.0;
        let limit = Duration::from_millis(shared.config.connect_timeout_ms);
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            // Each command has a limit of its own here.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(shared.config.in_flight_max);
        let attempt = async {
            let client = &shared.client;
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&settings)
                .await?;
            // A server that is still loading takes connections and answers nothing.
            let () = redis::cmd("PING").query_async(&mut connection).await?;
            Ok::<_, RedisError>(connection)
        };
        let connection = tokio::time::timeout(limit, attempt).await;
        let connection = connection
            .map_err(|_| format!("it has not answered within {} ms", limit.as_millis()))?
            .map_err(|error| error.to_string())?;
        shared.connection.store(Some(Arc::new(connection)));
        shared.metrics.is_reachable.set(1);
        shared.metrics.connections.inc();
        tracing::info!("The shared server {} can be reached", shared.name);
        Ok(())
    }

    /// Lets go of a connection, unless there is another one already.
    fn lose(&self, connection: Arc<MultiplexedConnection>, reason: &str) {
        let shared = &*self.0;
        let connection = Some(connection);
        let found = shared.connection.compare_and_swap(&connection, None);
        let was_it = match (&*found, &connection) {
            (Some(found), Some(connection)) => Arc::ptr_eq(found, connection),
            _ => false,
        };
        if was_it {
            shared.metrics.is_reachable.set(0);
            let name = &shared.name;
            tracing::warn!(error.cause = %reason, "The shared server {name} is lost; it is tried again");
            shared.lost.notify_one();
        }
    }
}

fn client(config: &Config) -> Result<Client, Error> {
    // The library's own words about an address could hold the password.
    let address = config
        .whole_address()
        .map_err(|error| Error::Settings(error.to_string()))?;
    let unfit = |_| Error::Settings("it is no address of a server".to_owned());
    let Some(file) = &config.ca_file else {
        return Client::open(address.as_str()).map_err(unfit);
    };
    let unreadable = |error| Error::Settings(format!("{}: {error}", file.display()));
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: Some(std::fs::read(file).map_err(unreadable)?),
    };
    Client::build_with_tls(address.as_str(), certificates)
        .map_err(|_| Error::Settings(format!("{} has no certificates (PEM)", file.display())))
}
