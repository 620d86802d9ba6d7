//! Versions of an API beside one another: which one a request means, what is said about old ones, and when they are gone.

use gantry_harness::{TestHost, guests::guest};
use http::Method;
use serde_json::Value;

const HEAD: &str = r#"
schema = 1
[plugin]
name = "shop"
version = "1.0.0"
[component]
path = "plugin.wasm"
"#;

/// Two versions, of which the first is deprecated, with these dates.
fn manifest(versioning: &str, deprecation: &str) -> String {
    format!(
        r#"{HEAD}
[versioning]
{versioning}
[[version]]
name = "v1"
deprecation = {{ {deprecation} }}
[[version]]
name = "v2"
[[route]]
method = "GET"
path = "/orders/{{id}}"
version = ["v1", "v2"]
auth = "optional"
[[route]]
method = "POST"
path = "/orders"
version = "v2"
auth = "public"
[[route]]
method = "GET"
path = "/health"
auth = "public"
"#
    )
}

const NOTICE: &str = "since = \"2026-06-01\", sunset = \"2999-06-30\", link = \"https://example.com/v2\", successor = \"v2\"";

#[tokio::test(flavor = "multi_thread")]
async fn versions_in_the_path_stand_beside_one_another_and_old_ones_say_so() {
    let host = TestHost::start().await;
    host.deploy(&manifest("", NOTICE), guest("echo")).await;
    let old = host
        .get("/shop/v1/orders/a%20b?x=1")
        .await
        .assert_status(200);
    assert_eq!(old.header("deprecation"), Some("@1780272000"));
    assert_eq!(old.header("sunset"), Some("Sun, 30 Jun 2999 23:59:59 GMT"));
    let links: Vec<_> = old.headers.get_all("link").iter().collect();
    assert_eq!(
        links,
        [
            "<https://example.com/v2>; rel=\"deprecation\"; type=\"text/html\"",
            "<https://example.com/v2>; rel=\"sunset\"; type=\"text/html\"",
            "</shop/v2/orders/a%20b>; rel=\"successor-version\"",
        ]
    );
    assert_eq!(old.header("vary"), None, "the path says it");
    let seen = old.json::<Value>();
    assert_eq!(seen["route"], "/v1/orders/{id}");
    assert!(
        seen["headers"]
            .to_string()
            .contains("[\"api-version\",\"v1\"]"),
        "{seen}"
    );
    let new = host.get("/shop/v2/orders/7").await.assert_status(200);
    assert_eq!(new.header("deprecation"), None);
    assert_eq!(new.header("link"), None);
    host.get("/shop/orders/7")
        .await
        .assert_problem(404, "route.not_found");
    host.get("/shop/v3/orders/7")
        .await
        .assert_problem(404, "route.not_found");
    let answer = host
        .send(host.request(Method::POST, "/shop/v1/orders"))
        .await;
    answer.assert_problem(404, "route.not_found");
    host.get("/shop/health").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_chooses_the_version_and_the_plugin_is_told_by_the_host() {
    let host = TestHost::start().await;
    let versioning = "by = \"header\"\nheader = \"x-api\"\ndefault = \"v2\"";
    host.deploy(&manifest(versioning, NOTICE), guest("echo"))
        .await;
    let ask = async |path: &str, version: Option<&str>| {
        let request = host.request(Method::GET, path);
        let request = match version {
            Some(version) => request.header("x-api", version),
            None => request,
        };
        host.send(request).await
    };
    for (version, wanted) in [(Some("v1"), "v1"), (Some("v2"), "v2"), (None, "v2")] {
        let answer = ask("/shop/orders/7", version).await.assert_status(200);
        assert_eq!(answer.header("x-api"), Some(wanted));
        assert_eq!(answer.header("vary"), Some("x-api"));
        assert_eq!(answer.header("deprecation").is_some(), wanted == "v1");
        assert_eq!(answer.header("link").is_some(), wanted == "v1");
        let seen = answer.json::<Value>()["headers"].to_string();
        assert!(
            seen.contains(&format!("[\"x-api\",\"{wanted}\"]")),
            "{seen}"
        );
    }
    ask("/shop/orders/7", Some("v9"))
        .await
        .assert_problem(400, "route.version_unknown");
    // A route without a version answers whatever is asked for, and no client makes the plugin believe in one.
    let answer = ask("/shop/health", Some("v9")).await.assert_status(200);
    assert!(!answer.json::<Value>()["headers"].to_string().contains("v9"));
    let post = |version: &str| {
        let request = host.request(Method::POST, "/shop/orders");
        host.send(request.header("x-api", version))
    };
    post("v2").await.assert_status(200);
    post("v1").await.assert_problem(404, "route.not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_type_chooses_the_version_and_one_must_be_named_where_there_is_no_default() {
    let host = TestHost::start().await;
    let versioning = "by = \"media-type\"\nmedia_type = \"application/vnd.shop\"";
    host.deploy(&manifest(versioning, NOTICE), guest("echo"))
        .await;
    let ask = async |accept: &str| {
        let request = host.request(Method::GET, "/shop/orders/7");
        host.send(request.header("accept", accept)).await
    };
    let answer = ask("application/vnd.shop.v1+json").await.assert_status(200);
    assert_eq!(answer.header("api-version"), Some("v1"));
    assert_eq!(answer.header("vary"), Some("accept"));
    ask("application/vnd.shop.v7+json")
        .await
        .assert_problem(406, "route.version_unknown");
    ask("*/*")
        .await
        .assert_problem(400, "route.version_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_sunset_a_version_is_gone_and_whoever_still_calls_it_is_known() {
    let host = TestHost::start().await;
    let over = "since = \"2020-01-01\", sunset = \"2021-01-01\", successor = \"v2\"";
    host.deploy(&manifest("", over), guest("echo")).await;
    let gone = host.get("/shop/v1/orders/7").await;
    let gone = gone.assert_problem(410, "route.gone");
    assert_eq!(gone.header("sunset"), Some("Fri, 01 Jan 2021 23:59:59 GMT"));
    assert_eq!(
        gone.header("link"),
        Some("</shop/v2/orders/7>; rel=\"successor-version\"")
    );
    assert!(
        gone.json::<Value>()["detail"]
            .as_str()
            .unwrap()
            .contains("/shop/v2/orders/7")
    );
    let request = serde_json::json!({ "method": "GET", "path": "/shop/v1/orders/7" });
    let explained = host.admin().post("/_gantry/api/v1/explain", &request).await;
    assert_eq!(
        explained.assert_status(200).json::<Value>()["code"],
        "route.gone"
    );
    let ann = host.user("ann@example.com", &[]).await;
    for _ in 0..2 {
        ann.get("/shop/v1/orders/7")
            .await
            .assert_problem(410, "route.gone");
    }
    ann.get("/shop/v2/orders/7").await.assert_status(200);
    // Wrong credentials do not hide that it is gone.
    let stranger = host.with_token("nonsense");
    stranger
        .get("/shop/v1/orders/7")
        .await
        .assert_problem(410, "route.gone");
    let admin = host.admin();
    let calls = admin.get("/_gantry/api/v1/plugins/shop/deprecated").await;
    let calls = calls.assert_status(200).json::<Value>();
    let calls = calls["items"].as_array().unwrap();
    let of = |kind: &str| {
        let mut found = calls.iter().filter(|call| call["kind"] == kind);
        found.next().unwrap()
    };
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(
        (&of("anonymous")["calls"], &of("user")["calls"]),
        (&2.into(), &2.into())
    );
    assert_eq!(of("user")["route"], "/v1/orders/{id}");
    assert_eq!(of("user")["version"], "v1");
    let metrics = admin.get("/metrics").await.text();
    let line = "gantry_deprecated_requests_total{caller=\"user\",plugin=\"shop\",route=\"/v1/orders/{id}\",version=\"v1\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    host.get("/_gantry/api/v1/plugins/shop/deprecated")
        .await
        .assert_problem(401, "auth.required");
    let routes = admin.get("/_gantry/api/v1/routes").await.json::<Value>();
    let routes = routes["items"].as_array().unwrap();
    let old = routes
        .iter()
        .find(|route| route["path"] == "/shop/v1/orders/{id}");
    assert_eq!(old.unwrap()["sunset_at"], "2021-01-01T23:59:59Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_can_let_old_versions_live_and_a_single_route_has_a_successor_of_its_own() {
    let host = TestHost::build()
        .with(|config| config.plugins.versions.ends_at_sunset = false)
        .start()
        .await;
    let manifest = format!(
        r#"{HEAD}
[[route]]
method = "GET"
path = "/lines/{{id}}"
auth = "public"
deprecation = {{ since = "2020-01-01", sunset = "2021-01-01", successor = "/orders/{{id}}/lines" }}
"#
    );
    host.deploy(&manifest, guest("echo")).await;
    let answer = host.get("/shop/lines/a%20b").await.assert_status(200);
    assert_eq!(answer.header("deprecation"), Some("@1577836800"));
    assert_eq!(
        answer.header("link"),
        Some("</shop/orders/a%20b/lines>; rel=\"successor-version\"")
    );
    // What a plugin says of its age does not count.
    assert_eq!(answer.headers.get_all("sunset").iter().count(), 1);
}
