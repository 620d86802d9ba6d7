use super::{store::Purpose, *};
use crate::services::Allowance;

/// Databases in a folder of their own.
struct Scene {
    sql: Sql,
    plugin: PluginName,
    label: Label,
    folder: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sql = Sql::new(folder.path().to_owned(), config);
        Self {
            sql,
            plugin: "shop".parse().unwrap(),
            label: "main".parse().unwrap(),
            folder,
        }
    }

    async fn migrate(&self, steps: &[&str]) -> Result<Vec<i64>, MigrateError> {
        let migrations: Vec<Migration> = steps
            .iter()
            .enumerate()
            .map(|(index, sql)| Migration {
                version: index as i64 + 1,
                name: format!("step{index}"),
                sql: (*sql).to_owned(),
            })
            .collect();
        self.sql
            .migrate(&self.plugin, &self.label, &migrations)
            .await
    }

    async fn items(config: Config) -> (Self, Database) {
        let scene = Self::with(config);
        let sql = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE, \
                   count INTEGER NOT NULL DEFAULT 0 CHECK (count >= 0));
                   CREATE TABLE parts (item BIGINT REFERENCES items (id) \
                   DEFERRABLE INITIALLY DEFERRED);";
        scene.migrate(&[sql]).await.unwrap();
        let database = scene.open();
        (scene, database)
    }

    fn open(&self) -> Database {
        self.sql.open(&self.plugin, &self.label).unwrap()
    }
}

/// The allowance of a call that ends soon.
fn soon() -> Allowance {
    until(Duration::from_secs(10), Duration::from_secs(10))
}

