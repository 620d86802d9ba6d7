//! The WIT side: `gantry:sql/client`.

use crate::bindings::gantry::sql::client;
use crate::bindings::gantry::types::types;
use crate::bindings::{HasData, Resource, ResourceTable, Result};
use crate::ids::{Label, PluginName};
use crate::services;
use crate::services::Allowance;
use crate::services::Timed;
use crate::services::rehearsal::{Rehearsal, rehearse};
use crate::services::sql::{Database, RowSet, RunResult, Sql, Transaction, Value};
use crate::services::{Refusals, granted};

/// The part of an instance's data that this service sees.
pub struct View<'a> {
    /// Lets calls fail on purpose.
    pub rehearsal: Option<&'a Rehearsal>,
    pub sql: &'a Sql,
    pub plugin: &'a PluginName,
    pub granted: &'a [Label],
    /// Hears of labels that are not granted.
    pub refusals: Refusals<'a>,
    /// What every statement and transaction takes from.
    pub allowance: &'a Allowance,
    pub table: &'a mut ResourceTable,
    /// Times the call of this service until it is dropped.
    pub timed: Timed<'a>,
}

/// Tells the linker which view this service takes.
pub struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

type Guest<T> = Result<std::result::Result<T, types::Error>>;

/// To the guest: its errors in its own words.
fn answer<T, U: From<T>>(result: std::result::Result<T, services::Error>) -> Guest<U> {
    Ok(result.map(U::from).map_err(types::Error::from))
}

impl View<'_> {
    fn database(&self, connection: &Resource<client::Connection>) -> Result<Database> {
        let database: &Database = self.table.get(&Resource::new_borrow(connection.rep()))?;
        Ok(database.clone())
    }

    fn transaction(
        &mut self,
        transaction: &Resource<client::Transaction>,
    ) -> Result<&mut Transaction> {
        Ok(self
            .table
            .get_mut(&Resource::new_borrow(transaction.rep()))?)
    }
}

impl From<client::Value> for Value {
    fn from(value: client::Value) -> Self {
        match value {
            client::Value::Null => Self::Null,
            client::Value::Boolean(value) => Self::Boolean(value),
            client::Value::Integer(value) => Self::Integer(value),
            client::Value::Real(value) => Self::Real(value),
            client::Value::Text(value) => Self::Text(value),
            client::Value::Blob(value) => Self::Blob(value),
        }
    }
}

impl From<Value> for client::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(value) => Self::Boolean(value),
            Value::Integer(value) => Self::Integer(value),
            Value::Real(value) => Self::Real(value),
            Value::Text(value) => Self::Text(value),
            Value::Blob(value) => Self::Blob(value),
        }
    }
}

impl From<RowSet> for client::RowSet {
    fn from(set: RowSet) -> Self {
        let row = |row: Vec<Value>| row.into_iter().map(client::Value::from).collect();
        Self {
            columns: set.columns,
            rows: set.rows.into_iter().map(row).collect(),
        }
    }
}

impl From<RunResult> for client::RunResult {
    fn from(result: RunResult) -> Self {
        Self {
            rows_affected: result.rows_affected,
            last_insert_id: result.last_insert_id,
        }
    }
}

fn values(params: Vec<client::Value>) -> Vec<Value> {
    params.into_iter().map(Value::from).collect()
}

impl client::Host for View<'_> {}

impl client::HostConnection for View<'_> {
    async fn open(&mut self, label: String) -> Guest<Resource<client::Connection>> {
        rehearse!(self, sql.open);
        let label = granted(&label, "sql", self.granted, |label| label, self.refusals);
        let database = label.and_then(|label| self.sql.open(self.plugin, label));
        match database {
            Ok(database) => {
                let connection = self.table.push(database)?;
                Ok(Ok(Resource::new_own(connection.rep())))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn query(
        &mut self,
        this: Resource<client::Connection>,
        sql: String,
        params: Vec<client::Value>,
    ) -> Guest<client::RowSet> {
        rehearse!(self, sql.query);
        let database = self.database(&this)?;
        answer(database.query(&sql, values(params), self.allowance).await)
    }

    async fn execute(
        &mut self,
        this: Resource<client::Connection>,
        sql: String,
        params: Vec<client::Value>,
    ) -> Guest<client::RunResult> {
        rehearse!(self, sql.execute);
        let database = self.database(&this)?;
        answer(database.execute(&sql, values(params), self.allowance).await)
    }

    async fn begin(
        &mut self,
        this: Resource<client::Connection>,
    ) -> Guest<Resource<client::Transaction>> {
        rehearse!(self, sql.begin);
        let database = self.database(&this)?;
        match database.begin(self.allowance).await {
            Ok(transaction) => {
                let transaction = self.table.push(transaction)?;
                Ok(Ok(Resource::new_own(transaction.rep())))
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn drop(&mut self, this: Resource<client::Connection>) -> Result<()> {
        self.table
            .delete(Resource::<Database>::new_own(this.rep()))?;
        Ok(())
    }
}

impl client::HostTransaction for View<'_> {
    async fn query(
        &mut self,
        this: Resource<client::Transaction>,
        sql: String,
        params: Vec<client::Value>,
    ) -> Guest<client::RowSet> {
        rehearse!(self, sql.query);
        answer(self.transaction(&this)?.query(&sql, values(params)).await)
    }

    async fn execute(
        &mut self,
        this: Resource<client::Transaction>,
        sql: String,
        params: Vec<client::Value>,
    ) -> Guest<client::RunResult> {
        rehearse!(self, sql.execute);
        answer(self.transaction(&this)?.execute(&sql, values(params)).await)
    }

    async fn commit(&mut self, this: Resource<client::Transaction>) -> Guest<()> {
        let transaction = self
            .table
            .delete(Resource::<Transaction>::new_own(this.rep()))?;
        rehearse!(self, sql.commit);
        answer(transaction.commit().await)
    }

    async fn rollback(&mut self, this: Resource<client::Transaction>) -> Guest<()> {
        let transaction = self
            .table
            .delete(Resource::<Transaction>::new_own(this.rep()))?;
        rehearse!(self, sql.rollback);
        answer(transaction.rollback().await)
    }

    async fn drop(&mut self, this: Resource<client::Transaction>) -> Result<()> {
        self.table
            .delete(Resource::<Transaction>::new_own(this.rep()))?;
        Ok(())
    }
}
