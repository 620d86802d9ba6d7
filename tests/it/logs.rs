//! What whoever runs the host reads of it: a line for each request, and errors at a collector.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gantry_harness::{Process, TestHost, guests::guest, pack};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use crate::manifests;

const ECHO: &str = r#"
schema = 1
[plugin]
name = "echo"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[route]]
method = "GET"
path = "/public"
auth = "public"
[[route]]
method = "GET"
path = "/required"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_the_access_log_has_a_level_the_request_and_who_sent_it() {
    let host = TestHost::start().await;
    host.deploy(ECHO, guest("echo")).await;
    host.deploy(&manifests::open("trap"), guest("trap")).await;
    let ann = host.user("ann@example.com", &[]).await;
    let admin = host.admin();
    let me = ann.get("/api/auth/me").await.json::<Value>();
    let me = me["id"].as_str().unwrap();
    let requests = [
        (&*host, "/echo/public", 200, "info", None),
        (&*host, "/echo/required", 401, "warn", None),
        (&ann, "/echo/required", 200, "info", Some(me)),
        (&ann, "/api/auth/me", 200, "info", Some(me)),
        (&ann, "/api/auth/sessions", 200, "info", Some(me)),
        (&ann, "/api/openapi.json", 200, "info", Some(me)),
        (&ann, "/_gantry/api/v1/plugins", 403, "warn", Some(me)),
        (&ann, "/metrics", 403, "warn", Some(me)),
        (&*host, "/nowhere", 404, "warn", None),
        (&*host, "/livez", 200, "info", None),
        (&*host, "/trap/", 502, "error", None),
    ];
    let mut ids = Vec::new();
    for (client, path, status, ..) in &requests {
        let answer = client.get(path).await.assert_status(*status);
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    let answer = admin.get("/_gantry/api/v1/plugins").await;
    let by_admin = answer.header("x-request-id").unwrap().to_owned();

    let log = host.access_log().await;
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line_of = |id: &str| {
        let line = lines.iter().find(|line| line["request.id"] == id);
        line.unwrap_or_else(|| panic!("no line for {id}: {log}"))
    };
    for (id, (_, path, status, level, principal)) in ids.iter().zip(requests) {
        let line = line_of(id);
        assert_eq!(line["path"], path);
        assert_eq!(line["status"], status, "{path}");
        assert_eq!(line["level"], level, "{path}");
        assert_eq!(line["principal.id"], json!(principal), "{path}");
    }
    let admin_id = line_of(&by_admin)["principal.id"].as_str().unwrap();
    assert!(!admin_id.is_empty() && admin_id != me);
    assert!(lines.iter().all(|line| line["level"].is_string()), "{log}");
    // Whom an id belongs to is in the rows, and what opened the door nowhere.
    for secret in ["ann@example.com", "eyJ", "gantry_"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    host.stop().await;
}

/// The head of a request, in small letters, and the lines of its body.
type Sent = (String, Vec<Value>);

/// A server that takes envelopes, and answers each when it is told to.
struct Envelopes {
    dsn: String,
    taken: Arc<Mutex<Vec<Sent>>>,
    /// One answer for each permit.
    may_answer: Arc<Semaphore>,
}

const KEY: &str = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e";

impl Envelopes {
    /// The first `failures` requests are answered with 503.
    async fn start(failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dsn = format!("http://{KEY}@{}/7", listener.local_addr().unwrap());
        let taken = Arc::<Mutex<Vec<_>>>::default();
        let may_answer = Arc::new(Semaphore::new(0));
        let (keep, permits) = (Arc::clone(&taken), Arc::clone(&may_answer));
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                permits.acquire().await.unwrap().forget();
                let head = if number < failures {
                    "503 Service Unavailable\r\nretry-after: 0"
                } else {
                    keep.lock().unwrap().push(request);
                    "200 OK"
                };
                let answer =
                    format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self {
            dsn,
            taken,
            may_answer,
        }
    }

    /// Lets so many answers go out, or all.
    fn answer(&self, count: usize) {
        self.may_answer.add_permits(count);
    }

    /// Heads, and lines of bodies, once there are so many.
    async fn wait_for(&self, count: usize) -> Vec<Sent> {
        let enough = async {
            loop {
                let taken = self.taken.lock().unwrap().clone();
                if taken.len() >= count {
                    return taken;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = timeout(Duration::from_secs(20), enough).await;
        waited.unwrap_or_else(|_| panic!("{:?}", self.taken.lock().unwrap()))
    }
}

async fn read(stream: &mut TcpStream) -> Sent {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let lines = String::from_utf8(body).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (head, lines.collect())
}

async fn with_trap(settings: &str) -> Process {
    let server = Process::start(settings).await;
    let bundle = pack(&manifests::open("trap"), &guest("trap"), &[]);
    server.upload("", bundle).await.assert_status(201);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_told_to_a_collector_that_takes_sentrys_envelopes() {
    // It is away at first, and gets the error all the same.
    let envelopes = Envelopes::start(1).await;
    envelopes.answer(Semaphore::MAX_PERMITS / 2);
    let settings = format!(
        "[errors]\ndsn = \"{}\"\nenvironment = \"staging\"\n",
        envelopes.dsn
    );
    let server = with_trap(&settings).await;
    let answer = server.get("/trap/?card=4111").await.assert_status(502);
    let id = answer.header("x-request-id").unwrap();

    let taken = envelopes.wait_for(1).await;
    let (head, lines) = &taken[0];
    assert!(head.starts_with("post /api/7/envelope/ http/1.1"), "{head}");
    assert!(head.contains("content-type: application/x-sentry-envelope"));
    let wanted = format!(
        "x-sentry-auth: sentry sentry_version=7, sentry_client=gantry/0.1.0, sentry_key={KEY}"
    );
    assert!(head.contains(&wanted), "{head}");
    let [first, item, event] = &lines[..] else {
        panic!("three lines: {lines:?}");
    };
    assert_eq!(first["event_id"], event["event_id"]);
    assert_eq!(event["event_id"].as_str().unwrap().len(), 32);
    assert_eq!(item["type"], "event");
    assert_eq!(item["length"], event.to_string().len());
    assert_eq!(event["level"], "error");
    assert_eq!(event["environment"], "staging");
    assert_eq!(
        event["logentry"]["formatted"],
        "An invocation of `trap` failed"
    );
    assert_eq!(event["tags"]["request.id"], id);
    assert_eq!(event["tags"]["plugin.name"], "trap");
    assert_eq!(event["tags"]["route"], "/");
    let cause = event["extra"]["error.cause"].as_str().unwrap();
    assert!(cause.contains("trap"), "{cause}");
    // Neither what was asked for nor who may ask.
    let told = format!("{taken:?}");
    let key = std::fs::read_to_string(server.data_dir().join("admin.key")).unwrap();
    for secret in ["4111", key.trim()] {
        assert!(!told.contains(secret), "{told}");
    }
    // The key of the collector is a secret, too.
    let settings = server.get("/_gantry/api/v1/settings").await.text();
    assert!(settings.contains("/api/7/envelope/"), "{settings}");
    let trail = server.get("/_gantry/api/v1/audit?limit=100").await.text();
    for text in [settings, trail, server.log()] {
        assert!(!text.contains(KEY), "{text}");
    }
    // That it was away is for the log alone.
    assert!(
        server
            .log()
            .contains("The collector of errors cannot be used")
    );
    assert_eq!(envelopes.wait_for(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_stands_still_holds_up_nobody_and_what_is_lost_is_counted() {
    let envelopes = Envelopes::start(0).await;
    let settings = format!(
        "[errors]\ndsn = \"{}\"\nqueue_max = 2\ntimeout_ms = 30000\n",
        envelopes.dsn
    );
    let server = with_trap(&settings).await;
    let began = std::time::Instant::now();
    for _ in 0..10 {
        server.get("/trap/").await.assert_status(502);
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    envelopes.answer(Semaphore::MAX_PERMITS / 2);
    // One on its way, or none yet, and two that wait.
    envelopes.wait_for(2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.get("/trap/").await.assert_status(502);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let taken = envelopes.taken.lock().unwrap().clone();
    let lost = |(_, lines): &Sent| lines[2]["extra"]["lost_before"].as_u64();
    let lost: u64 = taken.iter().filter_map(lost).sum();
    assert_eq!(taken.len() as u64 + lost, 11, "{taken:?}");
    assert!(lost >= 7, "{taken:?}");
}
