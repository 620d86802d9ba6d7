//! Answers that are given out again: to whom, until when, and what it takes that they are not.

mod alike;
mod purge;
mod shared;
mod who;

use gantry_harness::{Answer, Client, TestHost, guests::guest};
use http::Method;

/// A plugin whose calls are counted, with this `cache` on all its routes but those that control it.
fn manifest(name: &str, auth: &str, cache: &str) -> String {
    let route = |path: &str, auth: &str, more: &str| {
        format!(
            "[[route]]\nmethod = [\"GET\", \"POST\"]\npath = \"{path}\"\nauth = \"{auth}\"\n{more}\n"
        )
    };
    format!(
        "schema = 1\n[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
         [capabilities]\nkv = [\"counts\"]\n{}{}{}{}",
        route("/calls", "public", ""),
        route("/mode", "public", ""),
        route("/items/{id}", auth, &format!("cache = {cache}")),
        route("/{*rest}", auth, &format!("cache = {cache}")),
    )
}

async fn counted(cache: &str) -> TestHost {
    let host = TestHost::start().await;
    host.deploy(&manifest("counted", "public", cache), guest("counted"))
        .await;
    host
}

async fn calls(client: &Client) -> u64 {
    let answer = client.get("/counted/calls").await.assert_status(200);
    answer.text().parse().unwrap()
}

fn status(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or_default()
}

async fn get_with(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.request(Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_out_again_and_says_so() {
    let host = counted("{ ttl = \"60s\" }").await;
    let first = host.get("/counted/a?q=1").await.assert_status(200);
    assert_eq!(status(&first), "gantry; fwd=uri-miss; stored");
    let second = host.get("/counted/a?q=1").await.assert_status(200);
    assert!(
        status(&second).starts_with("gantry; hit; ttl="),
        "{}",
        status(&second)
    );
    assert_eq!(second.text(), first.text());
    assert_eq!(second.header("content-type"), first.header("content-type"));
    let age: u64 = second.header("age").unwrap().parse().unwrap();
    assert!(age < 30, "{age}");
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"));
    let again = host.get("/counted/%61?q=1").await;
    assert_eq!(again.text(), first.text(), "the same path in other letters");
    for other in [
        "/counted/a?q=2",
        "/counted/a",
        "/counted/a?",
        "/counted/b?q=1",
    ] {
        assert_ne!(host.get(other).await.text(), first.text(), "{other}");
    }
    assert_eq!(calls(&host).await, 5);
    let request = host.request(Method::HEAD, "/counted/a?q=1");
    let head = host.send(request).await.assert_status(200);
    assert!(status(&head).contains("hit"), "{}", status(&head));
    assert!(head.body.is_empty());
    let metrics = host.admin().get("/metrics").await.text();
    for line in [
        "gantry_cache_requests_total{plugin=\"counted\",result=\"hit\",route=\"/{*rest}\"} 3",
        "gantry_cache_requests_total{plugin=\"counted\",result=\"miss\",route=\"/{*rest}\"} 5",
        "gantry_cache_entries{plugin=\"counted\"} 5",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_an_answer_already_is_told_that_it_is_still_good() {
    let host = counted("{ ttl = \"60s\" }").await;
    let first = host.get("/counted/a").await.assert_status(200);
    let tag = first.header("etag").unwrap().to_owned();
    assert!(
        tag.starts_with('"') && tag.len() > 20,
        "a strong one: {tag}"
    );
    let same = get_with(&host, "/counted/a", &[("if-none-match", &tag)]).await;
    let same = same.assert_status(304);
    assert!(same.body.is_empty());
    assert_eq!(same.header("etag"), Some(tag.as_str()));
    assert_eq!(same.header("content-type"), None);
    get_with(&host, "/counted/a", &[("if-none-match", "\"other\"")])
        .await
        .assert_status(200);
    // The plugin is never asked whether it was changed: what it says then is for one client only.
    let fresh = get_with(&host, "/counted/b", &[("if-none-match", "\"other\"")]).await;
    assert_eq!(
        status(&fresh.assert_status(200)),
        "gantry; fwd=uri-miss; stored"
    );
    assert_eq!(calls(&host).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_given_out_while_it_is_made_anew_and_where_that_fails() {
    let cache = "{ ttl = \"1s\", stale_while_revalidate = \"2s\", stale_if_error = \"60s\" }";
    let host = counted(cache).await;
    let first = host.get("/counted/a").await.assert_status(200);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let old = host.get("/counted/a").await.assert_status(200);
    assert_eq!(old.text(), first.text());
    assert!(
        status(&old).starts_with("gantry; hit; ttl="),
        "{}",
        status(&old)
    );
    let mut new = old;
    for _ in 0..100 {
        new = host.get("/counted/a").await;
        if new.text() != first.text() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_ne!(
        new.text(),
        first.text(),
        "made anew behind the back of the client"
    );
    assert_eq!(
        calls(&host).await,
        2,
        "once, however often it was asked for"
    );

    host.get("/counted/mode?fail=on").await.assert_status(204);
    tokio::time::sleep(std::time::Duration::from_millis(3100)).await;
    let kept = host.get("/counted/a").await.assert_status(200);
    assert_eq!(kept.text(), new.text());
    assert_eq!(status(&kept), "gantry; fwd=stale; fwd-status=502");
    host.get("/counted/never-asked")
        .await
        .assert_problem(502, "plugin.failed");
    host.get("/counted/mode").await.assert_status(204);
    let better = host.get("/counted/a").await.assert_status(200);
    assert_eq!(status(&better), "gantry; fwd=stale; stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_and_a_change_of_settings_leave_nothing_of_before() {
    let host = counted("{ ttl = \"60s\" }").await;
    let first = host.get("/counted/a").await.text();
    assert_eq!(host.get("/counted/a").await.text(), first);
    let manifest = manifest("counted", "public", "{ ttl = \"60s\" }")
        + "[config]\ntype = \"object\"\nproperties.x = { type = \"string\", default = \"\" }\n";
    host.deploy(&manifest, guest("counted")).await;
    let second = host.get("/counted/a").await.text();
    assert_ne!(second, first, "another deployment");
    let values = serde_json::json!({ "x": "y" });
    let set = host.admin().set_config("counted", &values).await;
    assert!(set.status.is_success(), "{}", set.text());
    let third = host.get("/counted/a").await.text();
    assert_ne!(third, second, "other settings");
    assert_eq!(host.get("/counted/a").await.text(), third);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_bounds_what_authors_ask_for_or_turns_it_off() {
    let host = TestHost::build()
        .with(|config| config.cache.is_on = false)
        .start()
        .await;
    let cache = "{ ttl = \"60s\" }";
    host.deploy(&manifest("counted", "public", cache), guest("counted"))
        .await;
    for _ in 0..2 {
        let answer = host.get("/counted/a").await.assert_status(200);
        assert_eq!(answer.header("cache-status"), None);
    }
    assert_eq!(calls(&host).await, 2);
    let host = TestHost::build()
        .with(|config| {
            config.plugins.ceilings.cache_ms_max = 60_000;
            config.cache.entry_bytes_max = 1000;
        })
        .start()
        .await;
    let long = manifest("counted", "public", "{ ttl = \"61s\" }");
    let error = host
        .try_deploy(
            &long,
            guest("counted"),
            gantry::plugins::GrantMode::AllAsked,
        )
        .await;
    let error = format!("{:?}", error.unwrap_err());
    assert!(
        error.contains("cache.ttl") && error.contains("61s"),
        "{error}"
    );
    host.deploy(&manifest("counted", "public", cache), guest("counted"))
        .await;
    for _ in 0..2 {
        let answer = host.get("/counted/a?bytes=1001").await.assert_status(200);
        assert_eq!(status(&answer), "gantry; fwd=uri-miss; detail=length");
        assert_eq!(answer.body.len(), 1001);
    }
    host.get("/counted/a?bytes=1000").await;
    let answer = host.get("/counted/a?bytes=1000").await.assert_status(200);
    assert!(status(&answer).contains("hit"));
}
