//! Tests without Wasm and without a server: `cargo test` runs the plugin's own code against a host in memory.
//!
//! ```
//! use gantry_sdk::prelude::*;
//! use gantry_sdk::testing::{self, TestApp};
//!
//! fn app() -> Router {
//!     Router::new().post("/visits/{page}", visit)
//! }
//!
//! fn visit(Path(page): Path<String>) -> Result<Json<i64>> {
//!     Ok(Json(kv::open("visits")?.increment(&page, 1)?))
//! }
//!
//! let app = TestApp::new(app());
//! assert_eq!(app.post("/visits/home").json::<i64>(), 1);
//! assert_eq!(app.post("/visits/home").json::<i64>(), 2);
//! assert_eq!(app.get("/visits/home").status(), 405);
//!
//! testing::with(|host| host.fail("kv.increment"));
//! assert_eq!(app.post("/visits/home").status(), 503);
//! ```
//!
//! Each test thread has a host of its own; [`TestApp::new`] starts with an empty one. It grants everything and has
//! no limits: what the manifest and the operator allow is tested with the real host.
//!
//! With the feature `testing-sql`, [`crate::sql`] works on a real SQLite database in memory, see `migrate`.

pub(crate) mod host;
mod real;

pub use real::RealHost;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::filter::{RequestFilter, ResponseFilter, Verdict, decided};
use crate::log::Level;
use crate::router::Answer;
use crate::{Document, Error, Handler, Request, Response, Result, Router, Transformation};
use crate::{context, outbound};

/// The host in memory: what a plugin finds and what it left behind.
#[derive(Default)]
pub struct Host {
    /// The settings, as the plugin will get them: text, and JSON text for what is not.
    pub config: BTreeMap<String, String>,
    /// Secrets by label.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Who is calling.
    pub principal: Option<TestPrincipal>,
    /// The key-value stores by label.
    pub kv: BTreeMap<String, BTreeMap<String, KvEntry>>,
    /// Values that are kept for a while, by label and key.
    pub cache: BTreeMap<(String, String), CacheEntry>,
    /// Files, by label and name.
    pub blobs: BTreeMap<(String, String), BlobEntry>,
    /// What the plugin logged, in order.
    pub logs: Vec<LogLine>,
    /// What the plugin sent to the outside, in order.
    pub sent: Vec<outbound::Request>,
    /// Milliseconds on the clock of the host; see [`Host::advance`].
    pub now_ms: u64,
    answers: Vec<(String, Result<outbound::Response, String>)>,
    failures: BTreeSet<String>,
    headers: Vec<(String, String)>,
    path_params: Vec<(String, String)>,
    writes: u64,
    #[cfg(feature = "testing-sql")]
    databases: BTreeMap<String, std::rc::Rc<host::sql::Database>>,
}

/// A value in a store of the host in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The value.
    pub value: Vec<u8>,
    /// Changes with each write.
    pub version: String,
    /// When it vanishes, on the clock of the host.
    pub expires_at_ms: Option<u64>,
}

/// A file of the host in memory.
#[derive(Debug, Clone)]
pub struct BlobEntry {
    /// What is known of it. The digest is not computed.
    pub object: crate::blobs::Object,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// A value in a cache of the host in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The value.
    pub value: Vec<u8>,
    /// What it is thrown away by.
    pub tags: Vec<String>,
    /// When it vanishes, on the clock of the host.
    pub expires_at_ms: u64,
}

/// One message of the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters: `info`, `error`, ….
    pub level: &'static str,
    /// The group, or nothing.
    pub context: String,
    /// The text.
    pub message: String,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestPrincipal {
    /// Stable for the life of the account.
    pub id: String,
    /// `user` or `api-key`.
    pub kind: String,
    /// The name to show.
    pub name: String,
    /// The names of the roles.
    pub roles: Vec<String>,
    /// All permissions of those roles.
    pub permissions: Vec<String>,
}

impl TestPrincipal {
    /// A user with these permissions.
    pub fn user(name: &str, permissions: &[&str]) -> Self {
        Self {
            id: format!("user-{name}"),
            kind: "user".to_owned(),
            name: name.to_owned(),
            roles: Vec::new(),
            permissions: permissions
                .iter()
                .map(|&permission| permission.to_owned())
                .collect(),
        }
    }
}

impl Host {
    /// Lets a call of a service fail as `unavailable` from now on: `kv.get`, `sql.execute`, `secrets.get`,
    /// `outbound.send`, `config.get`, `tokens.sign`, …; or `kv` for all calls of a service.
    pub fn fail(&mut self, call: &str) {
        self.failures.insert(call.to_owned());
    }

    /// Takes a failure back.
    pub fn mend(&mut self, call: &str) {
        self.failures.remove(call);
    }

