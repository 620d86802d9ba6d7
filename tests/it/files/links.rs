//! Links that are good without a login, for what they say and until they end.

use http::Method;
use serde_json::{Value, json};

use super::{gallery, noise, png, send, sent};

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

#[tokio::test(flavor = "multi_thread")]
async fn links_are_made_for_who_may_and_no_longer_than_the_manifest_allows() {
    let (host, ann) = gallery().await;
    let url = sent(&ann, "/gallery/papers", "text/plain", "a paper").await;
    let order = format!("{url}/link");
    for (body, code) in [
        (json!({ "expires_in_s": 3601 }), "blobs.link_ttl_invalid"),
        (json!({ "expires_in_s": 0 }), "blobs.link_ttl_invalid"),
        (json!({ "expires": 5 }), "request.invalid_json"),
    ] {
        ann.post(&order, &body).await.assert_problem(400, code);
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
        .assert_problem(403, "capability.not_granted");
    send(&ann, "/gallery/papers", "text/plain", "x")
        .await
        .assert_problem(403, "capability.not_granted");
    host.stop().await;
}
