//! Runs the statement in the body, or one of its own by path. Answers `{"rows": …}` or the error's code.

use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
struct Wish {
    #[serde(default = "main_label")]
    label: String,
    #[serde(default)]
    in_transaction: bool,
    /// How many parameters it gives.
    #[serde(default)]
    params: usize,
}

fn main_label() -> String {
    "main".to_owned()
}

#[gantry_sdk::handler]
fn abuse(Query(wish): Query<Wish>, request: Request) -> Json<Value> {
    let params = wish.params;
    let result = sql::open(&wish.label).and_then(|db| match wish.in_transaction {
        true => db.transaction(|tx| run(tx, &request, params)),
        false => run(&db, &request, params),
    });
    Json(result.unwrap_or_else(|error| {
        json!({
            "code": error.code(),
            "kind": format!("{:?}", error.kind()),
            "message": error.message(),
        })
    }))
}

fn run(db: &impl Executor, request: &Request, params: usize) -> Result<Value> {
    let statement = std::str::from_utf8(&request.body)?;
    let statement = match request.path.as_str() {
        "/execute" => {
            let done = db.execute(statement, params![])?;
            return Ok(json!({ "rows_affected": done.rows_affected }));
        }
        "/long" => {
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        }
        "/rows" => {
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000000) SELECT i FROM n"
        }
        "/bytes" => {
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT hex(zeroblob(1000000)) FROM n"
        }
        _ => statement,
    };
    let params = vec![sql::Value::Null; params];
    Ok(json!({ "rows": db.query(statement, params)?.rows.len() }))
}
