//! Links that are good without a login, for what they say and until they end.

use gantry_harness::{TestHost, guests::guest};
use http::Method;
use serde_json::{Value, json};

use super::{HEAD, gallery, noise, png, send, sent};

#[tokio::test(flavor = "multi_thread")]
async fn a_link_gives_one_file_to_whoever_has_it_until_it_ends() {
    let (host, ann) = gallery().await;
    let bytes = noise(1 << 20);
    let url = sent(
        &ann,
        "/gallery/papers",
        "application/octet-stream",
        bytes.clone(),
    )
    .await;
    let made = ann
        .post(&format!("{url}/link"), &json!({ "expires_in_s": 2 }))
        .await;
    let link: Value = made.assert_status(201).json();
    let path = link["url"].as_str().unwrap().to_owned();
    assert!(path.starts_with("/_gantry/blobs/gallery/papers/"), "{path}");

    let got = host.get(&path).await.assert_status(200);
    assert_eq!(got.body, bytes);
    assert_eq!(got.header("content-disposition"), Some("attachment"));
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    assert!(
        got.header("content-security-policy")
            .unwrap()
            .contains("sandbox")
    );
    let part = host
        .request(Method::GET, &path)
        .header("range", "bytes=5-9");
    assert_eq!(host.send(part).await.assert_status(206).body, bytes[5..10]);
    let head = host
        .send(host.request(Method::HEAD, &path))
        .await
        .assert_status(200);
    assert_eq!(head.header("content-length"), Some("1048576"));

    let other = sent(&ann, "/gallery/papers", "text/plain", "another").await;
    let (id, other) = (
        url.rsplit('/').next().unwrap(),
        other.rsplit('/').next().unwrap(),
    );
    let mut last = path.clone();
    let digit = last.pop().unwrap();
    last.push(if digit == '0' { '1' } else { '0' });
    for changed in [
        path.replace(id, other),
        path.replace("/papers/", "/photos/"),
        path.replace("expires=", "expires=9"),
        path.replace("access=GET", "access=PUT"),
        format!("{path}&inline=1"),
        format!("{path}&x=1"),
        last,
        path.split("&signature").next().unwrap().to_owned(),
        path.split('?').next().unwrap().to_owned(),
    ] {
        host.get(&changed)
            .await
            .assert_problem(403, "blobs.link_invalid");
    }
    for method in [Method::PUT, Method::DELETE, Method::POST, Method::PATCH] {
        let request = host.request(method, &path).body("x");
        host.send(request)
            .await
            .assert_problem(403, "blobs.link_invalid");
    }
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    host.get(&path)
        .await
        .assert_problem(403, "blobs.link_expired");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_takes_one_file_of_what_is_taken_there_once() {
    let (host, ann) = gallery().await;
    let made = ann.post("/gallery/photos/link", &json!({})).await;
    let link: Value = made.assert_status(201).json();
    let path = link["url"].as_str().unwrap();
    let put = async |kind: &str, bytes: bytes::Bytes| {
        // The connection of a body that is refused is closed.
        let host = host.on_a_connection_of_its_own();
        let request = host.request(Method::PUT, path).header("content-type", kind);
        host.send(request.body(bytes)).await
    };
    let page = "<!doctype html><script>alert(1)</script>";
    put("image/png", page.into())
        .await
        .assert_problem(415, "blobs.type_mismatch");
    put("image/png", noise(3 << 20))
        .await
        .assert_problem(413, "request.body_too_large");
    host.get(path)
        .await
        .assert_problem(403, "blobs.link_invalid");
    let told: Value = put("image/png", png(20, 10))
        .await
        .assert_status(201)
        .json();
    assert_eq!(told["id"], link["id"]);
    let url = format!("/gallery/photos/{}", told["id"].as_str().unwrap());
    assert_eq!(host.get(&url).await.assert_status(200).body, png(20, 10));
    put("image/png", png(9, 9))
        .await
        .assert_problem(409, "blobs.changed");
    assert_eq!(host.get(&url).await.assert_status(200).body, png(20, 10));
    // Nor once it has gone: who has deleted it must not find something else there.
    ann.delete(&url).await.assert_status(204);
    put("image/png", png(9, 9))
        .await
        .assert_problem(409, "blobs.changed");
    host.get(&url).await.assert_problem(404, "blobs.not_found");

    // What a link takes for somebody is theirs.
    let made = ann.post("/gallery/papers/link", &json!({})).await;
    let link: Value = made.assert_status(201).json();
    let request = host.request(Method::PUT, link["url"].as_str().unwrap());
    host.send(request.body("for ann")).await.assert_status(201);
    let url = format!("/gallery/papers/{}", link["id"].as_str().unwrap());
    assert_eq!(ann.get(&url).await.assert_status(200).text(), "for ann");
    let bob = host.user("bob@example.com", &[]).await;
    bob.get(&url).await.assert_problem(404, "blobs.not_found");
    host.stop().await;
}

const HOUSES: &str = r#"
[capabilities]
blobs = ["plans", "papers"]

[[files]]
path = "/houses/{house}/plans"
bucket = "plans"
link_ttl_max = "1h"
[files.renditions]
thumb = { width = 64 }

[[files]]
path = "/papers"
bucket = "papers"
link_ttl_max = "1h"
cors = { origins = ["https://papers.example"] }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_by_a_link_is_told_like_any_other() {
    let host = TestHost::start().await;
    host.deploy(&format!("{HEAD}{HOUSES}"), guest("hello-v1"))
        .await;
    let ann = host.user("ann@example.com", &[]).await;
    let plans = "/gallery/houses/7%20a%C3%BC/plans";
    let sent = send(&ann, plans, "image/png", png(20, 10)).await;
    let sent = sent.assert_status(201);
    let made = ann.post(&format!("{plans}/link"), &json!({})).await;
    let link: Value = made.assert_status(201).json();
    let request = host.request(Method::PUT, link["url"].as_str().unwrap());
    let request = request
        .header("content-type", "image/png")
        .header("content-disposition", "attachment; filename=\"plan.png\"");
    let put = host
        .send(request.body(png(20, 10)))
        .await
        .assert_status(201);
    let (by_post, by_link): (Value, Value) = (sent.json(), put.json());
    let keys =
        |told: &Value| -> Vec<String> { told.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&by_link), keys(&by_post));
    let url = format!("{plans}/{}", link["id"].as_str().unwrap());
    assert_eq!(by_link["url"], url);
    assert_eq!(put.header("location"), Some(&*url));
    let thumb = format!("{url}/renditions/thumb");
    assert_eq!(by_link["renditions"], json!({ "thumb": thumb }));
    assert_eq!(by_link["name"], "plan.png");
    let got = ann.get(&url).await.assert_status(200);
    assert_eq!(got.body, png(20, 10));
    assert_eq!(got.header("etag"), put.header("etag"));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_use_links_if_they_may_call_the_files() {
    let host = TestHost::start().await;
    let cors = "[cors]\norigins = [\"https://app.example\"]\n";
    host.deploy(&format!("{HEAD}{cors}{HOUSES}"), guest("hello-v1"))
        .await;
    let ann = host.user("ann@example.com", &[]).await;
    let link = async |path: &str| -> String {
        let made = ann.post(path, &json!({ "expires_in_s": 3 })).await;
        let link: Value = made.assert_status(201).json();
        link["url"].as_str().unwrap().to_owned()
    };
    let ask = async |method: Method, path: &str, origin: &str, headers: &[(&str, &str)]| {
        let request = host.request(method, path).header("origin", origin);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        host.send(request).await
    };
    let preflight = async |path: &str, origin: &str, method: &str| {
        let headers = [
            ("access-control-request-method", method),
            ("access-control-request-headers", "content-type"),
        ];
        ask(Method::OPTIONS, path, origin, &headers).await
    };
    const ALLOWED: &str = "access-control-allow-origin";
    let (app, papers) = ("https://app.example", "https://papers.example");
    for (files, own, other) in [
        ("/gallery/houses/7/plans", app, papers),
        // What an entry says stands in the place of what the plugin does.
        ("/gallery/papers", papers, app),
    ] {
        let put = link(&format!("{files}/link")).await;
        let asked = preflight(&put, own, "PUT").await.assert_status(204);
        assert_eq!(asked.header(ALLOWED), Some(own));
        let methods = asked.header("access-control-allow-methods");
        assert_eq!(methods, Some("GET, PUT"));
        let headers = asked.header("access-control-allow-headers").unwrap();
        for name in ["content-type", "content-disposition", "range"] {
            assert!(headers.split(", ").any(|known| known == name), "{headers}");
        }
        assert_eq!(asked.header("access-control-allow-credentials"), None);
        let refused = preflight(&put, other, "PUT").await;
        assert_eq!(refused.header(ALLOWED), None);
        let request = host.request(Method::PUT, &put).header("origin", own);
        let taken = host.send(request.body("a plan")).await.assert_status(201);
        assert_eq!(taken.header(ALLOWED), Some(own));
        let exposed = taken.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("location"), "{exposed}");

        let told: Value = taken.json();
        let get = link(&format!("{}/link", told["url"].as_str().unwrap())).await;
        for (origin, wanted) in [(own, Some(own)), (other, None), ("null", None)] {
            let given = ask(Method::GET, &get, origin, &[("range", "bytes=0-1")]).await;
            let given = given.assert_status(206);
            assert_eq!(given.text(), "a ");
            assert_eq!(given.header(ALLOWED), wanted, "{origin}");
            let mut varies = given.headers.get_all("vary").iter();
            assert!(varies.any(|value| value == "Origin"), "{origin}");
        }
        // A page learns why not.
        let cut = get.split("&signature").next().unwrap();
        let refused = ask(Method::GET, cut, own, &[]).await;
        assert_eq!(refused.header(ALLOWED), Some(own));
        refused.assert_problem(403, "blobs.link_invalid");
        tokio::time::sleep(std::time::Duration::from_millis(3100)).await;
        let refused = ask(Method::GET, &get, own, &[]).await;
        assert_eq!(refused.header(ALLOWED), Some(own));
        refused.assert_problem(403, "blobs.link_expired");
    }
    let get = link("/gallery/papers/link").await;
    // Neither is there anything for buckets that the plugin does not have.
    for path in [
        get.replace("/papers/", "/letters/"),
        get.replace("/gallery/", "/shop/"),
        "/_gantry/blobs/x".to_owned(),
    ] {
        let refused = preflight(&path, papers, "GET").await;
        assert_eq!(refused.header(ALLOWED), None);
        refused.assert_problem(403, "blobs.link_invalid");
    }
    let path = "/_gantry/api/v1/plugins/gallery/grants/blobs:papers";
    host.admin().delete(path).await.assert_status(204);
    let refused = preflight(&get, papers, "GET").await;
    assert_eq!(refused.header(ALLOWED), None);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_rule_says_so_no_page_of_another_origin_uses_a_link() {
    let (host, ann) = gallery().await;
    let url = sent(&ann, "/gallery/papers", "text/plain", "a paper").await;
    let made = ann.post(&format!("{url}/link"), &json!({})).await;
    let link: Value = made.assert_status(201).json();
    let link = link["url"].as_str().unwrap();
    let from = |method| {
        let request = host.request(method, link);
        request.header("origin", "https://app.example")
    };
    let asked = from(Method::OPTIONS).header("access-control-request-method", "GET");
    for (request, status) in [(from(Method::GET), 200), (asked, 403)] {
        let answer = host.send(request).await.assert_status(status);
        let names = answer.headers.keys();
        let mut cors = names.filter(|name| name.as_str().starts_with("access-control-"));
        assert_eq!(cors.next(), None);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_made_for_who_may_and_no_longer_than_the_manifest_allows() {
    let (host, ann) = gallery().await;
    let url = sent(&ann, "/gallery/papers", "text/plain", "a paper").await;
    let order = format!("{url}/link");
    for (body, status, code) in [
        (
            json!({ "expires_in_s": 3601 }),
            400,
            "blobs.link_ttl_invalid",
        ),
        (json!({ "expires_in_s": 0 }), 400, "blobs.link_ttl_invalid"),
        (json!({ "expires": 5 }), 422, "request.invalid_body"),
    ] {
        ann.post(&order, &body).await.assert_problem(status, code);
    }
    host.post(&order, &json!({}))
        .await
        .assert_problem(401, "auth.required");
    let plans = sent(&ann, "/gallery/houses/7/plans", "text/plain", "a plan").await;
    let none = ann.post(&format!("{plans}/link"), &json!({})).await;
    none.assert_problem(404, "route.not_found");

    // A link is worth no more than what the plugin has.
    let link: Value = ann.post(&order, &json!({})).await.assert_status(201).json();
    let link = link["url"].as_str().unwrap();
    host.get(link).await.assert_status(200);
    let path = "/_gantry/api/v1/plugins/gallery/grants/blobs:papers";
    host.admin().delete(path).await.assert_status(204);
    host.get(link)
        .await
        .assert_problem(502, "capability.not_granted");
    send(&ann, "/gallery/papers", "text/plain", "x")
        .await
        .assert_problem(502, "capability.not_granted");
    host.stop().await;
}
