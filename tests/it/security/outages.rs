//! What hosts lean on dies under traffic: the shared server and the mail server, with everything that is in them. Each part goes
//! on as it is documented, nothing is lost, and nobody starts a host anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use gantry::{auth::Registration, limits::Store};
use gantry_harness::{Answer, RedisServer, SmtpServer};
use http::Method;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

const COUNTED: &str = r#"
schema = 1
[plugin]
name = "counted"
version = "1.0.0"
[component]
path = "plugin.wasm"
[capabilities]
kv = ["counts"]
[[route]]
method = "GET"
path = "/open"
auth = "public"
limits = [{ name = "open", limit = 1000000, window = "24h", key = "route", fail = "open" }]
[[route]]
method = "GET"
path = "/closed"
auth = "public"
limits = [{ name = "closed", limit = 1000000, window = "24h", key = "route", fail = "closed" }]
[[route]]
method = "GET"
path = "/local"
auth = "public"
limits = [{ name = "local", limit = 5, window = "24h", key = "route", fail = "local" }]
[[route]]
method = "GET"
path = "/kept/{*rest}"
auth = "public"
cache = { ttl = "60s" }
[[route]]
method = "POST"
path = "/orders"
auth = "public"
idempotency = "required"
[[route]]
method = "GET"
path = "/mine"
"#;

/// What was seen of one kind of request, by status and code.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<String, usize>>);

impl Seen {
    fn note(&self, answer: &Answer) {
        let mut what = answer.status.as_u16().to_string();
        if answer.status.as_u16() >= 400 {
            what = format!("{what} {}", answer.code());
        }
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }

