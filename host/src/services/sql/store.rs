//! One SQLite connection to a plugin's database, and the SQL that the host itself runs there.

use std::{path::Path, sync::Arc};

use futures_util::StreamExt as _;
use sqlx::{
    Arguments as _, AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Decode,
    Executor as _, Row as _, SqlSafeStr as _, Sqlite, SqliteConnection, Statement as _,
    TypeInfo as _, ValueRef as _,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous,
    },
};
use tokio::time::Instant;

use super::{
    Config, RowSet, RunResult, Synchronous, Value,
    pool::Share,
    sandbox::{self, Charge, Guard, Rights},
    temp::{self, Spill},
};
use crate::services::{Allowance, Error, Kind};

/// Longer statements are compiled each time, so that the prepared ones stay small.
const PREPARED_BYTES_MAX: usize = 8 << 10;
/// Rows that SQLite may be ahead of us.
const ROWS_AHEAD: usize = 16;
/// What a value costs beside its text or bytes.
const VALUE_BYTES: usize = 16;
const PAGE_BYTES: u64 = 4096;
/// The log file is cut to this when it has been worked off.
const LOG_BYTES_KEPT: u64 = 64 << 20;

/// What a connection is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Reading,
    Writing,
    Migrating,
}

/// What begins, ends or divides a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// Takes the right to write at once, so that a transaction does not find out later that it cannot.
    Begin,
    Commit,
    RollBack,
    /// Remembers a moment within a transaction.
    Mark,
    /// Goes back to it.
    Undo,
    /// Forgets it.
    Unmark,
}

impl Control {
    fn as_sql(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN IMMEDIATE",
            Self::Commit => "COMMIT",
            Self::RollBack => "ROLLBACK",
            Self::Mark => "SAVEPOINT _gantry_mark",
            Self::Undo => "ROLLBACK TO _gantry_mark",
            Self::Unmark => "RELEASE _gantry_mark",
        }
    }
}

/// A migration that has run in this database.
pub(super) struct Applied {
    pub(super) version: i64,
    pub(super) checksum: String,
}

pub(super) struct Connection {
    sqlite: SqliteConnection,
    guard: Arc<Guard>,
}

