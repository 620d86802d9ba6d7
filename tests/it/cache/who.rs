//! Nobody gets an answer that is somebody else's.

use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_answers_of_their_own_unless_the_route_says_otherwise() {
    let host = TestHost::start().await;
    let own = manifest("counted", "required", "{ ttl = \"60s\" }");
    host.deploy(&own, guest("counted")).await;
    let (ann, bob) = (
        host.user("ann@example.com", &[]).await,
        host.user("bob@example.com", &[]).await,
    );
    let of_ann = ann.get("/counted/a").await.assert_status(200).text();
    let of_bob = bob.get("/counted/a").await.assert_status(200);
    assert_eq!(status(&of_bob), "gantry; fwd=uri-miss; stored");
    assert_ne!(of_bob.text(), of_ann);
    assert_eq!(ann.get("/counted/a").await.text(), of_ann);
    assert_eq!(bob.get("/counted/a").await.text(), of_bob.text());
    host.get("/counted/a")
        .await
        .assert_problem(401, "auth.required");

    let shared = manifest("counted", "required", "{ ttl = \"60s\", shared = true }");
    host.deploy(&shared, guest("counted")).await;
    let of_ann = ann.get("/counted/a").await.text();
    assert_eq!(bob.get("/counted/a").await.text(), of_ann);
    // So that nothing of ann can be in it, the plugin does not see that it is her; nor where its answer is not kept.
    assert!(of_ann.contains("for nobody"), "{of_ann}");
    let path = "/counted/b?headers=cache-control:private";
    for _ in 0..2 {
        let alone = ann.get(path).await.assert_status(200).text();
        assert!(alone.contains("for nobody"), "{alone}");
    }
    // It is still only for those who may call the route.
    host.get("/counted/a")
        .await
        .assert_problem(401, "auth.required");

    let optional = manifest("counted", "optional", "{ ttl = \"60s\" }");
    host.deploy(&optional, guest("counted")).await;
    let of_ann = ann.get("/counted/a").await.text();
    let of_nobody = host.get("/counted/a").await.text();
    assert!(of_nobody.contains("for nobody"), "{of_nobody}");
    assert_ne!(of_nobody, of_ann);
    assert_eq!(host.get("/counted/a").await.text(), of_nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_decides_an_answer_is_in_its_key_or_is_not_seen_by_the_plugin() {
    let host = counted("{ ttl = \"60s\", vary = [\"x-vary\"] }").await;
    let of_a = get_with(&host, "/counted/a", &[("x-vary", "a")]).await;
    assert_eq!(of_a.header("vary"), Some("x-vary"));
    let of_b = get_with(&host, "/counted/a", &[("x-vary", "b")])
        .await
        .text();
    assert_ne!(of_b, of_a.text());
    assert_eq!(
        get_with(&host, "/counted/a", &[("x-vary", "a")])
            .await
            .text(),
        of_a.text()
    );
    let both = get_with(&host, "/counted/a", &[("x-vary", "a"), ("x-vary", "b")]).await;
    assert!(status(&both).contains("miss"));
    // A host that was made up is a key of its own, and one that a proxy is said to have seen is not shown.
    let poisoned = get_with(&host, "/counted/b", &[("x-forwarded-host", "evil.example")]).await;
    assert!(!poisoned.text().contains("evil"), "{}", poisoned.text());
    // Nor is anything else that is in no key, whatever it is called.
    let poisoned = get_with(&host, "/counted/d", &[("x-in", "evil.example")]).await;
    assert!(!poisoned.text().contains("evil"), "{}", poisoned.text());
    get_with(&host, "/counted/c", &[("host", "evil.example")])
        .await
        .assert_status(200);
    assert!(status(&host.get("/counted/c").await).contains("miss"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_of_another_kind_pass_the_cache_by() {
    let host = counted("{ ttl = \"60s\" }").await;
    host.get("/counted/a").await;
    for (name, value, detail) in [
        ("range", "bytes=0-1", "range"),
        ("cookie", "session=1", "cookie"),
    ] {
        let answer = get_with(&host, "/counted/a", &[(name, value)]).await;
        let expected = format!("gantry; fwd=bypass; detail={detail}");
        assert_eq!(status(&answer), expected);
    }
    let request = host.request(Method::GET, "/counted/a").body("x");
    assert_eq!(
        status(&host.send(request).await),
        "gantry; fwd=bypass; detail=body"
    );
    let answer = host.post("/counted/b", &json!(null)).await;
    assert_eq!(status(&answer), "gantry; fwd=method");
    assert_eq!(calls(&host).await, 5);

    let ignoring = manifest(
        "counted",
        "public",
        "{ ttl = \"60s\", ignore_cookies = true, vary = [\"x-vary\"] }",
    );
    host.deploy(&ignoring, guest("counted")).await;
    let first = get_with(&host, "/counted/a", &[("cookie", "session=1")]).await;
    let second = get_with(&host, "/counted/a", &[("cookie", "session=2")]).await;
    assert_eq!(first.text(), second.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_for_one_client_are_not_kept() {
    let host = counted("{ ttl = \"60s\" }").await;
    for (headers, detail) in [
        ("set-cookie:a=b", "set-cookie"),
        ("cache-control:private", "cache-control"),
        ("cache-control:max-age=9,%20no-store", "cache-control"),
        ("vary:*", "vary"),
        ("vary:accept", "vary"),
        ("content-encoding:gzip", "vary"),
    ] {
        let path = format!("/counted/a?headers={headers}");
        for _ in 0..2 {
            let request = host.request(Method::GET, &path);
            let answer = host.send(request).await.assert_status(200);
            let expected = format!("gantry; fwd=uri-miss; detail={detail}");
            assert_eq!(status(&answer), expected, "{headers}");
        }
    }
    assert_eq!(calls(&host).await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_see_every_request_and_every_answer_wherever_it_comes_from() {
    let host = TestHost::start().await;
    let filter = "schema = 1\n[plugin]\nname = \"mark\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                  [config.properties.mark]\ntype = \"string\"\ndefault = \"m\"\n";
    host.deploy(filter, guest("filter-mark")).await;
    let around = "schema = 1\nfilters = [{ use = \"plugin:mark\", on_failure = \"closed\" }]\n";
    let manifest =
        manifest("counted", "public", "{ ttl = \"60s\" }").replacen("schema = 1\n", around, 1);
    host.deploy(&manifest, guest("counted")).await;
    let first = host.get("/counted/a").await.assert_status(200);
    let second = host.get("/counted/a").await.assert_status(200);
    assert!(status(&second).contains("hit"), "{}", status(&second));
    assert_eq!(second.text(), first.text());
    assert_eq!(
        second.header("x-out"),
        Some("<m"),
        "the filter saw this answer, too, and once"
    );
    let turned = host.get("/counted/turned-back").await.assert_status(200);
    assert_eq!(turned.text(), "turned back by m");
    // What a filter makes of a request is part of what is asked for.
    let other = get_with(&host, "/counted/a", &[("x-in", "tenant")]).await;
    assert!(status(&other).contains("miss"), "{}", status(&other));
    assert_ne!(other.text(), first.text());
}