    /// Lets time pass: entries with a time to live expire, and so do tokens.
    pub fn advance(&mut self, time: Duration) {
        self.now_ms += crate::kv::millis(time);
    }

    /// Answers outbound requests whose URL begins with this; of several the last one told counts.
    pub fn answer<T: Serialize + ?Sized>(&mut self, url: &str, status: u16, json: &T) {
        let body = serde_json::to_vec(json).expect("an answer that can be JSON");
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        self.answer_with(
            url,
            outbound::Response {
                status,
                headers,
                body,
            },
        );
    }

    /// The same with a response of any kind.
    pub fn answer_with(&mut self, url: &str, response: outbound::Response) {
        self.answers.push((url.to_owned(), Ok(response)));
    }

    /// Makes the outside unreachable for URLs that begin with this.
    pub fn unreachable(&mut self, url: &str) {
        self.answers
            .push((url.to_owned(), Err("connection refused".to_owned())));
    }
}

/// Looks at the host of this thread, or changes it. Do not call services of the SDK inside.
pub fn with<T>(change: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with(|host| change(&mut host.borrow_mut()))
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// Runs the statements of a migration in the database of a label.
///
/// ```
/// use gantry_sdk::prelude::*;
/// use gantry_sdk::testing;
///
/// testing::migrate("main", "CREATE TABLE tables (id INTEGER PRIMARY KEY, seats INTEGER NOT NULL)");
/// let db = sql::open("main").unwrap();
/// db.execute("INSERT INTO tables (seats) VALUES ($1)", params![4]).unwrap();
/// let seats: Vec<i64> = db.query_as("SELECT seats FROM tables", params![]).unwrap();
/// assert_eq!(seats, [4]);
/// ```
#[cfg(feature = "testing-sql")]
pub fn migrate(label: &str, statements: &str) {
    host::sql::database(label).run_batch(statements);
}

/// A plugin to be asked.
pub struct TestApp {
    answer: Answer,
}

impl TestApp {
    /// A plugin with a router, and an empty host.
    pub fn new(router: Router) -> Self {
        Self::of(move |request| router.handle(request))
    }

    /// A plugin of one function, as with `#[gantry_sdk::handler]`, and an empty host.
    pub fn handler<A>(handler: impl Handler<A> + 'static) -> Self {
        Self::of(move |request| handler.call(request))
    }

    fn of(answer: impl Fn(&mut Request) -> Result<Response> + 'static) -> Self {
        with(|host| *host = Host::default());
        Self {
            answer: Box::new(answer),
        }
    }

    /// Puts a filter of requests around the plugin, as with `#[gantry_sdk::request_filter]`; the last one is the outermost.
    ///
    /// ```
    /// use gantry_sdk::prelude::*;
    /// use gantry_sdk::testing::TestApp;
    ///
    /// fn closed(request: Request) -> Result<Changes> {
    ///     match &*request.path {
    ///         "/closed" => Err(Error::forbidden("closed", "come back tomorrow")),
    ///         _ => Ok(Changes::none().set_header("x-open", "yes")),
    ///     }
    /// }
    ///
    /// let app = TestApp::handler(|request: Request| request.header("x-open").unwrap_or_default());
    /// let app = app.request_filter(closed);
    /// assert_eq!(app.get("/").text(), "yes");
    /// assert_eq!(app.get("/closed").code(), "closed");
    /// ```
    #[must_use]
    pub fn request_filter<V: 'static>(self, filter: impl RequestFilter<V> + 'static) -> Self {
        let answer = self.answer;
        let filtered = move |request: &mut Request| {
            let seen = Request {
                method: request.method.clone(),
                path: request.path.clone(),
                query: request.query.clone(),
                body: request.body.clone(),
                params: None,
            };
            match decided(filter.call(seen)).map_err(Error::service)? {
                Verdict::Respond(response) => Ok(response),
                Verdict::Next(changes) => {
                    with(|host| changes.apply(&mut host.headers, &mut request.body));
                    answer(request)
                }
            }
        };
        Self {
            answer: Box::new(filtered),
        }
    }

    /// Puts a filter of responses around the plugin, as with `#[gantry_sdk::response_filter]`.
    #[must_use]
    pub fn response_filter<V: 'static>(self, filter: impl ResponseFilter<V> + 'static) -> Self {
        let answer = self.answer;
        let filtered = move |request: &mut Request| {
            let inner = answer(request).or_else(Error::into_answer);
            let mut response = inner.unwrap_or_else(|error| problem(&Error::service(error)));
            match decided(filter.call(response.clone())).map_err(Error::service)? {
                Verdict::Respond(response) => Ok(response),
                Verdict::Next(changes) => {
                    changes.apply(&mut response.headers, &mut response.body);
                    Ok(response)
                }
            }
        };
        Self {
            answer: Box::new(filtered),
        }
    }

    /// Sets a setting to text, a number, or anything that is JSON.
    #[must_use]
    pub fn config(self, key: &str, value: impl Serialize) -> Self {
        let text = match serde_json::to_value(value).expect("a setting that can be JSON") {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        with(|host| host.config.insert(key.to_owned(), text));
        self
    }

    /// Sets a secret.
    #[must_use]
    pub fn secret(self, label: &str, value: &str) -> Self {
        with(|host| {
            host.secrets
                .insert(label.to_owned(), value.as_bytes().to_vec())
        });
        self
    }

    /// Logs somebody in for all requests to come.
    #[must_use]
    pub fn login(self, principal: TestPrincipal) -> Self {
        with(|host| host.principal = Some(principal));
        self
    }

    /// Asks with GET.
    pub fn get(&self, path: &str) -> TestResponse {
        self.request("GET", path).send()
    }

    /// Asks with POST and no body.
    pub fn post(&self, path: &str) -> TestResponse {
        self.request("POST", path).send()
    }

    /// Asks with POST and a value as JSON.
    pub fn post_json<T: Serialize + ?Sized>(&self, path: &str, value: &T) -> TestResponse {
        self.request("POST", path).json(value).send()
    }

    /// Asks with PUT and a value as JSON.
    pub fn put_json<T: Serialize + ?Sized>(&self, path: &str, value: &T) -> TestResponse {
        self.request("PUT", path).json(value).send()
    }

    /// Asks with PATCH and a value as JSON.
    pub fn patch_json<T: Serialize + ?Sized>(&self, path: &str, value: &T) -> TestResponse {
        self.request("PATCH", path).json(value).send()
    }

    /// Asks with DELETE.
    pub fn delete(&self, path: &str) -> TestResponse {
        self.request("DELETE", path).send()
    }

    /// Asks with any method, to be sent with [`TestRequest::send`]. The path may have a query.
    pub fn request(&self, method: &str, path: &str) -> TestRequest<'_> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            body: Vec::new(),
            params: None,
        };
        TestRequest {
            app: self,
            request,
            headers: Vec::new(),
            path_params: Vec::new(),
        }
    }
}

