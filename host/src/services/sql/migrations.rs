//! Brings a plugin's database to the schema that its deployment needs: each migration once, in order, all or nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    database::Inner,
    statement::{self, Part},
    store::{Applied, Connection, Control, Purpose},
};
use crate::db::now_ms;
use crate::ids::Digest;
use crate::services::Error;

/// One step of the schema, as it ships with the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Steps run in ascending order.
    pub version: i64,
    pub name: String,
    /// One or more statements.
    pub sql: String,
}

/// Why a database cannot be brought to the plugin's schema.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("migration {version} `{name}` stands twice or after a later one; number them upwards")]
    NotAscending { version: i64, name: String },
    #[error(
        "migration {version} `{name}` was changed after it had been applied; restore it and add \
         a new migration instead"
    )]
    Changed { version: i64, name: String },
    #[error(
        "migration {version} `{name}` is new but comes before migration {latest}, which has been \
         applied; give it a higher number"
    )]
    TooLate {
        version: i64,
        name: String,
        latest: i64,
    },
    #[error("migration {version} `{name}`, line {line}: {message}")]
    Statement {
        version: i64,
        name: String,
        line: usize,
        message: String,
    },
    #[error(
        "migration {version} `{name}` leaves rows in table `{table}` that refer to rows which are \
         not there"
    )]
    BrokenReference {
        version: i64,
        name: String,
        table: String,
    },
    #[error("the database is in use: {0}")]
    Unreachable(Error),
    #[error("the host failed while migrating the database")]
    Host(#[from] sqlx::Error),
}

/// Applies what has not been applied yet and returns the versions. The database takes no other writer meanwhile.
pub(super) async fn apply(
    database: &Inner,
    migrations: &[Migration],
) -> Result<Vec<i64>, MigrateError> {
    for pair in migrations.windows(2) {
        if pair[0].version >= pair[1].version {
            let Migration { version, name, .. } = pair[1].clone();
            return Err(MigrateError::NotAscending { version, name });
        }
    }
    let until = Instant::now() + Duration::from_millis(database.config.migration_ms_max);
    database
        .ready(until)
        .await
        .map_err(MigrateError::Unreachable)?;
    // Other deployments of the same plugin wait here, and then find that the work is done.
    let lock = database
        .writer
        .lock(until)
        .await
        .map_err(MigrateError::Unreachable)?;
    let mut connection = Connection::open(
        &database.file,
        Purpose::Migrating,
        &database.config,
        &database.share,
    )
    .await?;
    let result = apply_pending(database, &mut connection, migrations, until).await;
    // Closing rolls back what failed.
    connection.close().await?;
    drop(lock);
    result
}

async fn apply_pending(
    database: &Inner,
    connection: &mut Connection,
    migrations: &[Migration],
    until: Instant,
) -> Result<Vec<i64>, MigrateError> {
    let applied = connection.applied_migrations().await?;
    let pending = pending(migrations, &applied)?;
    let mut versions = Vec::new();
    for (migration, parts) in pending {
        let Migration {
            version,
            ref name,
            ref sql,
        } = *migration;
        connection.control(Control::Begin).await?;
        for part in parts {
            connection
                .run_migration(part.sql, until)
                .await
                .map_err(|error| {
                    let (name, line) = (name.clone(), part.line);
                    MigrateError::Statement {
                        version,
                        name,
                        line,
                        message: error.message,
                    }
                })?;
        }
        if let Some(table) = connection.broken_reference().await? {
            return Err(MigrateError::BrokenReference {
                version,
                name: name.clone(),
                table,
            });
        }
        connection
            .record_migration(version, name, &checksum(sql), now_ms())
            .await?;
        // Nobody reads while the schema changes: prepared statements would have the wrong columns.
        let readers = database
            .readers
            .lock(until)
            .await
            .map_err(MigrateError::Unreachable)?;
        connection.control(Control::Commit).await?;
        database.readers.renew();
        database.writer.renew();
        drop(readers);
        versions.push(version);
    }
    Ok(versions)
}

/// What is left to do. Versions that were applied and that this deployment does not know are left alone: an earlier
/// deployment may run on a later schema.
fn pending<'a>(
    migrations: &'a [Migration],
    applied: &[Applied],
) -> Result<Vec<(&'a Migration, Vec<Part<'a>>)>, MigrateError> {
    let latest = applied.last().map_or(i64::MIN, |applied| applied.version);
    let mut pending = Vec::new();
    for migration in migrations {
        let Migration { version, name, sql } = migration;
        match applied.iter().find(|applied| applied.version == *version) {
            Some(applied) if applied.checksum == checksum(sql) => {}
            Some(_) => {
                return Err(MigrateError::Changed {
                    version: *version,
                    name: name.clone(),
                });
            }
            None if *version < latest => {
                let (version, name) = (*version, name.clone());
                return Err(MigrateError::TooLate {
                    version,
                    name,
                    latest,
                });
            }
            None => {
                let parts = statement::split(sql).map_err(|(line, message)| {
                    let (version, name) = (*version, name.clone());
                    MigrateError::Statement {
                        version,
                        name,
                        line,
                        message,
                    }
                })?;
                pending.push((migration, parts));
            }
        }
    }
    Ok(pending)
}

fn checksum(sql: &str) -> String {
    Digest::of(sql.as_bytes()).to_string()
}
