//! A database of the plugin's own. Declare its labels in `plugin.toml` (`sql = ["main"]`); the migrations beside the
//! manifest have run before the first call.
//!
//! ```
//! use gantry_sdk::prelude::*;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Table {
//!     id: i64,
//!     name: String,
//!     seats: u32,
//! }
//!
//! fn tables(min: u32) -> Result<Vec<Table>> {
//!     sql::open("main")?.query_as(
//!         "SELECT id, name, seats FROM tables WHERE seats >= $1 ORDER BY name",
//!         params![min],
//!     )
//! }
//!
//! fn book(table: i64, guest: &str) -> Result<i64> {
//!     let db = sql::open("main")?;
//!     let booked = db.transaction(|tx| {
//!         let book = "UPDATE tables SET guest = $2 WHERE id = $1 AND guest IS NULL";
//!         let done = tx.execute(book, params![table, guest])?;
//!         if done.rows_affected == 0 {
//!             return Err(Error::conflict("table.taken", "this table is taken")); // and the transaction is undone
//!         }
//!         tx.execute("INSERT INTO bookings (table_id, guest) VALUES ($1, $2)", params![table, guest])
//!     })?;
//!     booked.last_insert_id.or_404("no id")
//! }
//!
//! fn add(name: &str) -> Result<()> {
//!     match sql::open("main")?.execute("INSERT INTO tables (name) VALUES ($1)", params![name]) {
//!         Err(error) if error.code() == "sql.unique_violation" => {
//!             Err(Error::conflict("table.exists", "there is a table of this name"))
//!         }
//!         result => result.map(|_| ()),
//!     }
//! }
//! # let _ = (tables, book, add);
//! ```

mod row;
mod value;

use serde::de::DeserializeOwned;

use crate::host::sql as host;
use crate::{Error, ErrorKind, Result};

/// What a statement takes and gives, and what it did.
pub use crate::bindings::module::gantry::sql::client::{RowSet, RunResult, Value};
pub use value::Json;

/// Runs statements: a [`Connection`], or a [`Transaction`]. Take `&impl Executor` in functions that serve both.
///
/// A statement has the parameters `$1`, `$2`, …; give them with [`params!`](crate::params). Rows become any type that
/// serde can read: a struct by the names of the columns, a tuple by their order, a plain value if there is one column.
///
/// Statements that leave the database, change its settings or end a transaction (ATTACH, PRAGMA, VACUUM, BEGIN,
/// COMMIT, …) are `invalid`. A broken constraint is `conflict` with the code `sql.unique_violation`,
/// `sql.foreign_key_violation`, `sql.check_violation` or `sql.not_null_violation`.
pub trait Executor {
    /// Reads rows as they are. `limit` if there are more rows or bytes than the host allows.
    fn query(&self, sql: &str, params: Vec<Value>) -> Result<RowSet>;

    /// Writes. On a connection, in a transaction of its own.
    fn execute(&self, sql: &str, params: Vec<Value>) -> Result<RunResult>;

    /// Reads rows as a type.
    fn query_as<T: DeserializeOwned>(&self, sql: &str, params: Vec<Value>) -> Result<Vec<T>> {
        row::read_all(self.query(sql, params)?)
    }

    /// Reads the one row there is; `not-found` with the code `sql.no_row` if there is none.
    fn query_one<T: DeserializeOwned>(&self, sql: &str, params: Vec<Value>) -> Result<T> {
        self.query_optional(sql, params)?.ok_or_else(|| {
            Error::of_kind(ErrorKind::NotFound, "sql.no_row", "there is no such row")
        })
    }

    /// Reads the first row, or nothing.
    fn query_optional<T: DeserializeOwned>(
        &self,
        sql: &str,
        params: Vec<Value>,
    ) -> Result<Option<T>> {
        let mut rows = self.query(sql, params)?;
        rows.rows.truncate(1);
        Ok(row::read_all(rows)?.pop())
    }
}

/// One database.
pub struct Connection(host::Connection);

/// A transaction that may write. Dropped without a commit it is undone; so it is at the deadline of the call.
pub struct Transaction(host::Transaction);

/// Opens a database by its label; `denied` if the label is not declared or not granted.
pub fn open(label: &str) -> Result<Connection> {
    host::Connection::open(label)
        .map(Connection)
        .map_err(Error::service)
}

impl Connection {
    /// Runs the closure in a transaction: commits if it returns `Ok`, undoes everything if it returns `Err`.
    ///
    /// Only one transaction is open at a time in a database, the others wait; so keep calls to other services
    /// out of it.
    pub fn transaction<T>(&self, work: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
        let transaction = self.begin()?;
        match work(&transaction) {
            Ok(value) => transaction.commit().map(|()| value),
            Err(error) => {
                // The error of the closure says more than one of the rollback, which the host does anyway.
                let _ = transaction.rollback();
                Err(error)
            }
        }
    }

    /// Begins a transaction to be ended by hand; [`Connection::transaction`] is usually better.
    pub fn begin(&self) -> Result<Transaction> {
        self.0.begin().map(Transaction).map_err(Error::service)
    }
}

impl Transaction {
    /// Makes all its writes last.
    pub fn commit(self) -> Result<()> {
        host::Transaction::commit(self.0).map_err(Error::service)
    }

    /// Undoes all its writes.
    pub fn rollback(self) -> Result<()> {
        host::Transaction::rollback(self.0).map_err(Error::service)
    }
}

impl Executor for Connection {
    fn query(&self, sql: &str, params: Vec<Value>) -> Result<RowSet> {
        self.0.query(sql, &params).map_err(Error::service)
    }

    fn execute(&self, sql: &str, params: Vec<Value>) -> Result<RunResult> {
        self.0.execute(sql, &params).map_err(Error::service)
    }
}

impl Executor for Transaction {
    fn query(&self, sql: &str, params: Vec<Value>) -> Result<RowSet> {
        self.0.query(sql, &params).map_err(Error::service)
    }

    fn execute(&self, sql: &str, params: Vec<Value>) -> Result<RunResult> {
        self.0.execute(sql, &params).map_err(Error::service)
    }
}

/// The parameters of a statement: `params![id, "text", None::<i64>]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        ::std::vec![$($crate::sql::Value::from($value)),*]
    };
}
