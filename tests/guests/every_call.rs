//! Makes the calls of the host that the body lists, with exactly the values that stand there, past all checks of the SDK.
//! Answers what each came to: `{"ok": …}`, or the code and kind of its error.
#![cfg(target_family = "wasm")]

use gantry_sdk::bindings::module::gantry::{
    context::{identity, invocation},
    http::request_headers,
    kv::store as kv,
    secrets::{reveal, store as secrets},
    sql::client as sql,
    tokens::tokens,
    types::types::Error as HostError,
};
use gantry_sdk::bindings::module::wasi::{
    config::store as config,
    http::{
        outgoing_handler,
        types::{
            Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
        },
    },
    io::streams::StreamError,
    logging::logging,
};
use gantry_sdk::prelude::*;
use gantry_sdk::serde_json::Value;

#[derive(Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
enum Call {
    KvOpen {
        label: String,
    },
    KvGet {
        key: String,
    },
    KvGetMany {
        keys: Vec<String>,
    },
    KvPut {
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        if_absent: bool,
        if_version: Option<String>,
    },
    KvDelete {
        key: String,
        if_version: Option<String>,
    },
    KvIncrement {
        key: String,
        delta: i64,
        ttl_ms: Option<u64>,
    },
    KvKeys {
        prefix: String,
        cursor: Option<String>,
        max: u32,
    },
    SqlOpen {
        label: String,
    },
    Sql {
        sql: String,
        params: Vec<Cell>,
        writes: bool,
        in_transaction: bool,
    },
    ConfigGet {
        key: String,
    },
    ConfigAll,
    Log {
        level: u8,
        context: String,
        message: String,
    },
    Secret {
        label: String,
    },
    Sign {
        purpose: String,
        subject: String,
        ttl_ms: u64,
    },
    Verify {
        purpose: String,
        token: String,
    },
    Header {
        name: String,
    },
    Headers,
    Context {
        param: String,
        permission: String,
    },
    Send(Outgoing),
}

/// A value of SQL. A real number by its bits, because JSON has no words for some of them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Cell {
    Null,
    Boolean(bool),
    Integer(i64),
    Real(u64),
    Text(String),
    Blob(Vec<u8>),
}

#[derive(Deserialize)]
struct Outgoing {
    method: String,
    scheme: Option<String>,
    authority: Option<String>,
    path: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    /// To connect, until the first byte and between bytes.
    timeouts_ns: Vec<Option<u64>>,
}

/// Why a call came to nothing, where the contract has no code for it.
enum Failure {
    Host(HostError),
    Word(&'static str),
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

#[gantry_sdk::handler]
fn make(request: Request) -> Result<Json<Value>> {
    let calls: Vec<Call> = gantry_sdk::serde_json::from_slice(&request.body)?;
    let results: Vec<Value> = calls.into_iter().map(result).collect();
    Ok(Json(json!({
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "results": results,
    })))
}

fn result(call: Call) -> Value {
    match run(call) {
        Ok(value) => json!({ "ok": value }),
        Err(Failure::Word(word)) => json!({ "word": word }),
        Err(Failure::Host(error)) => {
            let (kind, detail) = match error {
                HostError::Denied(detail) => ("denied", detail),
                HostError::NotFound(detail) => ("not-found", detail),
                HostError::Invalid(detail) => ("invalid", detail),
                HostError::Conflict(detail) => ("conflict", detail),
                HostError::Limit(detail) => ("limit", detail),
                HostError::Timeout(detail) => ("timeout", detail),
                HostError::Unavailable(detail) => ("unavailable", detail),
                HostError::Internal(detail) => ("internal", detail),
            };
            json!({ "code": detail.code, "kind": kind, "message": detail.message })
        }
    }
}

fn run(call: Call) -> Result<Value, Failure> {
    let bucket = || kv::Bucket::open("data");
    let entry = |entry: kv::Entry| json!({ "value": entry.value, "version": entry.version });
    Ok(match call {
        Call::KvOpen { label } => kv::Bucket::open(&label).map(|_| json!(null))?,
        Call::KvGet { key } => json!(bucket()?.get(&key)?.map(entry)),
        Call::KvGetMany { keys } => {
            let entries = bucket()?.get_many(&keys)?.into_iter();
            json!(entries.map(|found| found.map(entry)).collect::<Vec<_>>())
        }
        Call::KvPut {
            key,
            value,
            ttl_ms,
            if_absent,
            if_version,
        } => {
            let options = kv::PutOptions {
                ttl_ms,
                if_absent,
                if_version,
            };
            json!(bucket()?.put(&key, &value, &options)?)
        }
        Call::KvDelete { key, if_version } => json!(bucket()?.delete(&key, if_version.as_deref())?),
        Call::KvIncrement { key, delta, ttl_ms } => {
            json!(bucket()?.increment(&key, delta, ttl_ms)?)
        }
        Call::KvKeys {
            prefix,
            cursor,
            max,
        } => {
            let page = bucket()?.keys(&prefix, cursor.as_deref(), max)?;
            json!({ "keys": page.keys, "cursor": page.cursor })
        }
        Call::SqlOpen { label } => sql::Connection::open(&label).map(|_| json!(null))?,
        Call::Sql {
            sql,
            params,
            writes,
            in_transaction,
        } => statement(&sql, params, writes, in_transaction)?,
        Call::ConfigGet { key } => match config::get(&key) {
            Ok(value) => json!(value),
            Err(_) => return Err(Failure::Word("config")),
        },
        Call::ConfigAll => match config::get_all() {
            Ok(values) => json!(values),
            Err(_) => return Err(Failure::Word("config")),
        },
        Call::Log {
            level,
            context,
            message,
        } => {
            let levels = [
                logging::Level::Trace,
                logging::Level::Debug,
                logging::Level::Info,
                logging::Level::Warn,
                logging::Level::Error,
                logging::Level::Critical,
            ];
            let level = levels[usize::from(level) % levels.len()];
            logging::log(level, &context, &message);
            json!(null)
        }
        Call::Secret { label } => {
            let secret = secrets::get(&label)?;
            json!({ "revision": secret.revision(), "value": reveal::reveal(&secret)? })
        }
        Call::Sign {
            purpose,
            subject,
            ttl_ms,
        } => json!(tokens::sign(&purpose, &subject, ttl_ms)?),
        Call::Verify { purpose, token } => json!(tokens::verify(&purpose, &token)?),
        Call::Header { name } => json!(request_headers::get(&name)),
        Call::Headers => json!(request_headers::all()),
        Call::Context { param, permission } => json!({
            "param": invocation::path_param(&param),
            "may": identity::require(&permission).is_ok(),
            "key": invocation::idempotency_key(),
        }),
        Call::Send(outgoing) => send(&outgoing)?,
    })
}

fn statement(
    text: &str,
    params: Vec<Cell>,
    writes: bool,
    in_transaction: bool,
) -> Result<Value, Failure> {
    let params: Vec<sql::Value> = params.into_iter().map(sql::Value::from).collect();
    let rows = |found: sql::RowSet| {
        let row = |row: Vec<sql::Value>| row.into_iter().map(Cell::from).collect::<Vec<_>>();
        let rows: Vec<_> = found.rows.into_iter().map(row).collect();
        json!({ "columns": found.columns, "rows": rows })
    };
    let done = |done: sql::RunResult| json!({ "rows_affected": done.rows_affected, "last_insert_id": done.last_insert_id });
    let db = sql::Connection::open("main")?;
    if !in_transaction {
        return Ok(match writes {
            true => done(db.execute(text, &params)?),
            false => rows(db.query(text, &params)?),
        });
    }
    let transaction = db.begin()?;
    let result = match writes {
        true => transaction.execute(text, &params).map(done),
        false => transaction.query(text, &params).map(rows),
    };
    match result {
        Ok(result) => {
            sql::Transaction::commit(transaction)?;
            Ok(result)
        }
        // The host rolls back what is dropped.
        Err(error) => Err(error.into()),
    }
}

impl From<Cell> for sql::Value {
    fn from(cell: Cell) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Boolean(value) => Self::Boolean(value),
            Cell::Integer(value) => Self::Integer(value),
            Cell::Real(bits) => Self::Real(f64::from_bits(bits)),
            Cell::Text(value) => Self::Text(value),
            Cell::Blob(value) => Self::Blob(value),
        }
    }
}