fn until(wall: Duration, cpu: Duration) -> Allowance {
    Allowance::new(
        Instant::now() + wall,
        cpu,
        Quota::new(64 << 20),
        Arc::default(),
    )
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

async fn insert(database: &Database, name: &str) -> Result<RunResult, Error> {
    let sql = "INSERT INTO items (name) VALUES ($1)";
    database.execute(sql, vec![text(name)], &soon()).await
}

async fn names(database: &Database) -> Vec<String> {
    let sql = "SELECT name FROM items ORDER BY name";
    let rows = database.query(sql, vec![], &soon()).await.unwrap().rows;
    let name = |row: Vec<Value>| match &row[..] {
        [Value::Text(name)] => name.clone(),
        other => panic!("{other:?}"),
    };
    rows.into_iter().map(name).collect()
}

#[tokio::test]
async fn values_come_back_as_they_were_written() {
    let scene = Scene::start();
    let columns = "i INTEGER, r REAL, t TEXT, b BLOB, yes BOOLEAN, n TEXT";
    scene
        .migrate(&[&format!("CREATE TABLE v ({columns})")])
        .await
        .unwrap();
    let database = scene.open();
    let rows = [
        vec![
            Value::Integer(i64::MIN),
            Value::Real(0.5),
            text("a\u{10ffff}"),
            Value::Blob(vec![0, 255]),
            Value::Boolean(true),
            Value::Null,
        ],
        vec![
            Value::Integer(0),
            Value::Real(-1e300),
            text(""),
            Value::Blob(vec![]),
            Value::Boolean(false),
            Value::Null,
        ],
    ];
    for row in &rows {
        let sql = "INSERT INTO v VALUES ($1, $2, $3, $4, $5, $6)";
        database.execute(sql, row.clone(), &soon()).await.unwrap();
    }
    let found = database
        .query("SELECT * FROM v ORDER BY rowid", vec![], &soon())
        .await
        .unwrap();
    assert_eq!(found.rows, rows);
    assert_eq!(found.columns, ["i", "r", "t", "b", "yes", "n"]);
    let none = database
        .query("SELECT i, r AS x FROM v WHERE 0", vec![], &soon())
        .await
        .unwrap();
    assert_eq!(
        (none.columns, none.rows),
        (vec!["i".to_owned(), "x".to_owned()], vec![])
    );
    let two = database
        .query("SELECT $2, $1", vec![text("a"), text("b")], &soon())
        .await
        .unwrap();
    assert_eq!(two.rows, [[text("b"), text("a")]]);
}

#[tokio::test]
async fn a_write_tells_how_many_rows_and_which_id() {
    let (_scene, database) = Scene::items(Config::default()).await;
    let result = insert(&database, "a").await.unwrap();
    assert_eq!(
        result,
        RunResult {
            rows_affected: 1,
            last_insert_id: Some(1)
        }
    );
    assert_eq!(
        insert(&database, "b").await.unwrap().last_insert_id,
        Some(2)
    );
    let sql = "UPDATE items SET count = 1";
    assert_eq!(
        database
            .execute(sql, vec![], &soon())
            .await
            .unwrap()
            .rows_affected,
        2
    );
    let read = database
        .execute("SELECT * FROM items", vec![], &soon())
        .await
        .unwrap();
    assert_eq!(
        read,
        RunResult {
            rows_affected: 0,
            last_insert_id: None
        }
    );
    let sql = "INSERT INTO items (name) VALUES ('c') RETURNING id, name";
    let returned = database.query(sql, vec![], &soon()).await.unwrap();
    assert_eq!(returned.rows, [[Value::Integer(3), text("c")]]);
    assert_eq!(names(&database).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn broken_constraints_are_conflicts_with_their_code() {
    let (_scene, database) = Scene::items(Config::default()).await;
    insert(&database, "a").await.unwrap();
    for (sql, code) in [
        (
            "INSERT INTO items (name) VALUES ('a')",
            "sql.unique_violation",
        ),
        ("INSERT INTO items (id) VALUES (1)", "sql.unique_violation"),
        (
            "INSERT INTO items (count) VALUES (-1)",
            "sql.check_violation",
        ),
        (
            "INSERT INTO items (count) VALUES (NULL)",
            "sql.not_null_violation",
        ),
        ("INSERT INTO parts VALUES (9)", "sql.foreign_key_violation"),
    ] {
        let error = database.execute(sql, vec![], &soon()).await.unwrap_err();
        assert_eq!((error.kind, &*error.code), (Kind::Conflict, code), "{sql}");
    }
    assert_eq!(names(&database).await, ["a"]);
}

#[tokio::test]
async fn a_transaction_is_seen_by_others_only_once_committed() {
    let (_scene, database) = Scene::items(Config::default()).await;
    let mut transaction = database.begin(&soon()).await.unwrap();
    transaction
        .execute("INSERT INTO items (name) VALUES ('a')", vec![])
        .await
        .unwrap();
    let own = transaction
        .query("SELECT name FROM items", vec![])
        .await
        .unwrap();
    assert_eq!(own.rows, [[text("a")]]);
    assert_eq!(names(&database).await, Vec::<String>::new());
    transaction.commit().await.unwrap();
    assert_eq!(names(&database).await, ["a"]);
    let mut transaction = database.begin(&soon()).await.unwrap();
    transaction
        .execute("DELETE FROM items", vec![])
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    let mut transaction = database.begin(&soon()).await.unwrap();
    transaction
        .execute("DELETE FROM items", vec![])
        .await
        .unwrap();
    drop(transaction);
    insert(&database, "b").await.unwrap();
    assert_eq!(names(&database).await, ["a", "b"]);
}

#[tokio::test]
async fn a_commit_that_breaks_a_deferred_constraint_is_a_conflict_and_keeps_nothing() {
    let (_scene, database) = Scene::items(Config::default()).await;
    let mut transaction = database.begin(&soon()).await.unwrap();
    transaction
        .execute("INSERT INTO parts VALUES (9)", vec![])
        .await
        .unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Conflict, "sql.foreign_key_violation")
    );
    insert(&database, "a").await.unwrap();
    let parts = database
        .query("SELECT * FROM parts", vec![], &soon())
        .await
        .unwrap();
    assert_eq!(parts.rows, Vec::<Vec<Value>>::new());
}

#[tokio::test]
async fn an_error_in_a_transaction_ends_it_only_if_the_database_did() {
    let (_scene, database) = Scene::items(Config::default()).await;
    insert(&database, "a").await.unwrap();
    let mut transaction = database.begin(&soon()).await.unwrap();
    transaction
        .execute("INSERT INTO items (name) VALUES ('b')", vec![])
        .await
        .unwrap();
    let again = "INSERT INTO items (name) VALUES ('a')";
    transaction.execute(again, vec![]).await.unwrap_err();
    transaction
        .query("SELECT nonsense", vec![])
        .await
        .unwrap_err();
    transaction
        .execute("PRAGMA user_version = 1", vec![])
        .await
        .unwrap_err();
    transaction
        .execute("INSERT INTO items (name) VALUES ('c')", vec![])
        .await
        .unwrap();
    let sql = "INSERT OR ROLLBACK INTO items (name) VALUES ('a')";
    transaction.execute(sql, vec![]).await.unwrap_err();
    let sql = "INSERT INTO items (name) VALUES ('d')";
    let error = transaction.execute(sql, vec![]).await.unwrap_err();
    assert_eq!(error.code, "sql.transaction_ended");
    assert_eq!(
        transaction.commit().await.unwrap_err().code,
        "sql.transaction_ended"
    );
    assert_eq!(
        names(&database).await,
        ["a"],
        "nothing ran outside of the transaction"
    );
}

#[tokio::test]
async fn the_next_writer_waits_for_its_turn_and_not_forever() {
    let config = Config {
        wait_ms: 100,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let transaction = database.begin(&soon()).await.unwrap();
    let error = insert(&database, "a").await.unwrap_err();
    assert_eq!((error.kind, &*error.code), (Kind::Unavailable, "sql.busy"));
    assert!(error.retry_after_ms.is_some());
    assert_eq!(
        names(&database).await,
        Vec::<String>::new(),
        "readers do not wait"
    );
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let waiting = tokio::spawn({
        let database = database.clone();
        async move { insert(&database, "b").await }
    });
    tokio::task::yield_now().await;
    transaction.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_transaction_that_outlives_its_time_is_rolled_back_and_the_next_one_writes() {
    let config = Config {
        transaction_ms_max: 50,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let mut transaction = database.begin(&soon()).await.unwrap();
    transaction
        .execute("INSERT INTO items (name) VALUES ('a')", vec![])
        .await
        .unwrap();
    insert(&database, "b").await.unwrap();
    let error = transaction.query("SELECT 1", vec![]).await.unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Timeout, "sql.transaction_expired")
    );
    assert_eq!(
        transaction.commit().await.unwrap_err().code,
        "sql.transaction_expired"
    );
    assert_eq!(names(&database).await, ["b"]);
}

/// Runs until it is stopped.
const FOREVER: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                       SELECT count(*) FROM n";

#[tokio::test]
async fn a_statement_without_end_is_stopped_at_the_deadline() {
    let config = Config {
        readers: 1,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let short = || until(Duration::from_millis(50), Duration::from_secs(10));
    let started = Instant::now();
    let error = database.query(FOREVER, vec![], &short()).await.unwrap_err();
    assert_eq!((error.kind, &*error.code), (Kind::Timeout, "sql.timeout"));
    let sql = format!("INSERT INTO items (count) {FOREVER}");
    assert_eq!(
        database
            .execute(&sql, vec![], &short())
            .await
            .unwrap_err()
            .code,
        "sql.timeout"
    );
    let mut transaction = database.begin(&soon()).await.unwrap();
    transaction
        .execute("INSERT INTO items (name) VALUES ('a')", vec![])
        .await
        .unwrap();
    drop(transaction);
    assert_eq!(names(&database).await, Vec::<String>::new());
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_a_clean_connection_behind() {
    let config = Config {
        readers: 1,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    for _ in 0..3 {
        let call = soon();
        let query = database.query(FOREVER, vec![], &call);
        tokio::time::timeout(Duration::from_millis(20), query)
            .await
            .unwrap_err();
        assert_eq!(names(&database).await, Vec::<String>::new());
        let sql = format!("INSERT INTO items (count) {FOREVER}");
        let mut transaction = database.begin(&soon()).await.unwrap();
        let execute = transaction.execute(&sql, vec![]);
        tokio::time::timeout(Duration::from_millis(20), execute)
            .await
            .unwrap_err();
        drop(transaction);
    }
    insert(&database, "a").await.unwrap();
    assert_eq!(names(&database).await, ["a"]);
}

#[tokio::test]
async fn results_and_values_stop_at_their_limits() {
    let config = Config {
        rows_max: 3,
        result_bytes_max: 1000,
        value_bytes_max: 5000,
        params_max: 2,
        statement_bytes_max: 200,
        readers: 1,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let null = Value::Null;
    for (sql, params, code) in [
        ("VALUES (1), (2), (3)", vec![], "ok"),
        ("VALUES (1), (2), (3), (4)", vec![], "sql.too_many_rows"),
        ("SELECT hex(zeroblob(450))", vec![], "ok"),
        ("SELECT hex(zeroblob(600))", vec![], "sql.result_too_large"),
        (
            "SELECT length(zeroblob(5001))",
            vec![],
            "sql.value_too_large",
        ),
        (
            "SELECT length(zeroblob(1000000000))",
            vec![],
            "sql.value_too_large",
        ),
        (
            "SELECT $1, $2, $3",
            vec![null.clone(); 3],
            "sql.too_many_params",
        ),
        ("SELECT $1", vec![], "sql.params_mismatch"),
        ("SELECT 1", vec![null.clone()], "sql.params_mismatch"),
        ("SELECT $70000", vec![null.clone()], "sql.params_mismatch"),
        (
            &format!("SELECT '{}'", "x".repeat(200)),
            vec![],
            "sql.statement_too_long",
        ),
        ("SELECT CAST(x'ff' AS TEXT)", vec![], "sql.text_invalid"),
        (
            "SELECT $1",
            vec![Value::Real(f64::NAN)],
            "sql.value_invalid",
        ),
        ("SELECT $1", vec![Value::Real(f64::INFINITY)], "ok"),
    ] {
        let result = database.query(sql, params.clone(), &soon()).await;
        let found = result.map_or_else(|error| error.code.into_owned(), |_| "ok".to_owned());
        assert_eq!(found, code, "{sql}");
        let mut transaction = database.begin(&soon()).await.unwrap();
        let result = transaction.query(sql, params).await;
        assert_eq!(result.is_ok(), code == "ok", "{sql}");
        let result = transaction
            .execute("INSERT INTO items (count) VALUES (1)", vec![])
            .await;
        assert!(
            result.is_ok(),
            "the transaction goes on after {sql}: {result:?}"
        );
    }
}

#[tokio::test]
async fn a_database_cannot_grow_beyond_its_size() {
    let config = Config {
        database_bytes_max: 256 << 10,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let sql = "INSERT INTO items (name) VALUES (hex(randomblob(10000)))";
    let mut error = None;
    for _ in 0..30 {
        if let Err(refused) = database.execute(sql, vec![], &soon()).await {
            error = Some(refused);
            break;
        }
    }
    let error = error.unwrap();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Limit, "sql.database_full")
    );
    database
        .execute("DELETE FROM items", vec![], &soon())
        .await
        .unwrap();
    insert(&database, "a").await.unwrap();
}

/// What a guest must not reach, whichever way it asks.
const FORBIDDEN: &[&str] = &[
    "ATTACH DATABASE '/tmp/x.db' AS x",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version",
    "VACUUM INTO '/tmp/x.db'",
    "SELECT 1; DROP TABLE items",
    "EXPLAIN PRAGMA user_version",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT file FROM pragma_database_list",
    "SELECT file FROM \"pragma_database_list\"",
    "SELECT file FROM 'pragma_database_list'",
    "SELECT * FROM pragma_optimize",
    "SELECT * FROM pragma_integrity_check",
    "SELECT * FROM pragma_journal_mode",
    "SELECT * FROM _gantry_migrations",
    "INSERT INTO _GANTRY_migrations VALUES (9, 'x', 'x', 0)",
    "DELETE FROM \"_gantry_migrations\"",
    "DELETE FROM sqlite_master",
    "UPDATE sqlite_schema SET sql = ''",
    "SELECT * FROM dbstat",
    "CREATE TABLE x (a)",
    "DROP TABLE items",
];

#[tokio::test]
async fn a_guest_does_not_reach_files_settings_or_our_tables() {
    let (scene, database) = Scene::items(Config::default()).await;
    let folder = scene.folder.path().to_str().unwrap();
    for sql in FORBIDDEN {
        let by_query = database.query(sql, vec![], &soon()).await.unwrap_err();
        let by_execute = database.execute(sql, vec![], &soon()).await.unwrap_err();
        let mut transaction = database.begin(&soon()).await.unwrap();
        let in_transaction = transaction.execute(sql, vec![]).await.unwrap_err();
        for error in [by_query, by_execute, in_transaction] {
            assert_eq!(error.kind, Kind::Invalid, "{sql}: {error:?}");
            assert!(!error.message.contains(folder), "{sql}: {error:?}");
        }
    }
    for sql in [
        "SELECT name FROM pragma_table_info('items')",
        "SELECT name FROM sqlite_schema WHERE type = 'table'",
        "EXPLAIN QUERY PLAN DELETE FROM items",
    ] {
        assert!(
            !database
                .query(sql, vec![], &soon())
                .await
                .unwrap()
                .rows
                .is_empty(),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn the_authorizer_holds_even_where_the_look_at_the_text_errs() {
    let (scene, database) = Scene::items(Config::default()).await;
    let file = scene.folder.path().join("shop/main.db");
    let config = Config::default();
    let mut connection =
        store::Connection::open(&file, Purpose::Writing, &config, &database.0.share)
            .await
            .unwrap();
    let never = [
        "SAVEPOINT a",
        "BEGIN",
        "COMMIT",
        "REINDEX",
        "ANALYZE",
        "DETACH main",
    ];
    for sql in never.iter().chain(FORBIDDEN) {
        let call = soon();
        let guard = connection.guard();
        guard.restrict(sandbox::Rights::Guest, call.deadline(), None);
        let result = connection.execute(sql, vec![], &call).await;
        assert!(result.is_err(), "{sql}");
    }
    for sql in [
        "PRAGMA foreign_keys = OFF",
        "ATTACH ':memory:' AS x",
        "VACUUM",
        "BEGIN",
    ] {
        assert!(
            connection
                .run_migration(sql, soon().deadline())
                .await
                .is_err(),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn query_alone_does_not_write() {
    let (_scene, database) = Scene::items(Config::default()).await;
    // The look at the text takes this for reading; the connection refuses.
    let file = database.0.file.clone();
    let config = Config::default();
    let mut reader = store::Connection::open(&file, Purpose::Reading, &config, &database.0.share)
        .await
        .unwrap();
    let error = reader
        .execute("DELETE FROM items", vec![], &soon())
        .await
        .unwrap_err();
    assert_eq!((error.kind, &*error.code), (Kind::Invalid, "sql.read_only"));
}

#[tokio::test]
async fn a_mistake_in_a_statement_is_explained() {
    let (_scene, database) = Scene::items(Config::default()).await;
    for (sql, words) in [
        ("SELECT nonsense FROM items", "no such column: nonsense"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT FROM", "syntax error"),
    ] {
        let error = database.query(sql, vec![], &soon()).await.unwrap_err();
        assert_eq!(
            (error.kind, &*error.code),
            (Kind::Invalid, "sql.statement_invalid")
        );
        assert!(error.message.contains(words), "{error:?}");
    }
}

#[tokio::test]
async fn migrations_run_once_and_later_ones_follow() {
    let scene = Scene::start();
    let first = "CREATE TABLE a (x);\nINSERT INTO a VALUES (1);";
    let second = "ALTER TABLE a ADD COLUMN y TEXT NOT NULL DEFAULT 'new' CHECK (y <> '');
                  CREATE INDEX a_x ON a (x); CREATE VIEW v AS SELECT * FROM a;
                  CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET y = 'old'; END;
                  CREATE VIRTUAL TABLE words USING fts5(body);";
    assert_eq!(scene.migrate(&[first]).await.unwrap(), [1]);
    let database = scene.open();
    // A prepared statement must not keep the columns of yesterday.
    let all = "SELECT * FROM a";
    assert_eq!(
        database.query(all, vec![], &soon()).await.unwrap().columns,
        ["x"]
    );
    assert_eq!(scene.migrate(&[first, second]).await.unwrap(), [2]);
    assert_eq!(
        scene.migrate(&[first, second]).await.unwrap(),
        Vec::<i64>::new()
    );
    let found = database.query(all, vec![], &soon()).await.unwrap();
    assert_eq!(found.rows, [[Value::Integer(1), text("new")]]);
    database
        .execute("INSERT INTO a (x) VALUES (2)", vec![], &soon())
        .await
        .unwrap();
    let sql = "INSERT INTO words VALUES ('red house')";
    database.execute(sql, vec![], &soon()).await.unwrap();
    let sql = "SELECT body FROM words WHERE words MATCH 'house'";
    assert_eq!(
        database
            .query(sql, vec![], &soon())
            .await
            .unwrap()
            .rows
            .len(),
        1
    );
    assert_eq!(
        scene.migrate(&[first]).await.unwrap(),
        Vec::<i64>::new(),
        "an earlier deployment"
    );
}

#[tokio::test]
async fn a_table_can_be_rebuilt_without_losing_the_rows_that_refer_to_it() {
    let scene = Scene::start();
    let first = "CREATE TABLE a (id INTEGER PRIMARY KEY);
                 CREATE TABLE b (a BIGINT REFERENCES a (id) ON DELETE CASCADE);
                 INSERT INTO a VALUES (1); INSERT INTO b VALUES (1);";
    let second = "CREATE TABLE a2 (id INTEGER PRIMARY KEY, y TEXT);
                  INSERT INTO a2 (id) SELECT id FROM a; DROP TABLE a;
                  ALTER TABLE a2 RENAME TO a;";
    scene.migrate(&[first, second]).await.unwrap();
    let database = scene.open();
    let found = database
        .query("SELECT a FROM b", vec![], &soon())
        .await
        .unwrap();
    assert_eq!(found.rows, [[Value::Integer(1)]]);
    let third = "DELETE FROM a";
    let error = scene.migrate(&[first, second, third]).await.unwrap_err();
    assert!(
        matches!(error, MigrateError::BrokenReference { version: 3, .. }),
        "{error}"
    );
    let sql = "SELECT count(*) FROM a";
    let found = database.query(sql, vec![], &soon()).await.unwrap();
    assert_eq!(found.rows, [[Value::Integer(1)]], "nothing of it was kept");
}

#[tokio::test]
async fn a_migration_that_fails_is_undone_and_named_with_its_line() {
    let scene = Scene::start();
    let bad = "CREATE TABLE b (x);\n\nCREATE TABLE b (x);";
    let error = scene
        .migrate(&["CREATE TABLE a (x)", bad])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "migration 2 `step1`, line 3: table b already exists"
    );
    assert_eq!(
        scene.migrate(&["CREATE TABLE a (x)"]).await.unwrap(),
        Vec::<i64>::new()
    );
    let good = "CREATE TABLE b (x)";
    assert_eq!(
        scene.migrate(&["CREATE TABLE a (x)", good]).await.unwrap(),
        [2]
    );
    for forbidden in [
        "PRAGMA foreign_keys = OFF",
        "ATTACH 'x' AS y",
        "COMMIT",
        "CREATE TABLE _gantry_x (a)",
        "DROP TABLE _gantry_migrations",
        "ALTER TABLE _gantry_migrations RENAME TO x",
        "UPDATE _gantry_migrations SET checksum = ''",
        "CREATE VIEW w AS SELECT * FROM _gantry_migrations; SELECT * FROM w",
        "CREATE VIRTUAL TABLE d USING dbstat(main)",
        "CREATE TEMP TABLE t (x)",
        "INSERT INTO a VALUES (load_extension('x'))",
    ] {
        let error = scene
            .migrate(&["CREATE TABLE a (x)", good, forbidden])
            .await
            .unwrap_err();
        assert!(
            matches!(error, MigrateError::Statement { version: 3, .. }),
            "{forbidden}"
        );
    }
}

#[tokio::test]
async fn an_applied_migration_cannot_be_edited_or_slipped_in_before() {
    let scene = Scene::start();
    let step = |version, sql: &str| Migration {
        version,
        name: format!("step{version}"),
        sql: sql.to_owned(),
    };
    let migrate = async |steps: &[Migration]| {
        scene
            .sql
            .migrate(&scene.plugin, &scene.label, steps)
            .await
            .map_err(|e| e.to_string())
    };
    let (one, five) = (step(1, "CREATE TABLE a (x)"), step(5, "CREATE TABLE b (x)"));
    migrate(&[one.clone(), five.clone()]).await.unwrap();
    let error = migrate(&[step(1, "CREATE TABLE a (y)"), five.clone()])
        .await
        .unwrap_err();
    assert!(
        error.contains("migration 1 `step1` was changed after it had been applied"),
        "{error}"
    );
    let three = step(3, "CREATE TABLE c (x)");
    let error = migrate(&[one.clone(), three, five.clone()])
        .await
        .unwrap_err();
    assert!(error.contains("give it a higher number"), "{error}");
    let error = migrate(&[five, one]).await.unwrap_err();
    assert!(error.contains("number them upwards"), "{error}");
}

#[tokio::test]
async fn two_deployments_that_migrate_at_once_do_it_once() {
    let scene = Scene::start();
    let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x)"];
    let (one, two) = tokio::join!(scene.migrate(&steps), scene.migrate(&steps));
    assert_eq!(one.unwrap().len() + two.unwrap().len(), 2);
}

#[tokio::test]
async fn readers_under_way_while_the_schema_changes_get_rows_or_an_error_but_never_crash() {
    let scene = Scene::start();
    scene
        .migrate(&["CREATE TABLE a (x); INSERT INTO a VALUES (1)"])
        .await
        .unwrap();
    let database = scene.open();
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let reading = tokio::spawn({
        let database = database.clone();
        async move {
            for _ in 0..500 {
                database
                    .query("SELECT * FROM a", vec![], &soon())
                    .await
                    .unwrap();
            }
        }
    });
    let steps: Vec<String> = (0..5)
        .map(|n| format!("ALTER TABLE a ADD COLUMN c{n} TEXT"))
        .collect();
    let mut all = vec!["CREATE TABLE a (x); INSERT INTO a VALUES (1)"];
    all.extend(steps.iter().map(String::as_str));
    scene.migrate(&all).await.unwrap();
    reading.await.unwrap();
    let found = database
        .query("SELECT * FROM a", vec![], &soon())
        .await
        .unwrap();
    assert_eq!(found.columns.len(), 6);
}

#[tokio::test]
async fn only_some_databases_are_open_at_once() {
    let config = Config {
        databases_open_max: 2,
        idle_ms_max: 0,
        ..Config::default()
    };
    let scene = Scene::with(config);
    let open = |label: &str| scene.sql.open(&scene.plugin, &label.parse().unwrap());
    let one = open("one").unwrap();
    open("two")
        .unwrap()
        .query("SELECT 1", vec![], &soon())
        .await
        .unwrap();
    let three = open("three").unwrap();
    let error = open("four").unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Unavailable, "sql.too_many_open")
    );
    drop(three);
    scene.sql.close_idle();
    open("four").unwrap();
    one.query("SELECT 1", vec![], &soon()).await.unwrap();
}

#[tokio::test]
async fn deleting_a_plugin_removes_its_files_and_only_its() {
    let (scene, database) = Scene::items(Config::default()).await;
    let other: PluginName = "blog".parse().unwrap();
    let kept = scene.sql.open(&other, &scene.label).unwrap();
    kept.query("SELECT 1", vec![], &soon()).await.unwrap();
    insert(&database, "a").await.unwrap();
    scene.sql.delete(&scene.plugin).await.unwrap();
    assert!(!scene.folder.path().join("shop").exists());
    assert!(scene.folder.path().join("blog/main.db").exists());
    assert_eq!(insert(&database, "a").await.unwrap_err().code, "sql.closed");
    let sql = "SELECT count(*) FROM sqlite_schema";
    let fresh = scene.open().query(sql, vec![], &soon()).await.unwrap();
    assert_eq!(fresh.rows, [[Value::Integer(0)]]);
    scene.sql.delete(&scene.plugin).await.unwrap();
    scene.sql.delete(&scene.plugin).await.unwrap();
}

#[tokio::test]
async fn what_was_committed_is_there_after_closing() {
    let (scene, database) = Scene::items(Config::default()).await;
    insert(&database, "a").await.unwrap();
    scene.sql.close().await;
    assert_eq!(
        database
            .query("SELECT 1", vec![], &soon())
            .await
            .unwrap_err()
            .code,
        "sql.closed"
    );
    assert!(
        !scene.folder.path().join("shop/main.db-wal").exists(),
        "the log is worked off"
    );
    assert_eq!(names(&scene.open()).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_given_up_at_any_moment_leave_no_half_of_a_transaction() {
    let config = Config {
        synchronous: Synchronous::Normal,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_u64 {
        let database = database.clone();
        tasks.spawn(async move {
            let write = async {
                let mut transaction = database.begin(&soon()).await?;
                for _ in 0..2 {
                    let sql = "INSERT INTO items (count) VALUES ($1)";
                    transaction
                        .execute(sql, vec![Value::Integer(number as i64)])
                        .await?;
                }
                transaction.commit().await
            };
            // From "at once" to "long enough", in steps that do not line up with the work.
            let patience = Duration::from_micros(number * number * 7 % 20_000);
            tokio::time::timeout(patience, write)
                .await
                .is_ok_and(|result| result.is_ok())
        });
    }
    let kept = tasks
        .join_all()
        .await
        .into_iter()
        .filter(|kept| *kept)
        .count();
    let sql = "SELECT count, count(*) FROM items GROUP BY count";
    let groups = database.query(sql, vec![], &soon()).await.unwrap().rows;
    assert!(
        groups.len() >= kept,
        "what was reported as committed is there"
    );
    for group in groups {
        assert_eq!(group[1], Value::Integer(2));
    }
    insert(&database, "the writer is free").await.unwrap();
}

#[tokio::test]
async fn functions_take_no_longer_than_their_statement_may() {
    let (_scene, database) = Scene::items(Config::default()).await;
    // With SQLite's own functions each of these takes minutes, and nothing can stop it.
    for sql in [
        "SELECT instr(hex(zeroblob(2000000)), hex(zeroblob(1000000)) || '1')",
        "SELECT length(replace(hex(zeroblob(2000000)), hex(zeroblob(1000000)) || '1', ''))",
        "SELECT length(trim(hex(zeroblob(2000000)), replace(hex(zeroblob(1000000)), '0', '1') || '0'))",
    ] {
        let begin = std::time::Instant::now();
        database.query(sql, vec![], &soon()).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(6), "{sql}");
    }
    for sql in [
        "SELECT json_patch('{}', '{}')",
        "SELECT unhex('ab', ' ')",
        "SELECT snippet(items, 0, '', '', '', 1) FROM items",
    ] {
        let error = database.query(sql, vec![], &soon()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn our_functions_answer_as_those_of_sqlite() {
    let (_scene, database) = Scene::items(Config::default()).await;
    for (expression, wanted) in [
        ("instr('abc', 'c')", Value::Integer(3)),
        ("instr('äöü', 'ü')", Value::Integer(3)),
        ("instr(x'c3a4c3b6', x'b6')", Value::Integer(4)),
        ("instr('abc', 'd')", Value::Integer(0)),
        ("instr('abc', '')", Value::Integer(1)),
        ("instr('', '')", Value::Integer(1)),
        ("instr(x'', x'')", Value::Integer(1)),
        ("instr(NULL, 'a')", Value::Null),
        ("instr(121, 2)", Value::Integer(2)),
        ("replace('aaa', 'aa', 'b')", text("ba")),
        ("replace('abc', '', 'x')", text("abc")),
        ("replace('abc', 'b', '')", text("ac")),
        ("replace(11, 1, 2)", text("22")),
        ("replace('a', NULL, 'b')", Value::Null),
        ("replace('a', 'a', NULL)", Value::Null),
        ("trim('xxäxx', 'x')", text("ä")),
        ("trim('äbä', 'ä')", text("b")),
        ("ltrim('xyxz', 'xy')", text("z")),
        ("rtrim('zxyx', 'xy')", text("z")),
        ("trim('aaa', 'a')", text("")),
        ("trim('a', '')", text("a")),
        ("trim('', 'a')", text("")),
        ("trim(NULL, 'a')", Value::Null),
        ("trim('a', NULL)", Value::Null),
        ("trim('  a ')", text("a")),
        ("typeof(replace(1, 2, 3))", text("text")),
    ] {
        let sql = format!("SELECT {expression}");
        let set = database.query(&sql, vec![], &soon()).await.unwrap();
        assert_eq!(set.rows, [[wanted]], "{expression}");
    }
    let sql = "SELECT replace(hex(zeroblob(1000)), '0', hex(zeroblob(1000000)))";
    let error = database.query(sql, vec![], &soon()).await.unwrap_err();
    assert_eq!(error.code, "sql.value_too_large");
}

#[tokio::test]
async fn one_row_cannot_take_all_memory() {
    let (_scene, database) = Scene::items(Config::default()).await;
    let row = |columns: usize| {
        let columns = vec!["randomblob(4000000)"; columns];
        format!("SELECT {}", columns.join(", "))
    };
    let wide = database
        .query(&row(201), vec![], &soon())
        .await
        .unwrap_err();
    assert_eq!(wide.code, "sql.statement_invalid");
    let large = database.query(&row(20), vec![], &soon()).await.unwrap_err();
    assert_eq!(large.code, "sql.result_too_large");
    let set = database.query("SELECT 1", vec![], &soon()).await.unwrap();
    assert_eq!(set.rows.len(), 1);
}

#[tokio::test]
async fn the_inside_of_a_full_text_index_is_not_written_directly() {
    let scene = Scene::start();
    scene
        .migrate(&["CREATE VIRTUAL TABLE found USING fts5(body)"])
        .await
        .unwrap();
    let database = scene.open();
    let sql = "INSERT INTO found (body) VALUES ('some words')";
    database.execute(sql, vec![], &soon()).await.unwrap();
    for sql in [
        "UPDATE found_data SET block = x'00'",
        "DELETE FROM found_config",
    ] {
        let error = database.execute(sql, vec![], &soon()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{sql}: {error:?}");
    }
    let sql = "SELECT highlight(found, 0, '<', '>') FROM found WHERE found MATCH 'words'";
    let set = database.query(sql, vec![], &soon()).await.unwrap();
    assert_eq!(set.rows, [[text("some <words>")]]);
}

#[tokio::test]
async fn what_statements_compute_is_charged_to_their_call() {
    let (_scene, database) = Scene::items(Config::default()).await;
    let call = soon();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000)
               SELECT count(*) FROM n";
    let began = std::time::Instant::now();
    database.query(sql, vec![], &call).await.unwrap();
    let (used, elapsed) = (call.cpu_used(), began.elapsed());
    assert!(used > Duration::from_millis(2), "{used:?}");
    assert!(used <= elapsed, "{used:?} in {elapsed:?}");
    // Those too short to be looked at while they run.
    let call = soon();
    let mut transaction = database.begin(&call).await.unwrap();
    let mut before = Duration::ZERO;
    for _ in 0..100 {
        let insert = "INSERT INTO items (count) VALUES (1)";
        transaction.execute(insert, vec![]).await.unwrap();
        assert!(call.cpu_used() > before);
        before = call.cpu_used();
    }
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_statement_stops_when_the_processor_time_of_its_call_is_used_up() {
    let (_scene, database) = Scene::items(Config::default()).await;
    let began = std::time::Instant::now();
    let call = until(Duration::from_secs(60), Duration::from_millis(50));
    let error = database.query(FOREVER, vec![], &call).await.unwrap_err();
    assert_eq!(error.code, "sql.timeout");
    let error = database.query("SELECT 1", vec![], &call).await.unwrap_err();
    assert_eq!(error.code, "sql.timeout", "there is nothing left");
    assert!(began.elapsed() < Duration::from_secs(3));
    let used = call.cpu_used();
    assert!(
        used >= Duration::from_millis(50) && used < Duration::from_millis(500),
        "{used:?}"
    );
    let next = database.query("SELECT 1", vec![], &soon()).await;
    assert_eq!(next.unwrap().rows.len(), 1, "the next call has its own");
}

#[tokio::test]
async fn what_waits_for_a_result_is_counted_for_the_call() {
    let (_scene, database) = Scene::items(Config::default()).await;
    let small = || {
        let memory = Quota::new(1 << 20).part(1 << 20).part(100_000);
        Allowance::new(
            Instant::now() + Duration::from_secs(10),
            Duration::from_secs(10),
            memory,
            Arc::default(),
        )
    };
    let call = small();
    for _ in 0..3 {
        let sql = "SELECT hex(zeroblob(40000))";
        database
            .query(sql, vec![], &call)
            .await
            .expect("one at a time fits");
    }
    let sql = "SELECT hex(zeroblob(60000))";
    let error = database.query(sql, vec![], &call).await.unwrap_err();
    assert_eq!(
        (error.kind, &*error.code),
        (Kind::Limit, "limit.call_memory_exceeded")
    );
    let large = vec![text(&"x".repeat(100_000))];
    let error = database
        .query("SELECT length($1)", large, &call)
        .await
        .unwrap_err();
    assert_eq!(error.code, "limit.call_memory_exceeded");
    database.query("SELECT 1", vec![], &call).await.unwrap();
}

/// Statements that need room beside memory: to sort, to find duplicates, to keep a table.
const SPILLING: [&str; 3] = [
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)
     SELECT hex(randomblob(60)) AS h FROM n ORDER BY h LIMIT 1 OFFSET 99999",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)
     SELECT count(DISTINCT hex(randomblob(60))) FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000),
     t AS MATERIALIZED (SELECT i, hex(randomblob(60)) AS h FROM n)
     SELECT count(*) FROM t AS a, t AS b WHERE a.i = 1 AND b.i = 2",
];

#[tokio::test]
async fn temporary_files_are_bounded_and_leave_nothing_behind() {
    let config = Config {
        temp_bytes_per_plugin_max: 1 << 20,
        ..Config::default()
    };
    let (scene, database) = Scene::items(config).await;
    let temp = scene.folder.path().join(temp::FOLDER);
    for sql in SPILLING {
        for _ in 0..2 {
            let error = database.query(sql, vec![], &soon()).await.unwrap_err();
            assert_eq!(
                (error.kind, &*error.code),
                (Kind::Limit, "sql.temp_full"),
                "{sql}"
            );
        }
        assert_eq!(std::fs::read_dir(&temp).unwrap().count(), 0);
        insert(&database, sql)
            .await
            .expect("the database itself is not full");
    }
    let small = "SELECT name FROM items ORDER BY random()";
    assert_eq!(
        database
            .query(small, vec![], &soon())
            .await
            .unwrap()
            .rows
            .len(),
        3
    );
}

#[tokio::test]
async fn room_for_temporary_files_is_given_back() {
    let config = Config {
        temp_bytes_per_plugin_max: 64 << 20,
        temp_bytes_max: 64 << 20,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    for _ in 0..3 {
        for sql in SPILLING {
            let set = database.query(sql, vec![], &soon()).await.unwrap();
            assert_eq!(set.rows.len(), 1, "{sql}");
        }
    }
}

#[tokio::test]
async fn a_write_whose_rows_are_too_many_is_undone() {
    let config = Config {
        rows_max: 2,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let three = "INSERT INTO items (name) VALUES ('a'), ('b'), ('c') RETURNING id";
    let error = database.query(three, vec![], &soon()).await.unwrap_err();
    assert_eq!(error.code, "sql.too_many_rows");
    assert_eq!(names(&database).await, Vec::<String>::new());
    let two = "INSERT INTO items (name) VALUES ('a'), ('b') RETURNING id";
    assert_eq!(
        database
            .query(two, vec![], &soon())
            .await
            .unwrap()
            .rows
            .len(),
        2
    );

    let mut transaction = database.begin(&soon()).await.unwrap();
    let three = "UPDATE items SET name = name || '!' WHERE true RETURNING name";
    transaction.query(three, vec![]).await.expect("two rows");
    let insert = "INSERT INTO items (name) VALUES ('c')";
    transaction.execute(insert, vec![]).await.unwrap();
    let error = transaction
        .query("DELETE FROM items RETURNING id", vec![])
        .await
        .unwrap_err();
    assert_eq!(error.code, "sql.too_many_rows");
    let one = "DELETE FROM items WHERE name = 'c' RETURNING id";
    assert_eq!(transaction.query(one, vec![]).await.unwrap().rows.len(), 1);
    transaction.commit().await.unwrap();
    assert_eq!(names(&database).await, ["a!", "b!"]);
}

#[tokio::test]
async fn one_plugin_cannot_keep_all_databases_open() {
    let config = Config {
        databases_open_max: 3,
        databases_per_plugin_max: 2,
        ..Config::default()
    };
    let scene = Scene::with(config);
    let open = |plugin: &str, label: &str| {
        scene
            .sql
            .open(&plugin.parse().unwrap(), &label.parse().unwrap())
    };
    let _mine = (open("ann", "one").unwrap(), open("ann", "two").unwrap());
    assert_eq!(open("ann", "three").unwrap_err().code, "sql.too_many_open");
    let _theirs = open("bob", "one").unwrap();
    // One that is not in use makes room for the next of the same plugin.
    drop(_mine);
    open("ann", "three").unwrap();
    open("ann", "four").unwrap();
}

#[tokio::test]
async fn a_first_migration_that_fails_leaves_no_file_behind() {
    let scene = Scene::start();
    scene
        .migrate(&["CREATE TABLE a (x); CREATE TABLE a (x)"])
        .await
        .unwrap_err();
    let folder = scene.folder.path().join("shop");
    assert!(!folder.exists(), "{folder:?}");
    scene
        .migrate(&["CREATE TABLE a (x)"])
        .await
        .expect("the next one begins anew");
    // What somebody may have used stays.
    scene
        .migrate(&["CREATE TABLE a (x)", "CREATE TABLE a (x)"])
        .await
        .unwrap_err();
    scene
        .open()
        .query("SELECT * FROM a", vec![], &soon())
        .await
        .unwrap();
    assert!(folder.join("main.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_one_plugin_keep_only_some_threads_busy() {
    let config = Config {
        statements_per_plugin_max: 1,
        ..Config::default()
    };
    let (_scene, database) = Scene::items(config).await;
    let long = async |ms: u64| {
        let call = until(Duration::from_millis(ms), Duration::from_secs(10));
        let error = database.query(FOREVER, vec![], &call).await.unwrap_err();
        error.code.into_owned()
    };
    // The first one runs; the others give up while it does.
    let others = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        tokio::join!(long(100), long(100))
    };
    let (first, others) = tokio::join!(long(2000), others);
    assert_eq!(first, "sql.timeout");
    assert_eq!([others.0, others.1], ["sql.busy", "sql.busy"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_read_without_a_gap_do_not_let_the_log_grow_without_end() {
    let config = Config {
        wal_bytes_max: 1 << 20,
        readers: 2,
        ..Config::default()
    };
    let (scene, database) = Scene::items(config).await;
    let mut readers = tokio::task::JoinSet::new();
    for start_ms in [0, 60] {
        let database = database.clone();
        readers.spawn(async move {
            tokio::time::sleep(Duration::from_millis(start_ms)).await;
            loop {
                // Holds what the database was when it began.
                let sql = "WITH RECURSIVE n(x) AS
                           (SELECT count(*) FROM items UNION ALL SELECT x + 1 FROM n)
                           SELECT count(*) FROM n";
                let call = until(Duration::from_millis(120), Duration::from_secs(10));
                let _ = database.query(sql, vec![], &call).await;
            }
        });
    }
    let wal = scene.folder.path().join("shop/main.db-wal");
    let mut written = 0;
    while written < 30 {
        let sql = "INSERT INTO items (name) VALUES (hex(randomblob(100000)))";
        match database.execute(sql, vec![], &soon()).await {
            Ok(_) => written += 1,
            Err(error) => assert_eq!(error.code, "sql.busy"),
        }
        let bytes = std::fs::metadata(&wal).unwrap().len();
        assert!(bytes < 2 << 20, "{bytes} bytes of log after {written} rows");
    }
    readers.abort_all();
    assert_eq!(names(&database).await.len(), 30);
}