impl Connection {
    pub(super) async fn open(
        file: &Path,
        purpose: Purpose,
        config: &Config,
        share: &Share,
    ) -> Result<Self, sqlx::Error> {
        let pages_max = (config.database_bytes_max / PAGE_BYTES).max(1);
        let synchronous = match config.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
        };
        let mut options = SqliteConnectOptions::new()
            .filename(file)
            .vfs(temp::files())
            .row_buffer_size(ROWS_AHEAD)
            .busy_timeout(std::time::Duration::from_millis(config.wait_ms))
            // A migration rebuilds tables; it is checked as a whole before it is committed.
            .foreign_keys(purpose != Purpose::Migrating)
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            .disable_statement_logging();
        if purpose == Purpose::Reading {
            options = options.read_only(true).pragma("query_only", "ON");
        } else {
            options = options
                .create_if_missing(true)
                .page_size(u32::try_from(PAGE_BYTES).unwrap_or(4096))
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(synchronous)
                .pragma("journal_size_limit", LOG_BYTES_KEPT.to_string())
                .pragma("max_page_count", pages_max.to_string());
        }
        let mut sqlite = options.connect().await?;
        let guard = Guard::new(Spill::new(share.temp_folder.clone(), share.temp.clone()));
        sandbox::install(&mut sqlite.lock_handle().await?, &guard, config);
        // Lets the guard meet the thread on which SQLite works from now on.
        sqlx::query("SELECT 1").execute(&mut sqlite).await?;
        Ok(Self { sqlite, guard })
    }

    /// Charges the processor time of this connection to a call, until the result is dropped.
    pub(super) fn charge(&self, allowance: &Allowance) -> Charge {
        Charge::begin(self.guard.clone(), allowance.clone())
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Runs a statement of the plugin for its rows. Stops reading when there are too many.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        params: Vec<Value>,
        config: &Config,
        allowance: &Allowance,
    ) -> Result<RowSet, Error> {
        let _charge = self.charge(allowance);
        // What the last answer took is the guest's by now.
        allowance.answer(None);
        let mut held = allowance.hold(0)?;
        let guard = self.guard.clone();
        let mut columns = Vec::new();
        let mut rows: Vec<Vec<Value>> = Vec::new();
        let mut bytes = 0;
        let mut results = query(sql, params)?.fetch(&mut self.sqlite);
        while let Some(result) = results.next().await {
            let row = result.map_err(|error| guard.explain(&error))?;
            if rows.is_empty() {
                columns = row
                    .columns()
                    .iter()
                    .map(|column| column.name().to_owned())
                    .collect();
            }
            if rows.len() == config.rows_max {
                let message = format!("the result has more than {} rows", config.rows_max);
                return Err(Error::limit("sql.too_many_rows", message));
            }
            let row = read(&row, &mut bytes, config.result_bytes_max)?;
            held.grow(size_of_val(&row) + row.iter().map(Value::bytes).sum::<usize>())?;
            rows.push(row);
        }
        drop(results);
        if rows.is_empty() {
            // Only a row brings its columns along. The statement is in the cache, so this costs little.
            let statement = self.sqlite.prepare(AssertSqlSafe(sql).into_sql_str()).await;
            let statement = statement.map_err(|error| explain(&error))?;
            columns = statement
                .columns()
                .iter()
                .map(|column| column.name().to_owned())
                .collect();
        }
        allowance.answer(Some(held));
        allowance.count_rows(rows.len() as u64, 0);
        Ok(RowSet { columns, rows })
    }

    /// Runs a statement of the plugin for its effect.
    pub(super) async fn execute(
        &mut self,
        sql: &str,
        params: Vec<Value>,
        allowance: &Allowance,
    ) -> Result<RunResult, Error> {
        let _charge = self.charge(allowance);
        let result = query(sql, params)?.execute(&mut self.sqlite).await;
        let result = result.map_err(|error| self.guard.explain(&error))?;
        let id = result.last_insert_rowid();
        let rows_affected = result.rows_affected();
        allowance.count_rows(0, rows_affected);
        let last_insert_id = (rows_affected > 0 && id != 0).then_some(id);
        Ok(RunResult {
            rows_affected,
            last_insert_id,
        })
    }

    pub(super) async fn control(&mut self, control: Control) -> Result<(), sqlx::Error> {
        self.run(control.as_sql()).await
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        self.guard.release();
        sqlx::query(sql).execute(&mut self.sqlite).await.map(drop)
    }

    /// Brings what the log has into the database, and empties it.
    pub(super) async fn work_off_log(&mut self) -> Result<(), sqlx::Error> {
        self.run("PRAGMA wal_checkpoint(TRUNCATE)").await
    }

    /// Whether there is no table yet, except for our own.
    pub(super) async fn has_no_tables(&mut self) -> Result<bool, sqlx::Error> {
        self.guard.release();
        let sql =
            "SELECT 1 FROM sqlite_schema WHERE name NOT LIKE '%\\_gantry\\_%' ESCAPE '\\' LIMIT 1";
        let row = sqlx::query(sql).fetch_optional(&mut self.sqlite).await?;
        Ok(row.is_none())
    }

    /// Stops what is still under way and says whether a transaction is open.
    pub(super) async fn settle(&mut self) -> Result<bool, sqlx::Error> {
        self.guard.interrupt();
        // The lock is given only when the statement has ended.
        let mut handle = self.sqlite.lock_handle().await?;
        Ok(sandbox::is_in_transaction(&mut handle))
    }

    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        self.guard.release();
        self.sqlite.close().await
    }

    /// The migrations that have run in this database, in their order.
    pub(super) async fn applied_migrations(&mut self) -> Result<Vec<Applied>, sqlx::Error> {
        self.run(
            "CREATE TABLE IF NOT EXISTS _gantry_migrations (
                 version BIGINT NOT NULL PRIMARY KEY,
                 name TEXT NOT NULL,
                 checksum TEXT NOT NULL,
                 applied_at BIGINT NOT NULL
             )",
        )
        .await?;
        let sql = "SELECT version, checksum FROM _gantry_migrations ORDER BY version";
        let rows = sqlx::query(sql).fetch_all(&mut self.sqlite).await?;
        let applied = |row: &SqliteRow| {
            Ok(Applied {
                version: row.try_get("version")?,
                checksum: row.try_get("checksum")?,
            })
        };
        rows.iter().map(applied).collect()
    }

    pub(super) async fn record_migration(
        &mut self,
        version: i64,
        name: &str,
        checksum: &str,
        now_ms: i64,
    ) -> Result<(), sqlx::Error> {
        self.guard.release();
        sqlx::query(
            "INSERT INTO _gantry_migrations (version, name, checksum, applied_at)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(version)
        .bind(name)
        .bind(checksum)
        .bind(now_ms)
        .execute(&mut self.sqlite)
        .await
        .map(drop)
    }

    /// Runs one statement of a migration.
    pub(super) async fn run_migration(&mut self, sql: &str, until: Instant) -> Result<(), Error> {
        self.guard.restrict(Rights::Migration, until, None);
        // Not prepared for later: it runs once, and with rights that later statements do not have.
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        statement
            .execute(&mut self.sqlite)
            .await
            .map(drop)
            .map_err(|error| self.guard.explain(&error))
    }

    /// The first table whose rows refer to rows that are not there.
    pub(super) async fn broken_reference(&mut self) -> Result<Option<String>, sqlx::Error> {
        self.guard.release();
        let row = sqlx::query("PRAGMA foreign_key_check")
            .fetch_optional(&mut self.sqlite)
            .await?;
        row.map(|row| row.try_get(0)).transpose()
    }
}

