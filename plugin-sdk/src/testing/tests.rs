//! The SDK as a plugin uses it: services, errors, and what a client sees of them.
#![expect(
    clippy::needless_pass_by_value,
    reason = "a transformation takes its input"
)]

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::prelude::*;

fn log_messages() -> Vec<String> {
    with(|host| host.logs.iter().map(|line| line.message.clone()).collect())
}

#[test]
fn an_unexpected_error_goes_to_the_log_and_not_to_the_client() {
    let app = TestApp::handler(|| -> Result<()> {
        "secret-number"
            .parse::<u32>()
            .context("reading the number")?;
        Ok(())
    });

    let response = app.get("/");

    assert_eq!(
        (response.status(), response.code()),
        (502, "plugin.failed".into())
    );
    assert!(!response.text().contains("digit"), "{}", response.text());
    assert_eq!(
        log_messages(),
        ["reading the number: invalid digit found in string"]
    );
}

#[test]
fn a_problem_of_the_plugin_is_shown_as_it_is() {
    let app = TestApp::handler(|| -> Result<()> {
        Err(Error::unprocessable("two mistakes").with_field("seats", "too_many", "at most 12"))
    });

    let response = app.get("/");

    assert_eq!(
        response.json::<Value>(),
        json!({
            "type": "about:blank",
            "title": "Unprocessable Entity",
            "status": 422,
            "code": "request.invalid",
            "detail": "two mistakes",
            "request_id": "test",
            "errors": [{ "at": "seats", "code": "too_many", "detail": "at most 12" }],
        })
    );
    assert_eq!(log_messages(), Vec::<String>::new());
}

#[test]
fn an_error_of_a_service_keeps_its_kind() {
    let app = TestApp::handler(|| kv::open("a")?.get("b").map(|_| ()));
    with(|host| host.fail("kv.get"));

    let response = app.get("/");

    assert_eq!(
        (response.status(), response.code()),
        (503, "kv.get.injected".into())
    );
    with(|host| host.mend("kv.get"));
    assert_eq!(app.get("/").status(), 204);
}

#[test]
fn an_error_of_the_raw_bindings_keeps_its_kind_through_the_question_mark() {
    fn raw() -> Result<()> {
        use crate::bindings::module::gantry::types::types::{Detail, Error};
        let detail = Detail {
            code: "a.b".into(),
            message: "c".into(),
            retry_after_ms: Some(5),
        };
        Err(Error::Limit(detail))?;
        Ok(())
    }

    let error = raw().unwrap_err();

    assert_eq!(
        (error.kind(), error.code(), error.status()),
        (ErrorKind::Limit, "a.b", 429)
    );
    assert_eq!(error.retry_after(), Some(Duration::from_millis(5)));
}

#[test]
fn a_caller_is_known_and_asked_for() {
    let routes = || {
        Router::new()
            .get("/me", |principal: Principal| principal.name())
            .get("/maybe", |principal: Option<Principal>| {
                principal.is_some().to_string()
            })
            .get("/write", || {
                identity::require("orders.write").map(|who| who.id())
            })
    };
    let app = TestApp::new(routes());

    assert_eq!(
        (app.get("/me").status(), app.get("/me").code()),
        (401, "auth.required".into())
    );
    assert_eq!(app.get("/me").header("www-authenticate"), Some("Bearer"));
    assert_eq!(app.get("/write").status(), 401);
    assert_eq!(app.get("/maybe").text(), "false");

    let app = TestApp::new(routes()).login(TestPrincipal::user("ann", &["orders.read"]));
    assert_eq!(app.get("/me").text(), "ann");
    assert_eq!(
        (app.get("/write").status(), app.get("/write").code()),
        (403, "auth.permission_missing".into())
    );

    let app = TestApp::new(routes()).login(TestPrincipal::user("ann", &["orders.write"]));
    assert_eq!(app.get("/write").text(), "user-ann");
}

#[test]
fn settings_become_the_type() {
    #[derive(Deserialize, PartialEq, Debug)]
    struct Settings {
        name: String,
        digits: String,
        seats: u32,
        ratio: f64,
        is_open: bool,
        days: Vec<String>,
        hours: Hours,
        #[serde(default)]
        note: Option<String>,
    }
    #[derive(Deserialize, PartialEq, Debug)]
    struct Hours {
        from: u8,
        to: u8,
    }
    let _app = TestApp::handler(|| ())
        .config("name", "Chez Ann")
        .config("digits", "0042")
        .config("seats", 12)
        .config("ratio", 0.5)
        .config("is_open", true)
        .config("days", ["mon", "tue"])
        .config("hours", json!({ "from": 9, "to": 18 }));

    let settings: Settings = config::load().unwrap();

    assert_eq!(settings.digits, "0042");
    assert_eq!(
        (settings.seats, settings.ratio, settings.is_open),
        (12, 0.5, true)
    );
    assert_eq!(settings.days, ["mon", "tue"]);
    assert_eq!(settings.hours, Hours { from: 9, to: 18 });
    assert_eq!((settings.name.as_str(), settings.note), ("Chez Ann", None));
    with(|host| host.config.insert("seats".into(), "many".into()));
    let error = config::load::<Settings>().unwrap_err();
    assert!(
        error.message().contains("`seats` is `many`"),
        "{}",
        error.message()
    );
    assert_eq!(
        config::require("colour").unwrap_err().kind(),
        ErrorKind::Internal
    );
}