impl From<sql::Value> for Cell {
    fn from(value: sql::Value) -> Self {
        match value {
            sql::Value::Null => Self::Null,
            sql::Value::Boolean(value) => Self::Boolean(value),
            sql::Value::Integer(value) => Self::Integer(value),
            sql::Value::Real(value) => Self::Real(value.to_bits()),
            sql::Value::Text(value) => Self::Text(value),
            sql::Value::Blob(value) => Self::Blob(value),
        }
    }
}

fn send(outgoing: &Outgoing) -> Result<Value, Failure> {
    let word = Failure::Word;
    let fields = Fields::new();
    for (name, value) in &outgoing.headers {
        let appended = fields.append(name, value);
        appended.map_err(|_| word("header"))?;
    }
    let sent = fields.entries();
    let request = OutgoingRequest::new(fields);
    let scheme = outgoing.scheme.as_deref().map(|scheme| match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    });
    let method = match outgoing.method.as_str() {
        "GET" => Method::Get,
        "POST" => Method::Post,
        other => Method::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| word("method"))?;
    request
        .set_scheme(scheme.as_ref())
        .map_err(|()| word("scheme"))?;
    request
        .set_authority(outgoing.authority.as_deref())
        .map_err(|()| word("authority"))?;
    request
        .set_path_with_query(outgoing.path.as_deref())
        .map_err(|()| word("path"))?;
    let options = RequestOptions::new();
    let timeout = |place: usize| outgoing.timeouts_ns.get(place).copied().flatten();
    let _ = options.set_connect_timeout(timeout(0));
    let _ = options.set_first_byte_timeout(timeout(1));
    let _ = options.set_between_bytes_timeout(timeout(2));
    let body = request.body().map_err(|()| word("body"))?;
    let future = outgoing_handler::handle(request, Some(options)).map_err(|_| word("not sent"))?;
    if !outgoing.body.is_empty() {
        let stream = body.write().map_err(|()| word("body"))?;
        for chunk in outgoing.body.chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
    future.subscribe().block();
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(_))) => return Err(word("not answered")),
        Some(Err(())) | None => return Err(word("answered twice")),
    };
    let bytes = read(&response)?;
    Ok(json!({ "status": response.status(), "bytes": bytes, "headers": sent.len() }))
}

fn read(response: &IncomingResponse) -> Result<usize, Failure> {
    let word = |()| Failure::Word("body");
    let body = response.consume().map_err(word)?;
    let stream = body.stream().map_err(word)?;
    let mut bytes = 0;
    loop {
        match stream.blocking_read(1 << 16) {
            Ok(chunk) => bytes += chunk.len(),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(Failure::Word("broken off")),
        }
    }
}
