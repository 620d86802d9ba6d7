//! What keeps the operators' surface apart from plugins and strangers.

use std::time::Duration;

use futures_util::StreamExt as _;
use gantry::{gateway::health::Access, plugins::GrantMode, plugins::Mount};
use gantry_harness::{Client, TestHost, guests::guest, pack};
use http::Method;
use serde_json::{Value, json};

use crate::manifests;

const API: &str = "/_gantry/api/v1";

/// A page of a plugin, with this content type.
async fn page(
    client: &Client,
    path: &str,
    host: &str,
    content_type: &str,
) -> gantry_harness::Answer {
    let request = client
        .request(Method::POST, path)
        .header("host", host)
        .header("content-type", content_type)
        .body("<script>steal()</script>");
    client.send(request).await.assert_status(200)
}

fn is_sandboxed(answer: &gantry_harness::Answer) -> bool {
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let policy = answer.header("content-security-policy").unwrap_or_default();
    assert!(!policy.contains("allow-same-origin"), "{policy}");
    policy.starts_with("sandbox")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_plugin_is_a_stranger_to_the_origin_it_shares_with_the_admin_api() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let bundle = pack(&manifests::open("shop"), &guest("echo"), &[]);
    let mount = Mount::new(Some("shop.example.com"), "/").unwrap();
    host.upload(bundle, GrantMode::AllAsked, Some(mount))
        .await
        .unwrap();
    let html = "text/html; charset=utf-8";
    assert!(is_sandboxed(&page(&host, "/echo/raw", "a", html).await));
    assert!(is_sandboxed(
        &page(&host, "/echo/raw", "a", "image/svg+xml").await
    ));
    assert!(!is_sandboxed(
        &page(&host, "/echo/raw", "a", "application/json").await
    ));
    // A host name of its own is an origin of its own.
    assert!(!is_sandboxed(
        &page(&host, "/raw", "shop.example.com", html).await
    ));

    let open = TestHost::build()
        .with(|config| config.gateway.pages_are_sandboxed = false)
        .start()
        .await;
    open.deploy(&manifests::open("echo"), guest("echo")).await;
    assert!(!is_sandboxed(&page(&open, "/echo/raw", "a", html).await));
    // Then nobody can tell a page of a plugin from one of the host.
    let request = open.admin().request(Method::GET, &format!("{API}/status"));
    open.send(request.header("sec-fetch-site", "same-origin"))
        .await
        .assert_problem(403, "request.cross_origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_takes_no_cookies_and_nothing_from_pages_of_others() {
    let host = TestHost::start().await;
    let bundle = pack(&manifests::open("shop"), &guest("echo"), &[]);
    let mount = Mount::new(Some("shop.example.com"), "/").unwrap();
    host.upload(bundle, GrantMode::AllAsked, Some(mount))
        .await
        .unwrap();
    let admin = host.admin();
    let status = format!("{API}/status");
    let key = std::fs::read_to_string(host.data_dir().join("admin.key")).unwrap();
    for name in ["authorization", "x-api-key", "access_token", "session"] {
        let cookie = format!("{name}={}", key.trim());
        let request = host.request(Method::GET, &status).header("cookie", cookie);
        host.send(request)
            .await
            .assert_problem(401, "auth.required");
    }
    for (name, site, origin, is_fine) in [
        ("gantry.example.com", None, None, true),
        ("gantry.example.com", Some("none"), None, true),
        ("gantry.example.com", Some("same-origin"), None, true),
        ("gantry.example.com", Some("cross-site"), None, false),
        ("gantry.example.com", Some("same-site"), None, false),
        ("gantry.example.com", None, Some("null"), false),
        (
            "gantry.example.com",
            None,
            Some("https://evil.example"),
            false,
        ),
        // The page of a plugin that has this host name.
        ("shop.example.com", Some("same-origin"), None, false),
        (
            "shop.example.com",
            None,
            Some("https://shop.example.com"),
            false,
        ),
        ("shop.example.com", None, None, true),
    ] {
        let mut request = admin.request(Method::GET, &status).header("host", name);
        if let Some(site) = site {
            request = request.header("sec-fetch-site", site);
        }
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = admin.send(request).await;
        let told = format!("{name} {site:?} {origin:?}: {}", answer.text());
        if is_fine {
            assert_eq!(answer.status, 200, "{told}");
        } else {
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (403, "request.cross_origin"),
                "{told}"
            );
        }
    }
    let answer = admin.get(&status).await;
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(answer.header("access-control-allow-origin").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_can_have_a_listener_of_their_own() {
    let host = TestHost::build()
        .with(|config| config.admin.listen = Some(([127, 0, 0, 1], 0).into()))
        .start()
        .await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    let key = std::fs::read_to_string(host.data_dir().join("admin.key")).unwrap();
    let apart = Client::new(host.app().admin_address.unwrap());
    let operator = apart.with_token(key.trim());
    let status = format!("{API}/status");

    operator.get(&status).await.assert_status(200);
    apart
        .get(&status)
        .await
        .assert_problem(401, "auth.required");
    // Pages on that listener are the host's own.
    let request = operator.request(Method::GET, &status);
    operator
        .send(request.header("sec-fetch-site", "same-origin"))
        .await
        .assert_status(200);
    let request = operator.request(Method::GET, &status);
    operator
        .send(request.header("sec-fetch-site", "same-site"))
        .await
        .assert_problem(403, "request.cross_origin");

    for path in [
        "/_gantry",
        "/_gantry/",
        &status,
        &format!("{API}/openapi.json"),
    ] {
        host.admin()
            .get(path)
            .await
            .assert_problem(404, "route.not_found");
    }
    apart
        .get("/echo/x")
        .await
        .assert_problem(404, "route.not_found");
    // What problems link to stays where the problems are.
    for client in [&*host, &apart] {
        client
            .get("/_gantry/errors/auth.required")
            .await
            .assert_status(200);
        client.get("/livez").await.assert_status(200);
    }
    let html = page(&host, "/echo/raw", "a", "text/html").await;
    assert!(!is_sandboxed(&html), "there is nothing to keep it from");

    apart.get("/metrics").await.assert_status(200);
    host.admin()
        .get("/metrics")
        .await
        .assert_problem(404, "route.not_found");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_plugins_are_for_operators() {
    let host = TestHost::start().await;
    host.deploy(&manifests::open("echo"), guest("echo")).await;
    host.get("/metrics")
        .await
        .assert_problem(401, "auth.required");
    let none = host.user("ann@example.com", &[]).await;
    none.get("/metrics")
        .await
        .assert_problem(403, "auth.permission_missing");
    let text = host.admin().get("/metrics").await.assert_status(200).text();
    assert!(text.contains("echo"), "{text}");

    // A plugin that cannot be made live any more.
    let artifacts = host.data_dir().join("artifacts");
    let host = {
        let path = std::fs::read_dir(&artifacts).unwrap().next().unwrap();
        std::fs::write(path.unwrap().path(), b"gone bad").unwrap();
        let _ = std::fs::remove_dir_all(host.data_dir().join("compiled"));
        host.restart().await
    };
    let anybody = host
        .get("/readyz")
        .await
        .assert_problem(503, "host.not_ready");
    assert!(!anybody.text().contains("echo"), "{}", anybody.text());
    assert!(anybody.text().contains("a plugin cannot be made live"));
    let operator = host.admin().get("/readyz").await;
    assert!(operator.text().contains("`echo`"), "{}", operator.text());

    let open = TestHost::build()
        .with(|config| config.metrics.access = Access::Open)
        .start()
        .await;
    open.get("/metrics").await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_logs_ends_with_the_key_it_was_opened_with() {
    let host = TestHost::start().await;
    let admin = host.admin();
    let role = json!({ "name": "reader", "permissions": ["platform.read"] });
    admin
        .post(&format!("{API}/roles"), &role)
        .await
        .assert_status(201);
    let new = json!({ "name": "watcher", "roles": ["reader"] });
    let key: Value = admin
        .post(&format!("{API}/api-keys"), &new)
        .await
        .assert_status(201)
        .json();
    let watcher = host.with_token(key["token"].as_str().unwrap());
    let path = format!("{API}/plugins/shop/logs/follow");
    let follow = async |client: &Client| {
        let response = client.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes_stream()
    };
    let mut revoked = follow(&watcher).await;
    let mut kept = follow(&admin).await;
    admin
        .delete(&format!("{API}/api-keys/{}", key["id"].as_str().unwrap()))
        .await
        .assert_status(204);
    let end = tokio::time::timeout(Duration::from_secs(5), revoked.next()).await;
    assert!(end.expect("the stream ends").is_none());
    let open = tokio::time::timeout(Duration::from_millis(1500), kept.next()).await;
    assert!(open.is_err(), "that of others goes on: {open:?}");
}