type Query = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

fn query(sql: &str, params: Vec<Value>) -> Result<Query, Error> {
    let mut arguments = SqliteArguments::default();
    for param in params {
        let added = match param {
            Value::Null => arguments.add(None::<i64>),
            Value::Boolean(value) => arguments.add(value),
            Value::Integer(value) => arguments.add(value),
            Value::Real(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Blob(value) => arguments.add(value),
        };
        added.map_err(|error| Error::internal("sql.failed", &error))?;
    }
    let is_short = sql.len() <= PREPARED_BYTES_MAX;
    Ok(sqlx::query_with(AssertSqlSafe(sql.to_owned()), arguments).persistent(is_short))
}

/// The values of a row. `bytes` counts those of the result so far, and stops the reading as soon as there are too many.
fn read(row: &SqliteRow, bytes: &mut usize, bytes_max: usize) -> Result<Vec<Value>, Error> {
    let mut values = Vec::with_capacity(row.len());
    for (index, column) in row.columns().iter().enumerate() {
        let value = row.try_get_raw(index).map_err(|error| explain(&error))?;
        let is_boolean = column.type_info().name() == "BOOLEAN";
        let failed = |error: sqlx::error::BoxDynError| Error::internal("sql.failed", &error);
        let value = match value.type_info().name() {
            _ if value.is_null() => Value::Null,
            "INTEGER" => match <i64 as Decode<Sqlite>>::decode(value).map_err(failed)? {
                // SQLite has no booleans, but it remembers how the column was declared.
                number @ (0 | 1) if is_boolean => Value::Boolean(number == 1),
                number => Value::Integer(number),
            },
            "REAL" => Value::Real(Decode::<Sqlite>::decode(value).map_err(failed)?),
            "TEXT" => Value::Text(Decode::<Sqlite>::decode(value).map_err(|_| {
                let message = format!("the text in column `{}` is not UTF-8", column.name());
                Error::invalid("sql.text_invalid", message)
            })?),
            _ => Value::Blob(Decode::<Sqlite>::decode(value).map_err(failed)?),
        };
        *bytes += size(&value);
        if *bytes > bytes_max {
            let message = format!("the result has more than {bytes_max} bytes");
            return Err(Error::limit("sql.result_too_large", message));
        }
        values.push(value);
    }
    Ok(values)
}

fn size(value: &Value) -> usize {
    let more = match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Boolean(_) | Value::Integer(_) | Value::Real(_) => 0,
    };
    VALUE_BYTES + more
}

/// What the guest is told. SQLite's messages about a statement are about the plugin's own SQL and may be shown; those
/// about files are not.
pub(super) fn explain(error: &sqlx::Error) -> Error {
    let sqlx::Error::Database(database) = error else {
        return Error::internal("sql.failed", error);
    };
    let code = database
        .code()
        .and_then(|code| code.parse::<i32>().ok())
        .unwrap_or(0);
    let message: String = database.message().chars().take(500).collect();
    match (code & 0xff, code) {
        (19, 2067 | 1555 | 2579) => Error::conflict("sql.unique_violation", message),
        (19, 787) => Error::conflict("sql.foreign_key_violation", message),
        (19, 275) => Error::conflict("sql.check_violation", message),
        (19, 1299) => Error::conflict("sql.not_null_violation", message),
        (19, _) => Error::conflict("sql.constraint_violation", message),
        (5 | 6, _) => busy(),
        (9, _) => timeout(),
        (13, _) => Error::limit(
            "sql.database_full",
            "the database has reached its size limit",
        ),
        (18, _) => Error::limit("sql.value_too_large", "a value or row is too large"),
        (8, _) => {
            let message = "`query` only reads; write with `execute` or in a transaction";
            Error::invalid("sql.read_only", message)
        }
        (23, _) => {
            let message = format!("the statement does what is not allowed here: {message}");
            Error::invalid("sql.statement_forbidden", message)
        }
        (7, _) => Error::limit("sql.value_too_large", "the rows or values are too large"),
        // Broken or missing files, failing disks: nothing about the statement.
        (2 | 3 | 10 | 11 | 12 | 14 | 15 | 21 | 26, _) => Error::internal("sql.failed", error),
        _ => Error::invalid("sql.statement_invalid", message),
    }
}

pub(super) fn busy() -> Error {
    let message = "other calls are using the database; try again soon";
    let error = Error::new(Kind::Unavailable, "sql.busy", message);
    Error {
        retry_after_ms: Some(200),
        ..error
    }
}

pub(super) fn timeout() -> Error {
    Error::new(
        Kind::Timeout,
        "sql.timeout",
        "the statement took longer than it may",
    )
}
