//! The plugin as a component on a real host, for tests with [`#[gantry_sdk::test]`](crate::test). The executable `gantry` is
//! that host: it runs beside the test, as long as the test does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{TestPrincipal, TestResponse};
use crate::Response;

/// A host on which this plugin is deployed, with empty stores, and with a clock that stands still until it is moved.
///
/// Everything but the clock, the random numbers and other servers is real: routes, permissions, limits, the sandbox,
/// the database. What the plugin finds is set before the first request.
pub struct RealHost {
    child: Child,
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// What the host begins with; nothing once it has begun.
    beginning: Option<Map<String, Value>>,
    principal: Option<TestPrincipal>,
}

impl RealHost {
    /// Builds the plugin of this folder and starts a host for it. A file is a bundle that was built already.
    ///
    /// Panics if there is no `gantry`: it is looked for in the variable `GANTRY`, beside the test in cargo's target
    /// folder, and where the shell looks.
    #[track_caller]
    pub fn start(plugin: impl AsRef<Path>) -> Self {
        let program = program();
        let child = Command::new(&program)
            .args(["plugin", "test", "--serve"])
            .arg(plugin.as_ref())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => panic!(
                "cannot start `{}`: {error}; install gantry, or set GANTRY to where it is",
                program.display()
            ),
        };
        let replies = BufReader::new(child.stdout.take().expect("a pipe for its replies"));
        Self {
            orders: child.stdin.take(),
            child,
            replies,
            beginning: Some(Map::new()),
            principal: None,
        }
    }

    /// Sets a setting.
    #[track_caller]
    pub fn config(&mut self, key: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).expect("a setting that can be JSON");
        self.object("config").insert(key.to_owned(), value);
    }

    /// Sets a secret.
    #[track_caller]
    pub fn secret(&mut self, label: &str, value: &str) {
        self.object("secrets")
            .insert(label.to_owned(), value.into());
    }

    /// What another server answers with this JSON. A URL that ends with `*` stands for all that begin like it.
    #[track_caller]
    pub fn answer<T: Serialize + ?Sized>(
        &mut self,
        method: &str,
        url: &str,
        status: u16,
        body: &T,
    ) {
        let body = serde_json::to_string(body).expect("an answer that can be JSON");
        let answer = json!({
            "method": method, "url": url, "status": status, "body": body,
            "headers": [["content-type", "application/json"]],
        });
        let answers = self.unbegun().entry("answers").or_insert_with(|| json!([]));
        if let Value::Array(answers) = answers {
            answers.push(answer);
        }
    }

    /// What the clock shows at the beginning, in milliseconds since 1970. Default: 2026-01-01T00:00:00Z.
    #[track_caller]
    pub fn at_ms(&mut self, now_ms: i64) {
        self.unbegun().insert("at_ms".to_owned(), now_ms.into());
    }

    /// Logs somebody in for all requests to come: a real account, or an API key, with these permissions of the plugin.
    pub fn login(&mut self, principal: TestPrincipal) {
        self.principal = Some(principal);
    }

    /// Nobody is logged in any more.
    pub fn logout(&mut self) {
        self.principal = None;
    }

    /// Lets time pass: what has a time to live expires, and limits are refilled.
    #[track_caller]
    pub fn advance(&mut self, time: Duration) {
        self.begin();
        self.order(&json!({ "advance": crate::kv::millis(time) }));
    }

    /// Asks with GET. The path is below the plugin's mount and may have a query.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> TestResponse {
        self.send("GET", path, &[], Vec::new())
    }

    /// Asks with POST and no body.
    #[track_caller]
    pub fn post(&mut self, path: &str) -> TestResponse {
        self.send("POST", path, &[], Vec::new())
    }

    /// Asks with POST and a value as JSON.
    #[track_caller]
    pub fn post_json<T: Serialize + ?Sized>(&mut self, path: &str, value: &T) -> TestResponse {
        self.send_json("POST", path, value)
    }

    /// Asks with PUT and a value as JSON.
    #[track_caller]
    pub fn put_json<T: Serialize + ?Sized>(&mut self, path: &str, value: &T) -> TestResponse {
        self.send_json("PUT", path, value)
    }

    /// Asks with DELETE.
    #[track_caller]
    pub fn delete(&mut self, path: &str) -> TestResponse {
        self.send("DELETE", path, &[], Vec::new())
    }

    /// Asks with any method, headers and body.
    #[track_caller]
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> TestResponse {
        self.begin();
        let caller = self.principal.as_ref().map(|principal| {
            json!({ "kind": principal.kind, "name": principal.name, "permissions": principal.permissions })
        });
        let body: Vec<u8> = body.into();
        let reply = self.order(&json!({ "ask": {
            "method": method, "path": path, "headers": headers, "body": body, "caller": caller,
        }}));
        let answer = &reply["answer"];
        let field = |name: &str| answer[name].clone();
        let read = "what the host answers has a status, headers and a body";
        TestResponse(Response {
            status: serde_json::from_value(field("status")).expect(read),
            headers: serde_json::from_value(field("headers")).expect(read),
            body: serde_json::from_value(field("body")).expect(read),
        })
    }

    #[track_caller]
    fn send_json<T: Serialize + ?Sized>(
        &mut self,
        method: &str,
        path: &str,
        value: &T,
    ) -> TestResponse {
        let body = serde_json::to_vec(value).expect("a body that can be JSON");
        self.send(method, path, &[("content-type", "application/json")], body)
    }

    #[track_caller]
    fn unbegun(&mut self) -> &mut Map<String, Value> {
        self.beginning
            .as_mut()
            .expect("what the plugin finds is set before the first request")
    }

    #[track_caller]
    fn object(&mut self, key: &str) -> &mut Map<String, Value> {
        let object = self.unbegun().entry(key).or_insert_with(|| json!({}));
        object.as_object_mut().expect("made as an object")
    }

    #[track_caller]
    fn begin(&mut self) {
        if let Some(beginning) = self.beginning.take() {
            self.order(&json!({ "begin": beginning }));
        }
    }

    /// Gives an order and waits until it is done. What the host prints itself, such as the errors of a build, is on the
    /// test's standard error.
    #[track_caller]
    fn order(&mut self, order: &Value) -> Value {
        let written = self
            .orders
            .as_mut()
            .map(|orders| writeln!(orders, "{order}").and_then(|()| orders.flush()));
        let mut line = String::new();
        let read = self.replies.read_line(&mut line);
        match (written, read) {
            (Some(Ok(())), Ok(bytes)) if bytes > 0 => {}
            _ => panic!("the host has ended; what it printed says why"),
        }
        let reply: Value = serde_json::from_str(&line).expect("a reply that is JSON");
        if let Some(refused) = reply["refused"].as_str() {
            panic!("{refused}");
        }
        reply
    }
}

impl Drop for RealHost {
    fn drop(&mut self) {
        // It ends by itself when there are no more orders, and takes its files with it.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("GANTRY") {
        return program.into();
    }
    // `target/debug/deps/<test>` in a workspace that builds gantry, too.
    let test = std::env::current_exe().ok();
    let beside = test.and_then(|test| Some(test.ancestors().nth(2)?.join("gantry")));
    match beside {
        Some(beside) if beside.is_file() => beside,
        _ => PathBuf::from("gantry"),
    }
}