#[test]
fn a_write_that_lost_the_race_is_a_conflict() {
    let _app = TestApp::handler(|| ());
    let bucket = kv::open("a").unwrap();
    let first = bucket.put("key", b"1").unwrap();
    bucket.put("key", b"2").unwrap();

    let late = bucket.put_with("key", b"3", kv::Put::new().if_version(first));
    let again = bucket.put_with("key", b"3", kv::Put::new().if_absent());

    assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(bucket.get("key").unwrap().unwrap(), b"2");
}

#[test]
fn an_update_starts_from_what_is_there() {
    let _app = TestApp::handler(|| ());
    let bucket = kv::open("a").unwrap();
    let push = |item: i32| {
        bucket.update_json("list", |list: Option<Vec<i32>>| {
            let mut list = list.unwrap_or_default();
            list.push(item);
            Ok(list)
        })
    };

    push(1).unwrap();

    assert_eq!(push(2).unwrap(), [1, 2]);
}

#[test]
fn entries_and_tokens_expire_by_the_clock_of_the_test() {
    let _app = TestApp::handler(|| ());
    let bucket = kv::open("a").unwrap();
    let minute = Duration::from_secs(60);
    bucket
        .put_with("key", b"1", kv::Put::new().ttl(minute))
        .unwrap();
    let token = tokens::sign("manage", "7", minute).unwrap();
    assert_eq!(tokens::verify("manage", &token).unwrap(), "7");
    assert_eq!(
        tokens::verify("other", &token).unwrap_err().code(),
        "token.invalid"
    );

    with(|host| host.advance(minute));

    assert_eq!(bucket.get("key").unwrap(), None);
    assert_eq!(
        tokens::verify("manage", &token).unwrap_err().code(),
        "token.expired"
    );
}

#[test]
fn keys_come_in_order_over_several_pages() {
    let _app = TestApp::handler(|| ());
    let bucket = kv::open("a").unwrap();
    for number in 0..5 {
        bucket.put(&format!("k/{number}"), b"").unwrap();
    }
    bucket.put("other", b"").unwrap();

    let page = bucket.keys_page("k/", None, 2).unwrap();

    assert_eq!(page.keys, ["k/0", "k/1"]);
    assert_eq!(
        bucket
            .keys_page("k/", page.cursor.as_deref(), 9)
            .unwrap()
            .keys
            .len(),
        3
    );
    assert_eq!(bucket.keys("k/", 4).unwrap().len(), 4);
}

#[test]
fn an_outbound_request_is_answered_by_the_test() {
    let _app = TestApp::handler(|| ());
    with(|host| host.answer("https://rates.example/v1/", 200, &json!({ "value": 2 })));

    let request = outbound::get("https://rates.example/v1/latest").query("in", "a b&c");
    let value: Value = request
        .send()
        .unwrap()
        .error_for_status()
        .unwrap()
        .json()
        .unwrap();

    assert_eq!(value, json!({ "value": 2 }));
    let sent = with(|host| host.sent[0].url.clone());
    assert_eq!(sent, "https://rates.example/v1/latest?in=a%20b%26c");
    let elsewhere = outbound::post("https://evil.example")
        .form(&[("a", "b")])
        .send();
    assert_eq!(elsewhere.unwrap_err().code(), "outbound.host_not_granted");
}

#[test]
fn an_error_of_the_other_side_is_not_the_clients() {
    let response = |status| outbound::Response {
        status,
        headers: Vec::new(),
        body: Vec::new(),
    };

    assert_eq!(response(404).error_for_status().unwrap_err().status(), 502);
    assert_eq!(response(429).error_for_status().unwrap_err().status(), 503);
    assert!(response(204).error_for_status().is_ok());
}

#[test]
fn a_secret_is_revealed() {
    let _app = TestApp::handler(|| ()).secret("key", "hush");

    assert_eq!(secrets::reveal("key").unwrap(), "hush");
    assert_eq!(
        secrets::get("other").err().unwrap().code(),
        "secrets.not_set"
    );
}

