//! Bodies: only a filter that asks is shown them, whole and within its bound; all others let them flow.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use gantry_harness::{TestHost, guests::guest};
use http::Method;
use serde_json::Value;

use crate::connections::http2;

use super::{CLOSED_MARK, arrived, deploy_mark, filter, filtered};

async fn deploy_abuse(host: &TestHost, before: &str, more: &str) {
    let more = format!("[capabilities]\nkv = [\"data\"]\n{more}");
    let manifest = filter("abuse", &[("before", before), ("after", "")], &more);
    host.deploy(&manifest, guest("filter-abuse")).await;
}

async fn deploy_shout(host: &TestHost, bytes_max: &str) {
    let more = format!("[filter]\nresponse_body_max = \"{bytes_max}\"\n");
    host.deploy(&filter("shout", &[], &more), guest("filter-shout"))
        .await;
}

const ABUSE: &str = "{ use = \"plugin:abuse\", on_failure = \"closed\" }";
const CLOSED_SHOUT: &str = "{ use = \"plugin:shout\", on_failure = \"closed\" }";
const OPEN_SHOUT: &str = "{ use = \"plugin:shout\", on_failure = \"open\" }";

#[tokio::test(flavor = "multi_thread")]
async fn only_a_filter_that_asks_for_a_body_is_shown_it_and_may_change_it() {
    let host = TestHost::start().await;
    deploy_abuse(&host, "", "").await;
    let manifest = filtered("echo", &[("/{*rest}", ABUSE)], "");
    host.deploy(&manifest, guest("echo")).await;
    let post = async |path: &str, body: &'static str| {
        let request = host.request(Method::POST, path).body(body);
        host.send(request).await
    };
    let answer = post("/echo/x", "six by").await.assert_status(200);
    assert_eq!(arrived(&answer, "x-body-seen").as_deref(), Some("0"));

    let asks = "[filter]\nrequest_body_max = \"16B\"\n";
    deploy_abuse(&host, "", asks).await;
    let answer = post("/echo/x", "six by").await.assert_status(200);
    assert_eq!(arrived(&answer, "x-body-seen").as_deref(), Some("6"));
    assert_eq!(answer.json::<Value>()["body_bytes"], 6);
    // What a filter takes is what the route takes.
    let refused = post("/echo/x", "a body of more than sixteen bytes").await;
    refused.assert_problem(413, "request.body_too_large");

    deploy_abuse(&host, "body", asks).await;
    let answer = post("/echo/raw", "six by").await.assert_status(200);
    assert_eq!(answer.text(), "another body");
    let answer = post("/echo/x", "six by").await.assert_status(200);
    assert_eq!(arrived(&answer, "content-length").as_deref(), Some("12"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_changed_as_a_whole_and_one_that_is_too_long_is_not() {
    let host = TestHost::start().await;
    deploy_shout(&host, "1KiB").await;
    let routes = [("/{*rest}", CLOSED_SHOUT), ("/open/{*rest}", OPEN_SHOUT)];
    host.deploy(&filtered("echo", &routes, ""), guest("echo"))
        .await;
    let manifest = filtered("open", &[("/raw", OPEN_SHOUT)], "");
    host.deploy(&manifest, guest("echo")).await;
    let post = async |path: &str, body: String| {
        let request = host.request(Method::POST, path).body(body);
        host.send(request).await
    };
    let answer = post("/echo/raw", "some text".to_owned())
        .await
        .assert_status(200);
    assert_eq!(answer.text(), "SOME TEXT");
    assert_eq!(answer.header("content-length"), Some("9"));
    let long = "x".repeat(1025);
    let refused = post("/echo/raw", long.clone()).await;
    let refused = refused.assert_problem(502, "filter.body_too_large");
    assert!(
        refused.text().contains("the filter `shout`"),
        "{}",
        refused.text()
    );
    let answer = post("/open/raw", long.clone()).await.assert_status(200);
    assert_eq!(answer.text(), long);
    assert_eq!(answer.header("x-shouted"), None);
}

async fn streaming(route: &str, filters: &str) -> TestHost {
    let host = TestHost::start().await;
    deploy_mark(&host, "mark").await;
    deploy_shout(&host, "100B").await;
    let manifest = filtered("stream-02", &[("/{*rest}", filters)], "");
    let manifest = manifest.replace("[[route]]\n", &format!("[[route]]\n{route}\n"));
    host.deploy(&manifest, guest("stream-02")).await;
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_flow_through_filters_that_do_not_ask_for_them() {
    let host = streaming("body_bytes_max = \"8MiB\"", CLOSED_MARK).await;
    let began = Instant::now();
    let response = host.request(Method::GET, "/stream-02/events?n=20").send();
    let mut response = response.await.unwrap();
    assert_eq!(response.headers()["x-out"], "<mark");
    let first = response.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"data: "), "{first:?}");
    let first_after = began.elapsed();
    while response.chunk().await.unwrap().is_some() {}
    assert!(first_after < began.elapsed() / 2, "{first_after:?}");

    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = (0..4).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
    let body = reqwest::Body::wrap_stream(stream::iter(pieces));
    let request = host.request(Method::POST, "/stream-02/count").body(body);
    let answer = host.send(request).await.assert_status(200);
    assert_eq!(answer.text(), format!("{}\n", 4 << 20));
    assert_eq!(answer.header("x-out"), Some("<mark"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_gathered_for_who_asks_for_it_and_goes_on_where_that_may_fail() {
    let host = streaming("timeout = \"2s\"\nstream = \"60s\"", CLOSED_SHOUT).await;
    let answer = host.get("/stream-02/events?n=3").await.assert_status(200);
    assert_eq!(answer.text(), "DATA: 0\n\nDATA: 1\n\nDATA: 2\n\n");
    let refused = host.get("/stream-02/events?n=30").await;
    refused.assert_problem(502, "filter.body_too_large");
    // Nobody waits for the end of what has none.
    let refused = host.get("/stream-02/silent").await;
    refused.assert_problem(502, "filter.body_too_large");
    let refused = host.get("/stream-02/trap").await;
    refused.assert_problem(502, "plugin.failed");

    let manifest = filtered("stream-02", &[("/{*rest}", OPEN_SHOUT)], "");
    host.deploy(&manifest, guest("stream-02")).await;
    let answer = host.get("/stream-02/events?n=30").await.assert_status(200);
    let expected: String = (0..30).map(|n| format!("data: {n}\n\n")).collect();
    assert_eq!(answer.text(), expected);
    assert_eq!(answer.header("x-shouted"), None);
    host.until_in_progress(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_a_filter_has_waited_for_is_counted_until_its_client_takes_it() {
    let host = TestHost::build()
        .with(|config| config.gateway.answers_bytes_per_client_max = 1 << 20)
        .start()
        .await;
    deploy_abuse(&host, "", "[filter]\nresponse_body_max = \"4MiB\"\n").await;
    let manifest = filtered("stream-02", &[("/{*rest}", ABUSE)], "");
    host.deploy(&manifest, guest("stream-02")).await;
    let path = "/stream-02/download?n=3";
    let answer = host.get(path).await.assert_status(200);
    assert_eq!(answer.body.len(), 3 << 20);
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        // One that takes nothing of its answer. It can come while the last one is still on its way.
        let idle = http2(&host, path, 0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let answer = host.get(path).await;
        if answer.status == 503 {
            answer.assert_problem(503, "host.saturated");
            drop(idle);
            break;
        }
        assert!(Instant::now() < until, "what waits is not counted");
    }
    while host.get(path).await.status != 200 {
        assert!(Instant::now() < until, "its part does not come back");
    }
}
