//! SQL in tests: SQLite in memory with the feature `testing-sql`; without it every call says how to turn it on.

#[cfg(not(feature = "testing-sql"))]
pub(crate) use absent::{Connection, Transaction};
#[cfg(feature = "testing-sql")]
pub(crate) use sqlite::{Connection, Database, Transaction, database};

#[cfg(not(feature = "testing-sql"))]
mod absent {
    #![expect(
        clippy::needless_pass_by_value,
        reason = "as the generated functions take the handle"
    )]

    use super::super::{Error, detail};
    use crate::sql::{RowSet, RunResult, Value};

    pub(crate) enum Connection {}
    pub(crate) enum Transaction {}

    // As the real handle, so that code that minds the drop meets no other rules here.
    impl Drop for Transaction {
        fn drop(&mut self) {}
    }

    impl Connection {
        pub(crate) fn open(_label: &str) -> Result<Self, Error> {
            let message = "turn on the feature `testing-sql` of gantry-sdk in [dev-dependencies]";
            Err(Error::Unavailable(detail("sql.not_in_tests", message)))
        }

        pub(crate) fn query(&self, _sql: &str, _params: &[Value]) -> Result<RowSet, Error> {
            match *self {}
        }

        pub(crate) fn execute(&self, _sql: &str, _params: &[Value]) -> Result<RunResult, Error> {
            match *self {}
        }

        pub(crate) fn begin(&self) -> Result<Transaction, Error> {
            match *self {}
        }
    }

    impl Transaction {
        pub(crate) fn query(&self, _sql: &str, _params: &[Value]) -> Result<RowSet, Error> {
            match *self {}
        }

        pub(crate) fn execute(&self, _sql: &str, _params: &[Value]) -> Result<RunResult, Error> {
            match *self {}
        }

        pub(crate) fn commit(this: Self) -> Result<(), Error> {
            match this {}
        }

        pub(crate) fn rollback(this: Self) -> Result<(), Error> {
            match this {}
        }
    }
}