#[test]
fn a_transformation_is_called_with_its_parameters() {
    #[derive(Deserialize)]
    struct By {
        factor: i64,
    }
    fn scale(input: Vec<i64>, by: By) -> Result<Vec<i64>> {
        Ok(input.iter().map(|number| number * by.factor).collect())
    }
    fn shout(input: Document) -> Result<Document> {
        Ok(Document::new("text/plain", input.text()?.to_uppercase()))
    }

    let scaled = transform(
        &scale,
        Document::json(&[1, 2]).unwrap(),
        json!({ "factor": 3 }),
    );
    let shouted = transform(&shout, Document::new("text/plain", "hey"), json!({}));
    let wrong = transform(
        &scale,
        Document::new("text/plain", "hey"),
        json!({ "factor": 3 }),
    );

    assert_eq!(scaled.unwrap().text().unwrap(), "[3,6]");
    assert_eq!(shouted.unwrap().text().unwrap(), "HEY");
    assert_eq!(wrong.unwrap_err().code(), "transform.invalid_input");
}

#[cfg(feature = "testing-sql")]
mod with_sqlite {
    use super::*;

    #[derive(Deserialize, Debug, PartialEq)]
    struct Table {
        id: i64,
        name: String,
        is_free: bool,
        note: Option<String>,
        tags: sql::Json<Vec<String>>,
    }

    fn database() -> sql::Connection {
        with(|host| *host = Host::default());
        migrate(
            "main",
            "CREATE TABLE tables (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
                 is_free INTEGER NOT NULL, note TEXT, tags TEXT NOT NULL)",
        );
        sql::open("main").unwrap()
    }

    fn insert(db: &impl Executor, name: &str) -> Result<sql::RunResult> {
        let statement = "INSERT INTO tables (name, is_free, note, tags) VALUES ($1, $2, $3, $4)";
        db.execute(
            statement,
            params![name, true, None::<String>, sql::Json(["a", "b"])],
        )
    }

    fn count(db: &impl Executor) -> i64 {
        db.query_one("SELECT count(*) FROM tables", params![])
            .unwrap()
    }

    #[test]
    fn rows_become_types() {
        let db = database();
        let id = insert(&db, "one").unwrap().last_insert_id.unwrap();

        let table: Table = db
            .query_one("SELECT * FROM tables WHERE id = $1", params![id])
            .unwrap();
        let pairs: Vec<(i64, String)> = db
            .query_as("SELECT id, name FROM tables", params![])
            .unwrap();

        let tags = sql::Json(vec!["a".to_owned(), "b".to_owned()]);
        let expected = Table {
            id,
            name: "one".into(),
            is_free: true,
            note: None,
            tags,
        };
        assert_eq!(table, expected);
        assert_eq!(pairs, [(id, "one".to_owned())]);
    }

    #[test]
    fn parameters_go_by_their_numbers_and_not_by_their_order() {
        let db = database();
        let row: (i64, i64, i64) = db
            .query_one("SELECT $3, $1, $3 WHERE $2 = 7", params![1, 7, 3])
            .unwrap();
        let missing = db.query("SELECT $2", params![1]).unwrap_err();

        assert_eq!(row, (3, 1, 3));
        assert_eq!(missing.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_row_that_is_not_there_is_not_found_or_nothing() {
        let db = database();
        let none: Option<Table> = db
            .query_optional("SELECT * FROM tables", params![])
            .unwrap();
        let error = db
            .query_one::<Table>("SELECT * FROM tables", params![])
            .unwrap_err();

        assert_eq!(
            (none, error.code(), error.status()),
            (None, "sql.no_row", 404)
        );
    }

    #[test]
    fn a_transaction_lasts_only_if_it_ends_well() {
        let db = database();
        let failed: Result<()> = db.transaction(|tx| {
            insert(tx, "one")?;
            Err(Error::conflict("no", "no"))
        });
        assert_eq!((failed.unwrap_err().code(), count(&db)), ("no", 0));

        db.transaction(|tx| insert(tx, "one")).unwrap();
        assert_eq!(count(&db), 1);

        drop(db.begin().map(|tx| insert(&tx, "two")).unwrap());
        assert_eq!(count(&db), 1);
    }

    #[test]
    fn a_broken_constraint_is_a_conflict_with_its_code() {
        let db = database();
        insert(&db, "one").unwrap();

        let error = insert(&db, "one").unwrap_err();

        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Conflict, "sql.unique_violation")
        );
    }

    #[test]
    fn statements_that_end_a_transaction_are_refused() {
        let db = database();
        for statement in [
            "COMMIT",
            " begin",
            "PRAGMA foreign_keys = OFF",
            "ATTACH 'x' AS y",
        ] {
            let error = db.execute(statement, params![]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{statement}");
        }
    }

    #[test]
    fn a_write_beside_the_own_transaction_would_wait_for_ever() {
        let db = database();
        let _transaction = db.begin().unwrap();

        assert_eq!(insert(&db, "one").unwrap_err().kind(), ErrorKind::Timeout);
    }
}