    /// Fails unless there was some of this, and nothing of anything else than `these`.
    #[track_caller]
    fn is_only(&self, these: &[&str]) {
        let seen = self.0.lock().unwrap();
        assert!(!seen.is_empty());
        for what in seen.keys() {
            assert!(these.contains(&what.as_str()), "{seen:?}");
        }
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}

async fn until_cluster_is(host: &TestHost, word: &str) {
    let began = Instant::now();
    while host.get("/readyz").await.json::<Value>()["cluster"] != word {
        assert!(began.elapsed() < PATIENCE, "the server is not {word}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shared_server_and_the_mail_server_die_under_traffic_and_nothing_is_lost() {
    let (Some(mut redis), Some(mut smtp)) = (RedisServer::start().await, SmtpServer::start().await)
    else {
        return;
    };
    let host = TestHost::build().with(|config| {
        redis.serve(config);
        smtp.serve(config);
        config.cluster.command_timeout_ms = 500;
        config.limits.store = Store::Shared;
        config.auth.registration = Registration::Confirmed;
        config.auth.even_answer_ms = 0;
        config.gateway.refresh_limit.limit = 1_000_000;
    });
    let host = host.start().await;
    host.deploy(COUNTED, guest("counted")).await;
    host.user("ann@example.com", &[]).await;
    until_cluster_is(&host, "ok").await;
    let (is_over, is_gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let goes_on = || !is_over.load(Ordering::Relaxed);
    let [open, closed, local, kept, logins, refreshes] = <[Seen; 6]>::default();
    let registered = AtomicUsize::new(0);
    let orders = Mutex::new(BTreeSet::new());
    let get = async |path: &str, seen: &Seen| {
        while goes_on() {
            seen.note(&host.get(path).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let keep = async {
        let mut number = 0;
        while goes_on() {
            number += 1;
            // One that is there, and one that is made now.
            for path in ["one".to_owned(), format!("{number}")] {
                kept.note(&host.get(&format!("/counted/kept/{path}")).await);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let order = async {
        let mut number = 0;
        while goes_on() {
            number += 1;
            let post = async || {
                let request = host.request(Method::POST, "/counted/orders").body("{}");
                host.send(request.header("idempotency-key", format!("order-{number}")))
                    .await
                    .assert_status(200)
            };
            let (first, again) = (post().await, post().await);
            assert_eq!(first.text(), again.text(), "done once");
            assert_eq!(again.header("idempotency-replayed"), Some("true"));
            let is_new = orders.lock().unwrap().insert(first.text());
            assert!(is_new, "each is a call of its own");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let register = async {
        while goes_on() {
            let number = registered.load(Ordering::Relaxed);
            let email = format!("guest-{number}@example.org");
            let body = json!({ "email": email, "password": PASSWORD });
            host.post("/api/auth/register", &body)
                .await
                .assert_status(202);
            registered.store(number + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let stay = async {
        let mut tokens = log_in(&host, "ann@example.com").await;
        while goes_on() {
            let body = json!({ "refresh_token": tokens["refresh_token"] });
            let answer = host.post("/api/auth/refresh", &body).await;
            refreshes.note(&answer);
            tokens = answer.json();
            let ann = host.with_token(tokens["access_token"].as_str().unwrap());
            ann.get("/counted/mine").await.assert_status(200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let come_and_go = async {
        while goes_on() {
            let login = json!({ "email": "ann@example.com", "password": PASSWORD });
            let answer = host.post("/api/auth/login", &login).await;
            logins.note(&answer);
            let tokens: Value = answer.json();
            let ann = host.with_token(tokens["access_token"].as_str().unwrap());
            ann.get("/counted/mine").await.assert_status(200);
            ann.post("/api/auth/logout", &json!({}))
                .await
                .assert_status(204);
            // At once, whoever is away.
            ann.get("/counted/mine")
                .await
                .assert_problem(401, "auth.token_revoked");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (closed_while_gone, closed_while_back) = (Seen::default(), Seen::default());
    let fate = async {
        let moment = || tokio::time::sleep(Duration::from_millis(700));
        moment().await;
        for round in 0..3 {
            match round {
                // Killed, with everything in it.
                0 | 1 => redis.die().await,
                // Connections stay, and nothing answers.
                _ => redis.hang().await,
            }
            smtp.die().await;
            until_cluster_is(&host, "unreachable").await;
            is_gone.store(true, Ordering::Relaxed);
            for _ in 0..10 {
                closed_while_gone.note(&host.get("/counted/closed").await);
            }
            moment().await;
            is_gone.store(false, Ordering::Relaxed);
            smtp.go_on().await;
            match round {
                0 | 1 => redis.go_on().await,
                _ => redis.wake().await,
            }
            until_cluster_is(&host, "ok").await;
            for _ in 0..10 {
                closed_while_back.note(&host.get("/counted/closed").await);
            }
            redis.flush_all().await;
            moment().await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        get("/counted/open", &open),
        get("/counted/closed", &closed),
        get("/counted/local", &local),
        keep,
        order,
        register,
        stay,
        come_and_go,
        fate,
    );
    // Each limit as it says.
    open.is_only(&["200"]);
    closed.is_only(&["200", "503 limit.uncounted"]);
    assert!(closed.count("503 limit.uncounted") > 0 && closed.count("200") > 0);
    closed_while_gone.is_only(&["503 limit.uncounted"]);
    closed_while_back.is_only(&["200"]);
    local.is_only(&["200", "429 limit.quota_exceeded"]);
    // The server forgets each time, and the host counts by itself while it is away: five each time, and no more.
    let passed = local.count("200");
    assert!((5..=5 * 10).contains(&passed), "{passed}");
    // What does not lean on the server has not felt anything.
    for seen in [&kept, &logins, &refreshes] {
        seen.is_only(&["200"]);
    }
    assert!(orders.lock().unwrap().len() > 10);

    // Every letter arrives, those of the outage, too: at least once.
    let count = registered.load(Ordering::Relaxed);
    let wanted: BTreeSet<String> = (0..count)
        .map(|number| format!("guest-{number}@example.org"))
        .collect();
    let began = Instant::now();
    let mails = loop {
        let mails = smtp.arrived();
        let to: BTreeSet<String> = mails.iter().map(|mail| mail.to.clone()).collect();
        if to == wanted {
            break mails;
        }
        let missing: Vec<_> = wanted.difference(&to).collect();
        assert!(began.elapsed() < PATIENCE, "these never came: {missing:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // A server that dies when it has just taken a letter gets it again; otherwise it comes once.
    assert!(mails.len() <= count + 3 * 8, "{} for {count}", mails.len());
    // What they carry is good.
    for mail in mails.iter().rev().take(5) {
        let body = json!({ "code": mail.code() });
        let answer = host.post("/api/auth/register/confirm", &body).await;
        let code = answer.status.as_u16();
        assert!([201, 422].contains(&code), "{}", answer.text());
    }
    assert!(host.app().auth.count_users() > 1);
    host.stop().await;
}
