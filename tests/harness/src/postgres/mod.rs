//! Rows on a real Postgres server: a database for each scene, on one server for all of them, which `cargo xtask test` fetches.

mod server;

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use gantry::config::Config;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;

use crate::guests;

const PATIENCE: Duration = Duration::from_secs(30);

/// An empty database of its own.
pub struct PostgresDatabase {
    name: String,
    port: u16,
}

impl PostgresDatabase {
    /// A new one. Nothing if `cargo xtask test` could not get the server and has said so.
    pub async fn create() -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if guests::is_without("postgres") {
            return None;
        }
        let database = Self {
            name: format!("scene_{}", COUNT.fetch_add(1, Relaxed)),
            port: server::port(&guests::root()),
        };
        let create = format!("CREATE DATABASE {}", database.name);
        let mut connection = connect(&database.url_of("postgres")).await;
        let created = sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection);
        created.await.expect("a new database");
        Some(database)
    }

    /// Where it is, with the password.
    pub fn url(&self) -> String {
        self.url_of(&self.name)
    }

    /// Lets a host keep its rows there.
    pub fn serve(&self, config: &mut Config) {
        config.db.url = self.url().into();
    }

    /// Runs statements on it, past the host.
    pub async fn run(&self, sql: &str) {
        let mut connection = connect(&self.url()).await;
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let done = sqlx::raw_sql(sql).execute(&mut connection).await;
        done.expect("statements that fit");
    }

    /// A transaction that has run statements and goes on until the connection is dropped.
    pub async fn hold(&self, sql: &str) -> PgConnection {
        let mut connection = connect(&self.url()).await;
        let sql = sqlx::AssertSqlSafe(format!("BEGIN; {sql}"));
        let done = sqlx::raw_sql(sql).execute(&mut connection).await;
        done.expect("statements that fit");
        connection
    }

    fn url_of(&self, database: &str) -> String {
        let password = server::PASSWORD;
        format!(
            "postgres://gantry:{password}@127.0.0.1:{}/{database}",
            self.port
        )
    }
}

/// Waits for a server that starts.
async fn connect(url: &str) -> PgConnection {
    let began = Instant::now();
    loop {
        match PgConnection::connect(url).await {
            Ok(connection) => return connection,
            Err(error) => assert!(
                began.elapsed() < PATIENCE,
                "Postgres does not start: {error}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
