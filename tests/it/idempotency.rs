//! Requests that change something are done once, however often they are sent.

use std::time::Duration;

use futures_util::future::join_all;
use gantry_harness::{Answer, Client, Process, TestHost, guests::guest, pack};
use http::Method;

/// A plugin whose calls are counted, with keys on one route.
fn manifest(auth: &str, mode: &str) -> String {
    format!(
        "schema = 1\n[plugin]\nname = \"counted\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
         [capabilities]\nkv = [\"counts\"]\n\
         [[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"/{{*rest}}\"\nauth = \"public\"\n\
         [[route]]\nmethod = [\"GET\", \"POST\", \"PUT\"]\npath = \"/orders/{{*rest}}\"\nauth = \"{auth}\"\n\
         idempotency = \"{mode}\"\n"
    )
}

async fn counted(auth: &str, mode: &str) -> TestHost {
    let host = TestHost::start().await;
    host.deploy(&manifest(auth, mode), guest("counted")).await;
    host
}

async fn calls(client: &Client) -> u64 {
    let answer = client.get("/counted/calls").await.assert_status(200);
    answer.text().parse().unwrap()
}

/// Sends a request, and gives it up once its call has begun.
async fn give_up(client: &Client, path: &'static str) {
    let lost = client.on_a_connection_of_its_own();
    let sent = tokio::spawn(async move { post(&lost, path, "one", "{}").await });
    while calls(client).await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sent.abort();
    assert!(sent.await.is_err(), "it was not answered yet");
}

async fn post(client: &Client, path: &str, key: &str, body: &str) -> Answer {
    let request = client.request(Method::POST, path);
    let request = request.header("idempotency-key", key).body(body.to_owned());
    client.send(request).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == Some("true")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_gets_the_answer_of_the_first_time() {
    let host = counted("public", "required").await;
    let path = "/counted/orders/1?status=201&headers=location:/orders/7|set-cookie:a=b";
    let first = post(&host, path, "one", "{}").await.assert_status(201);
    assert!(!is_replayed(&first));
    let again = post(&host, path, "\"one\"", "{}").await.assert_status(201);
    assert!(is_replayed(&again));
    assert_eq!(again.text(), first.text());
    assert_eq!(again.header("location"), Some("/orders/7"));
    assert_eq!(again.header("set-cookie"), None);
    let request_id = |answer: &Answer| answer.header("x-request-id").map(str::to_owned);
    assert_ne!(request_id(&again), request_id(&first));
    // Another key, another request.
    let second = post(&host, path, "two", "{}").await.assert_status(201);
    assert_ne!(second.text(), first.text());
    for (path, key, body, status, code) in [
        (path, "one", "{\"a\":1}", 422, "idempotency.key_reused"),
        (
            "/counted/orders/1",
            "one",
            "{}",
            422,
            "idempotency.key_reused",
        ),
        (path, "a b", "{}", 400, "idempotency.key_invalid"),
    ] {
        post(&host, path, key, body)
            .await
            .assert_problem(status, code);
    }
    let request = host
        .request(Method::PUT, path)
        .header("idempotency-key", "one")
        .body("{}");
    host.send(request)
        .await
        .assert_problem(422, "idempotency.key_reused");
    let request = host.request(Method::POST, path).body("{}");
    host.send(request)
        .await
        .assert_problem(400, "idempotency.key_missing");
    // What changes nothing needs no key, and other routes do not look at it.
    host.get("/counted/orders/1").await.assert_status(200);
    for _ in 0..2 {
        assert!(!is_replayed(
            &post(&host, "/counted/else", "one", "{}").await
        ));
    }
    assert_eq!(calls(&host).await, 5);
    // It survives a restart.
    let host = host.restart().await;
    let again = post(&host, path, "one", "{}").await.assert_status(201);
    assert!(is_replayed(&again));
    assert_eq!(again.text(), first.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_at_once_one_is_done() {
    let host = counted("public", "required").await;
    let path = "/counted/orders/1?ms=300";
    let answers = join_all((0..50).map(|_| post(&host, path, "one", "{}"))).await;
    let (done, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert!(!done.is_empty());
    for answer in &done {
        assert_eq!(answer.text(), done[0].text());
    }
    for answer in refused {
        let answer = answer.assert_problem(409, "idempotency.in_progress");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(calls(&host).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_the_callers_own() {
    let host = counted("required", "optional").await;
    let (ann, bob) = (
        host.user("ann@example.com", &[]).await,
        host.user("bob@example.com", &[]).await,
    );
    let path = "/counted/orders/1";
    let of_ann = post(&ann, path, "one", "{}").await.assert_status(200);
    let of_bob = post(&bob, path, "one", "{}").await.assert_status(200);
    assert!(!is_replayed(&of_bob));
    assert_ne!(of_bob.text(), of_ann.text());
    assert!(is_replayed(&post(&ann, path, "one", "{}").await));
    // Where keys are optional, requests without one are done each.
    for _ in 0..2 {
        let request = ann.request(Method::POST, path).body("{}");
        assert!(!is_replayed(&ann.send(request).await.assert_status(200)));
    }
    post(&host, path, "one", "{}")
        .await
        .assert_problem(401, "auth.required");
    assert_eq!(calls(&host).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_it_is_kept_and_what_was_not_done_is_given_back() {
    let host = counted("public", "required").await;
    // The plugin has decided, or has broken off in the middle: nobody knows what it has done, so it is not done again.
    for (fail, status, code) in [
        ("conflict", 409, "counted.conflict"),
        ("on", 502, "plugin.failed"),
        ("trap", 502, "plugin.trapped"),
    ] {
        let path = format!("/counted/orders/1?fail={fail}");
        for attempt in 0..2 {
            let answer = post(&host, &path, fail, "{}").await;
            let answer = answer.assert_problem(status, code);
            assert_eq!(is_replayed(&answer), attempt == 1, "{fail}");
        }
    }
    assert_eq!(calls(&host).await, 3);
    // It says itself that it has done nothing.
    for status in [401, 403, 429, 503] {
        let path = format!("/counted/orders/1?status={status}");
        let key = status.to_string();
        for _ in 0..2 {
            let request = host
                .request(Method::POST, &path)
                .header("idempotency-key", &key);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status);
            assert!(
                !answer.headers().contains_key("idempotency-replayed"),
                "{status}"
            );
        }
    }
    assert_eq!(calls(&host).await, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_ended_in_the_middle_is_not_done_again() {
    let host = TestHost::build()
        .with(|config| config.plugins.rollout.drain_s = 1)
        .start()
        .await;
    let first = manifest("public", "required");
    host.deploy(&first, guest("counted")).await;
    let path = "/counted/orders/1?ms=9000";
    let client = host.on_a_connection_of_its_own();
    let long = tokio::spawn(async move { post(&client, path, "one", "{}").await });
    while calls(&host).await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    host.deploy(&first.replace("1.0.0", "2.0.0"), guest("counted"))
        .await;
    long.await.unwrap().assert_problem(504, "plugin.retired");
    let again = post(&host, path, "one", "{}").await;
    assert!(is_replayed(&again.assert_problem(504, "plugin.retired")));
    assert_eq!(calls(&host).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_is_not_kept_but_that_it_was_given_is_known() {
    let host = TestHost::build()
        .with(|config| config.idempotency.answer_bytes_max = 1000)
        .start()
        .await;
    host.deploy(&manifest("public", "required"), guest("counted"))
        .await;
    let path = "/counted/orders/1?bytes=1001&status=201";
    let first = post(&host, path, "one", "{}").await.assert_status(201);
    assert_eq!(first.body.len(), 1001);
    let again = post(&host, path, "one", "{}").await;
    let again = again.assert_problem(409, "idempotency.answer_not_kept");
    assert!(again.text().contains("201"), "{}", again.text());
    assert_eq!(calls(&host).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_done_to_its_end_though_its_client_has_gone() {
    let host = counted("public", "required").await;
    let path = "/counted/orders/1?ms=2000";
    give_up(&host, path).await;
    post(&host, path, "one", "{}")
        .await
        .assert_problem(409, "idempotency.in_progress");
    let mut again = None;
    for _ in 0..100 {
        let answer = post(&host, path, "one", "{}").await;
        if answer.status == 200 {
            again = Some(answer);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_replayed(&again.unwrap()));
    assert_eq!(calls(&host).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sudden_death_a_request_is_in_progress_until_its_time_is_over() {
    let settings =
        "[idempotency]\nlease_margin_ms = 500\n[plugins.ceilings]\nwall_ms_max = 60000\n";
    let server = Process::start(settings).await;
    let manifest =
        manifest("public", "required").replace("idempotency =", "timeout = \"8s\"\nidempotency =");
    let bundle = pack(&manifest, &guest("counted"), &[]);
    server.upload("grant=all", bundle).await.assert_status(201);
    let path = "/counted/orders/1?ms=7500";
    give_up(&server, path).await;
    let server = server.kill_and_restart().await;
    post(&server, path, "one", "{}")
        .await
        .assert_problem(409, "idempotency.in_progress");
    let mut codes = std::collections::BTreeSet::new();
    let mut last = None;
    for _ in 0..400 {
        let answer = post(&server, path, "one", "{}").await;
        if answer.status == 200 {
            last = Some(answer);
            break;
        }
        codes.insert(answer.code());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        !is_replayed(&last.unwrap()),
        "done again, because nobody knows how far it came"
    );
    assert_eq!(
        codes.into_iter().collect::<Vec<_>>(),
        ["idempotency.in_progress"]
    );
    assert!(is_replayed(&post(&server, path, "one", "{}").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_removed_with_its_data_leaves_no_answers() {
    let host = counted("public", "required").await;
    let path = "/counted/orders/1";
    post(&host, path, "one", "{}").await.assert_status(200);
    let plugin = "counted".parse().unwrap();
    host.plugins().remove(&plugin, true, "test").await.unwrap();
    host.deploy(&manifest("public", "required"), guest("counted"))
        .await;
    assert!(!is_replayed(
        &post(&host, path, "one", "{}").await.assert_status(200)
    ));
}