#[cfg(feature = "testing-sql")]
mod sqlite {
    #![expect(
        clippy::needless_pass_by_value,
        reason = "as the generated functions take the handle"
    )]

    use std::cell::Cell;
    use std::rc::Rc;

    use rusqlite::types::{Value as SqliteValue, ValueRef};
    use rusqlite::{ErrorCode, ffi};

    use super::super::{Error, check, detail};
    use crate::sql::{RowSet, RunResult, Value};
    use crate::testing::with;

    /// One database in memory. A transaction shares its connection, so reads beside one see its writes; the real
    /// host reads what was committed.
    pub(crate) struct Database {
        connection: rusqlite::Connection,
        is_in_transaction: Cell<bool>,
    }

    pub(crate) struct Connection(Rc<Database>);

    pub(crate) struct Transaction(Rc<Database>);

    /// The database of a label; made when first asked for.
    pub(crate) fn database(label: &str) -> Rc<Database> {
        with(|host| {
            let make = || {
                let connection =
                    rusqlite::Connection::open_in_memory().expect("SQLite opens in memory");
                connection
                    .execute_batch("PRAGMA foreign_keys = ON")
                    .expect("a known setting");
                Rc::new(Database {
                    connection,
                    is_in_transaction: Cell::new(false),
                })
            };
            Rc::clone(host.databases.entry(label.to_owned()).or_insert_with(make))
        })
    }

    impl Database {
        pub(crate) fn run_batch(&self, statements: &str) {
            if let Err(error) = self.connection.execute_batch(statements) {
                panic!("the migration fails: {error}");
            }
        }

        fn query(&self, sql: &str, params: &[Value]) -> Result<RowSet, Error> {
            check("sql.query")?;
            refuse(sql, params)?;
            let run = || -> rusqlite::Result<RowSet> {
                let mut statement = self.connection.prepare(sql)?;
                let columns: Vec<String> = statement
                    .column_names()
                    .into_iter()
                    .map(str::to_owned)
                    .collect();
                bind(&mut statement, params)?;
                let mut found = statement.raw_query();
                let mut rows = Vec::new();
                while let Some(row) = found.next()? {
                    let cells: rusqlite::Result<Vec<_>> = (0..columns.len())
                        .map(|at| row.get_ref(at).map(from_sqlite))
                        .collect();
                    rows.push(cells?);
                }
                Ok(RowSet { columns, rows })
            };
            run().map_err(|error| translate(&error))
        }

        fn execute(&self, sql: &str, params: &[Value]) -> Result<RunResult, Error> {
            check("sql.execute")?;
            refuse(sql, params)?;
            let run = || -> rusqlite::Result<usize> {
                let mut statement = self.connection.prepare(sql)?;
                bind(&mut statement, params)?;
                statement.raw_execute()
            };
            let rows_affected = run().map_err(|error| translate(&error))?;
            Ok(RunResult {
                rows_affected: u64::try_from(rows_affected).unwrap_or(u64::MAX),
                last_insert_id: Some(self.connection.last_insert_rowid()).filter(|id| *id != 0),
            })
        }

        fn end(&self, statement: &str) -> Result<(), Error> {
            self.is_in_transaction.set(false);
            self.connection
                .execute_batch(statement)
                .map_err(|error| translate(&error))
        }
    }

    impl Connection {
        pub(crate) fn open(label: &str) -> Result<Self, Error> {
            check("sql.open")?;
            Ok(Self(database(label)))
        }

        pub(crate) fn query(&self, sql: &str, params: &[Value]) -> Result<RowSet, Error> {
            self.0.query(sql, params)
        }

        pub(crate) fn execute(&self, sql: &str, params: &[Value]) -> Result<RunResult, Error> {
            self.wait_for_writer()?;
            self.0.execute(sql, params)
        }

        pub(crate) fn begin(&self) -> Result<Transaction, Error> {
            check("sql.begin")?;
            self.wait_for_writer()?;
            let begun = self.0.connection.execute_batch("BEGIN IMMEDIATE");
            begun.map_err(|error| translate(&error))?;
            self.0.is_in_transaction.set(true);
            Ok(Transaction(Rc::clone(&self.0)))
        }

        /// A plugin that waits for its own transaction waits until the deadline.
        fn wait_for_writer(&self) -> Result<(), Error> {
            if self.0.is_in_transaction.get() {
                let message = "this call's own transaction is open: it would wait for itself";
                return Err(Error::Timeout(detail("sql.busy", message)));
            }
            Ok(())
        }
    }

    impl Transaction {
        pub(crate) fn query(&self, sql: &str, params: &[Value]) -> Result<RowSet, Error> {
            self.0.query(sql, params)
        }

        pub(crate) fn execute(&self, sql: &str, params: &[Value]) -> Result<RunResult, Error> {
            self.0.execute(sql, params)
        }

        pub(crate) fn commit(this: Self) -> Result<(), Error> {
            check("sql.commit")?;
            this.0.end("COMMIT")
        }

        pub(crate) fn rollback(this: Self) -> Result<(), Error> {
            this.0.end("ROLLBACK")
        }
    }

    impl Drop for Transaction {
        fn drop(&mut self) {
            if self.0.is_in_transaction.get() {
                // A broken connection in memory is of no use to anybody any more.
                let _ = self.0.end("ROLLBACK");
            }
        }
    }

    /// The statements that the host refuses, by their first word, and the parameters that it refuses.
    fn refuse(sql: &str, params: &[Value]) -> Result<(), Error> {
        const REFUSED: &[&str] = &[
            "ATTACH",
            "BEGIN",
            "COMMIT",
            "DETACH",
            "END",
            "PRAGMA",
            "RELEASE",
            "ROLLBACK",
            "SAVEPOINT",
            "VACUUM",
        ];
        let word = sql
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        if REFUSED.contains(&word.as_str()) {
            let message = format!("{word} is not for plugins");
            return Err(Error::Invalid(detail("sql.statement_forbidden", &message)));
        }
        let is_nan = |value: &Value| matches!(value, Value::Real(real) if real.is_nan());
        if params.iter().any(is_nan) {
            let message = "a parameter is no number (NaN)";
            return Err(Error::Invalid(detail("sql.value_invalid", message)));
        }
        Ok(())
    }

    /// `$2` is the second value wherever it stands; SQLite itself would number the names as they appear.
    fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Value]) -> rusqlite::Result<()> {
        for index in 1..=statement.parameter_count() {
            let name = statement.parameter_name(index).unwrap_or_default();
            let number = name
                .strip_prefix('$')
                .and_then(|digits| digits.parse::<usize>().ok());
            let value = params.get(number.unwrap_or(index).wrapping_sub(1));
            let missing = rusqlite::Error::InvalidParameterCount(params.len(), index);
            statement.raw_bind_parameter(index, to_sqlite(value.ok_or(missing)?))?;
        }
        Ok(())
    }

    fn to_sqlite(value: &Value) -> SqliteValue {
        match value {
            Value::Null => SqliteValue::Null,
            Value::Boolean(value) => SqliteValue::Integer((*value).into()),
            Value::Integer(value) => SqliteValue::Integer(*value),
            Value::Real(value) => SqliteValue::Real(*value),
            Value::Text(value) => SqliteValue::Text(value.clone()),
            Value::Blob(value) => SqliteValue::Blob(value.clone()),
        }
    }

    fn from_sqlite(value: ValueRef<'_>) -> Value {
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(value) => Value::Integer(value),
            ValueRef::Real(value) => Value::Real(value),
            ValueRef::Text(value) => Value::Text(String::from_utf8_lossy(value).into_owned()),
            ValueRef::Blob(value) => Value::Blob(value.to_vec()),
        }
    }

    /// In the words of the contract; the same codes as the host's.
    fn translate(error: &rusqlite::Error) -> Error {
        let message = error.to_string();
        let rusqlite::Error::SqliteFailure(failure, _) = error else {
            return Error::Invalid(detail("sql.statement_invalid", &message));
        };
        let code = match failure.extended_code {
            ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => {
                "sql.unique_violation"
            }
            ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "sql.foreign_key_violation",
            ffi::SQLITE_CONSTRAINT_CHECK => "sql.check_violation",
            ffi::SQLITE_CONSTRAINT_NOTNULL => "sql.not_null_violation",
            _ if failure.code == ErrorCode::ConstraintViolation => "sql.constraint_violation",
            _ => return Error::Invalid(detail("sql.statement_invalid", &message)),
        };
        Error::Conflict(detail(code, &message))
    }
}
