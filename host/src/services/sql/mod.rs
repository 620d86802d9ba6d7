//! A database of its own for each plugin and label: one writer, many readers, limits on everything a statement can
//! take. Who may open which database is decided by the caller.
//!
//! Today every database is a SQLite file. The public types say nothing of that, so that Postgres can stand behind them.
//! Work per process: none. Per deployment: migrations. Per call: a statement on a connection that is open already.

mod database;
mod functions;
pub mod host;
mod migrations;
mod pool;
mod sandbox;
mod statement;
mod store;
mod temp;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::ids::{Label, PluginName};
use crate::services::{Error, Kind, Quota};
use database::Inner;
pub use database::{Database, Transaction};
pub use migrations::{MigrateError, Migration};
use pool::Share;

/// What plugins may take of their databases.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Statements that may read one database at the same time. Default: 4.
    pub readers: u32,
    /// Databases that are open at the same time. Default: 64.
    pub databases_open_max: usize,
    /// Of those, most of one plugin. Default: 8.
    pub databases_per_plugin_max: usize,
    /// Statements of one plugin that run at the same time; the others wait. Each keeps a thread busy. Default: 4.
    pub statements_per_plugin_max: usize,
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
    /// Length of a database's log (`-wal`) at which a write waits for those who read, so that it can be emptied. One
    /// transaction may go beyond it. Default: 256 MiB.
    pub wal_bytes_max: u64,
    /// Most memory that all databases together, the host's own included, take for pages, rows and values. A statement
    /// that would need more fails. At a quarter of it, pages that nobody reads now are given back. Default: 1 GiB.
    pub memory_bytes_max: u64,
    /// Most bytes that statements of one plugin keep in temporary files: for sorting, and for what does not fit into
    /// memory. Default: 256 MiB.
    pub temp_bytes_per_plugin_max: usize,
    /// The same for all plugins together. Default: 1 GiB.
    pub temp_bytes_max: usize,
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
            databases_per_plugin_max: 8,
            statements_per_plugin_max: 4,
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
            wal_bytes_max: 256 << 20,
            memory_bytes_max: 1 << 30,
            temp_bytes_per_plugin_max: 256 << 20,
            temp_bytes_max: 1 << 30,
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

impl Value {
    /// What it takes in memory.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Text(text) => text.len(),
                Self::Blob(bytes) => bytes.len(),
                Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Real(_) => 0,
            }
    }
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
    temp: Quota,
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
            temp: Quota::new(config.temp_bytes_max),
            config: Arc::new(config),
            open: Mutex::default(),
        }))
    }

    /// The database of a plugin. Touches no file; keep it as long as the caller works with it. `unavailable` if too
    /// many databases are in use, of this plugin or of all.
    pub fn open(&self, plugin: &PluginName, label: &Label) -> Result<Database, Error> {
        let config = &self.0.config;
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, used_at) = ((plugin.clone(), label.clone()), Instant::now());
        if let Some(open) = open.get_mut(&key) {
            open.used_at = used_at;
            return Ok(open.database.clone());
        }
        let of_plugin = |key: &(PluginName, Label)| key.0 == *plugin;
        // In this order: a plugin with many databases makes room among its own.
        if open.keys().filter(|key| of_plugin(key)).count() >= config.databases_per_plugin_max {
            forget_unused(&mut open, of_plugin)?;
        }
        if open.len() >= config.databases_open_max {
            forget_unused(&mut open, |_| true)?;
        }
        let share = open.iter().find(|(key, _)| of_plugin(key));
        let share = share.map(|(_, open)| open.database.0.share.clone());
        let share = share.unwrap_or_else(|| {
            let temp = self.0.temp.part(config.temp_bytes_per_plugin_max);
            let folder = self.0.folder.join(temp::FOLDER);
            Arc::new(Share::new(config, folder, temp))
        });
        let file = self
            .0
            .folder
            .join(plugin.as_str())
            .join(format!("{label}.db"));
        let database = Database(Arc::new(Inner::new(file, config.clone(), share)));
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
        let was_there = database.0.file.exists();
        let result = migrations::apply(&database.0, migrations).await;
        if result.is_err() && !was_there && database.0.has_no_tables().await {
            self.remove_new(plugin, label, &database).await;
        }
        result
    }

    /// Removes a database that nobody could have used yet. What stays behind in case of a failure is empty.
    async fn remove_new(&self, plugin: &PluginName, label: &Label, database: &Database) {
        {
            let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.remove(&(plugin.clone(), label.clone()));
        }
        database.0.close().await;
        let file = database.0.file.as_os_str();
        for end in ["", "-wal", "-shm"] {
            let mut file = file.to_owned();
            file.push(end);
            let _ = tokio::fs::remove_file(&file).await;
        }
        // Not if there are others.
        let _ = tokio::fs::remove_dir(self.0.folder.join(plugin.as_str())).await;
    }

    /// Whether a plugin has databases.
    pub async fn has_any(&self, plugin: &PluginName) -> bool {
        let folder = self.0.folder.join(plugin.as_str());
        tokio::fs::try_exists(folder).await.unwrap_or(true)
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

/// Closes the database among these that nobody has used for longest.
fn forget_unused(
    open: &mut HashMap<(PluginName, Label), Open>,
    among: impl Fn(&(PluginName, Label)) -> bool,
) -> Result<(), Error> {
    let unused = open
        .iter()
        .filter(|(key, open)| among(key) && !open.is_in_use());
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
    Ok(())
}

impl Open {
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.database.0) > 1
    }
}