/// A request to a [`TestApp`].
#[must_use = "a request does nothing until it is sent"]
pub struct TestRequest<'a> {
    app: &'a TestApp,
    request: Request,
    headers: Vec<(String, String)>,
    path_params: Vec<(String, String)>,
}

impl TestRequest<'_> {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Sets a parameter of the path, as the host knows it. Only plugins without a router need it.
    pub fn param(mut self, name: &str, value: &str) -> Self {
        self.path_params.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request.body = body.into();
        self
    }

    /// Sets the body to a value as JSON, and `content-type` with it.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        let body = serde_json::to_vec(value).expect("a body that can be JSON");
        self.header("content-type", "application/json").body(body)
    }

    /// Asks, and renders errors as the host does.
    pub fn send(mut self) -> TestResponse {
        with(|host| {
            host.headers = self.headers;
            host.path_params = self.path_params;
        });
        let answer = (self.app.answer)(&mut self.request).or_else(Error::into_answer);
        TestResponse(answer.unwrap_or_else(|error| problem(&Error::service(error))))
    }
}

/// Calls a transformation, as with `#[gantry_sdk::transform]`, on any document.
///
/// ```
/// use gantry_sdk::prelude::*;
/// use gantry_sdk::testing;
///
/// fn double(input: Vec<i64>) -> Result<Vec<i64>> {
///     Ok(input.iter().map(|number| number * 2).collect())
/// }
///
/// let output = testing::transform(&double, Document::json(&[1, 2]).unwrap(), json!({})).unwrap();
/// assert_eq!(output.text().unwrap(), "[2,4]");
/// ```
// By value, as a caller writes `json!({…})` in place.
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers write `json!` in place"
)]
pub fn transform<A>(
    transformation: &impl Transformation<A>,
    input: Document,
    params: serde_json::Value,
) -> Result<Document> {
    transformation.call(input, &params.to_string())
}

/// What came back, with what tests want to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResponse(pub Response);

impl TestResponse {
    /// The status.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The first value of a header; the name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.header(name)
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0.body).expect("a body of UTF-8")
    }

    /// The body as JSON of a type; `serde_json::Value` for any.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.0.body) {
            Ok(value) => value,
            Err(error) => panic!("not the JSON that was expected: {error}: {}", self.text()),
        }
    }

    /// The code of a problem.
    #[track_caller]
    pub fn code(&self) -> String {
        let problem: serde_json::Value = self.json();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn problem(error: &Error) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "status": error.status(),
        "code": error.code(),
        "detail": error.message(),
        "request_id": context::request_id(),
    });
    Response::new(error.status())
        .with_header("content-type", "application/problem+json")
        .with_body(body.to_string())
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
        Level::Critical => "critical",
    }
}

#[cfg(test)]
mod tests;
