//! The schema of the host's rows, step by step: what is in `migrations`, as part of the executable. Not by the macro of sqlx,
//! which has sqlx and SQLite built a second time, for the compiler.

use rust_embed::RustEmbed;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

#[derive(RustEmbed)]
#[folder = "../migrations/sqlite"]
#[include = "*.sql"]
struct Sqlite;

#[derive(RustEmbed)]
#[folder = "../migrations/postgres"]
#[include = "*.sql"]
struct Postgres;

pub(super) fn of_sqlite() -> Migrator {
    steps::<Sqlite>()
}

pub(super) fn of_postgres() -> Migrator {
    steps::<Postgres>()
}

/// Files are called `NNNN_what_they_bring.sql`; one that begins with `-- no-transaction` runs without one.
fn steps<Files: RustEmbed>() -> Migrator {
    let step = |name: &str| {
        let (version, description) = name.strip_suffix(".sql")?.split_once('_')?;
        let sql = String::from_utf8(Files::get(name)?.data.into_owned()).ok()?;
        let is_apart = sql.starts_with("-- no-transaction");
        Some(Migration::new(
            version.parse().ok()?,
            description.replace('_', " ").into(),
            MigrationType::Simple,
            AssertSqlSafe(sql).into_sql_str(),
            is_apart,
        ))
    };
    Migrator::with_migrations(Files::iter().filter_map(|name| step(&name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_is_missing() {
        for (steps, files) in [
            (of_sqlite(), Sqlite::iter().count()),
            (of_postgres(), Postgres::iter().count()),
        ] {
            let versions: Vec<i64> = steps.iter().map(|step| step.version).collect();
            let wanted: Vec<i64> = (1..).take(files).collect();
            assert!(files > 0);
            assert_eq!(versions, wanted);
        }
    }
}
