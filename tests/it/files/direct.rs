//! Files in one request: taken as they come, or not at all.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use gantry_harness::TestHost;
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{deploy, gallery, noise, png, send, sent, usage};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_is_what_comes_back() {
    let (host, ann) = gallery().await;
    let bytes = png(120, 80);
    let request = ann
        .request(Method::POST, "/gallery/photos")
        .header("content-type", "image/png")
        .header(
            "content-disposition",
            "attachment; filename*=UTF-8''caf%C3%A9.png",
        )
        .body(bytes.clone());
    let answer = ann.send(request).await.assert_status(201);
    let told: Value = answer.json();
    assert_eq!(told["name"], "café.png");
    assert_eq!(told["type"], "image/png");
    assert_eq!(told["bytes"], bytes.len());
    let url = told["url"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(url));

    let got = host.get(url).await.assert_status(200);
    assert_eq!(got.body, bytes);
    assert_eq!(got.header("content-type"), Some("image/png"));
    assert_eq!(
        got.header("content-disposition"),
        Some("inline; filename=\"caf_.png\"; filename*=UTF-8''caf%C3%A9.png")
    );
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(got.header("cache-control"), Some("public, no-cache"));
    assert_eq!(got.header("etag"), answer.header("etag"));
    let digest = gantry::ids::Digest::of(&bytes);
    let wanted = format!("sha-256=:{}:", STANDARD.encode(digest.as_bytes()));
    assert_eq!(got.header("repr-digest"), Some(&*wanted));
    assert_eq!(told["sha256"], digest.to_string());

    let page: Value = host.get("/gallery/photos").await.assert_status(200).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["items"][0]["url"], url);
    assert_eq!(page["next_cursor"], Value::Null);

    ann.delete(url).await.assert_status(204);
    host.get(url).await.assert_problem(404, "blobs.not_found");
    ann.delete(url).await.assert_problem(404, "blobs.not_found");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_write_sends_and_deletes() {
    let (host, ann) = gallery().await;
    let url = sent(&ann, "/gallery/photos", "image/png", png(8, 8)).await;
    send(&host, "/gallery/photos", "image/png", png(8, 8))
        .await
        .assert_problem(401, "auth.required");
    host.delete(&url).await.assert_problem(401, "auth.required");
    host.get("/gallery/papers")
        .await
        .assert_problem(401, "auth.required");
    host.get(&url).await.assert_status(200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_has_files_of_their_own_where_the_manifest_says_so() {
    let (host, ann) = gallery().await;
    let bob = host.user("bob@example.com", &[]).await;
    let admin = host.admin();
    let anns = sent(&ann, "/gallery/papers", "text/plain", "by ann").await;
    let bobs = sent(&bob, "/gallery/papers", "text/plain", "by bob").await;
    for (client, theirs, other) in [(&ann, &anns, &bobs), (&bob, &bobs, &anns)] {
        client.get(theirs).await.assert_status(200);
        let page: Value = client
            .get("/gallery/papers")
            .await
            .assert_status(200)
            .json();
        let urls: Vec<_> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| &item["url"])
            .collect();
        assert_eq!(urls, [theirs]);
        client
            .get(other)
            .await
            .assert_problem(404, "blobs.not_found");
        client
            .delete(other)
            .await
            .assert_problem(404, "blobs.not_found");
        let link = client.post(&format!("{other}/link"), &json!({})).await;
        link.assert_problem(404, "blobs.not_found");
    }
    // Who runs the host has other ways than the API of a plugin.
    admin
        .get(&anns)
        .await
        .assert_problem(404, "blobs.not_found");
    ann.get(&anns).await.assert_status(200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_one_path_plugin_or_house_are_not_found_from_another() {
    let (host, ann) = gallery().await;
    let other = "schema = 1\n[plugin]\nname = \"other\"\nversion = \"1.0.0\"\n[component]\npath = \"plugin.wasm\"\n\
                 [capabilities]\nblobs = [\"photos\"]\n[[files]]\npath = \"/photos\"\nbucket = \"photos\"\n";
    host.deploy(other, gantry_harness::guests::guest("hello-v1"))
        .await;
    let url = sent(&ann, "/gallery/houses/7/plans", "text/plain", "a plan").await;
    let id = url.rsplit('/').next().unwrap();
    for path in [
        format!("/gallery/houses/8/plans/{id}"),
        format!("/gallery/houses/%37%20/plans/{id}"),
        format!("/gallery/photos/{id}"),
        format!("/gallery/papers/{id}"),
        format!("/other/photos/{id}"),
        "/gallery/houses/7/plans/~renditions".to_owned(),
    ] {
        ann.get(&path).await.assert_problem(404, "blobs.not_found");
        ann.delete(&path)
            .await
            .assert_problem(404, "blobs.not_found");
    }
    let page: Value = ann
        .get("/gallery/houses/8/plans")
        .await
        .assert_status(200)
        .json();
    assert_eq!(page["items"], Value::Array(Vec::new()));
    ann.get(&url).await.assert_status(200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_it_says_or_not_taken_here_leaves_nothing() {
    let (host, ann) = gallery().await;
    let page = "<!doctype html><script>alert(1)</script>";
    for (kind, bytes, status, code) in [
        ("image/png", Bytes::from(page), 415, "blobs.type_mismatch"),
        (
            "text/html",
            Bytes::from(page),
            415,
            "blobs.type_not_allowed",
        ),
        (
            "application/octet-stream",
            Bytes::from(page),
            415,
            "blobs.type_not_allowed",
        ),
        ("image/jpeg", png(8, 8), 415, "blobs.type_mismatch"),
        ("no type", png(8, 8), 400, "blobs.type_invalid"),
        ("image/png", noise(3 << 20), 413, "request.body_too_large"),
    ] {
        let answer = send(&ann, "/gallery/photos", kind, bytes).await;
        answer.assert_problem(status, code);
    }
    // Without a length it is found out on the way.
    let pieces = (0..3).map(|_| Ok::<_, std::io::Error>(noise(1 << 20)));
    let request = ann
        .request(Method::POST, "/gallery/photos")
        .header("content-type", "image/png")
        .body(reqwest::Body::wrap_stream(stream::iter(pieces)));
    if let Ok(answer) = ann.try_send(request).await {
        assert!(matches!(answer.status.as_u16(), 413 | 415), "{answer:?}");
    }
    let kept = usage(&host, "photos").await;
    assert_eq!((kept.objects, kept.reserved_bytes, kept.uploads), (0, 0, 0));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_browsers_would_run_is_saved_and_never_shown() {
    let (host, ann) = gallery().await;
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>";
    for (path, kind, bytes) in [
        ("/gallery/photos", "image/svg+xml", svg),
        (
            "/gallery/papers",
            "text/html",
            "<!doctype html><script>alert(1)</script>",
        ),
        ("/gallery/papers", "text/javascript", "alert(1)"),
        ("/gallery/papers", "application/x-javascript", "alert(1)"),
        ("/gallery/papers", "text/JScript", "alert(1)"),
        ("/gallery/papers", "text/javascript1.5", "alert(1)"),
        ("/gallery/papers", "text/xsl", "<?xml version='1.0'?><x/>"),
    ] {
        let answer = send(&ann, path, kind, bytes).await;
        // A host may not take them at all; what it takes, it does not show.
        if answer.status == 415 {
            continue;
        }
        let told: Value = answer.assert_status(201).json();
        let got = ann
            .get(told["url"].as_str().unwrap())
            .await
            .assert_status(200);
        assert_eq!(got.body, bytes);
        assert_eq!(
            got.header("content-type"),
            Some("application/octet-stream"),
            "{kind}"
        );
        assert_eq!(got.header("content-disposition"), Some("attachment"));
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
        let policy = got.header("content-security-policy").unwrap();
        assert!(policy.contains("sandbox") && policy.contains("default-src 'none'"));
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let (host, ann) = gallery().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    });
    let request = ann
        .request(Method::POST, "/gallery/papers")
        .header("content-type", "application/octet-stream")
        .body(reqwest::Body::wrap_stream(body));
    let sending = tokio::spawn(request.send());
    for _ in 0..8 {
        sender.send(Ok(noise(1 << 20))).await.unwrap();
    }
    sending.abort();
    drop(sender);
    let mut kept = usage(&host, "papers").await;
    for _ in 0..100 {
        if (kept.objects, kept.reserved_bytes, kept.uploads) == (0, 0, 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        kept = usage(&host, "papers").await;
    }
    assert_eq!((kept.objects, kept.reserved_bytes, kept.uploads), (0, 0, 0));
    let page: Value = ann.get("/gallery/papers").await.assert_status(200).json();
    assert_eq!(page["items"], Value::Array(Vec::new()));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_slowly_is_cut_off() {
    let host = TestHost::build()
        .with(|config| {
            config.gateway.body_window_ms = 300;
            config.gateway.body_bytes_per_s_min = 100 << 10;
        })
        .start()
        .await;
    deploy(&host).await;
    let ann = host.user("ann@example.com", &[]).await;
    let token = ann.request(Method::GET, "/").build().unwrap();
    let token = token.headers()["authorization"]
        .to_str()
        .unwrap()
        .to_owned();
    let mut stream = tokio::net::TcpStream::connect(host.app().address)
        .await
        .unwrap();
    let head = format!(
        "POST /gallery/papers HTTP/1.1\r\nhost: h\r\nauthorization: {token}\r\ncontent-length: 100000\r\n\r\nslow"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    assert_eq!(usage(&host, "papers").await.reserved_bytes, 0);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_than_the_quota_however_many_send_at_once() {
    let host = TestHost::build()
        .with(|config| config.blobs.bytes_per_plugin_max = 10 << 20)
        .start()
        .await;
    deploy(&host).await;
    let ann = host.user("ann@example.com", &[]).await;
    let bytes = noise(1 << 20);
    let all = (0..16).map(|_| {
        let (ann, bytes) = (ann.on_a_connection_of_its_own(), bytes.clone());
        tokio::spawn(async move {
            send(&ann, "/gallery/papers", "application/octet-stream", bytes).await
        })
    });
    let mut taken = 0;
    for answer in futures_util::future::join_all(all).await {
        let answer = answer.unwrap();
        match answer.status.as_u16() {
            201 => taken += 1,
            503 => {}
            _ => drop(answer.assert_problem(507, "blobs.full")),
        }
    }
    assert!((1..=10).contains(&taken), "{taken}");
    let kept = usage(&host, "papers").await;
    assert_eq!((kept.objects, kept.bytes), (taken, taken << 20));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_in_pages() {
    let (host, ann) = gallery().await;
    let mut wanted = Vec::new();
    for number in 0..5 {
        wanted.push(
            sent(
                &ann,
                "/gallery/houses/7/plans",
                "text/plain",
                format!("plan {number}"),
            )
            .await,
        );
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/gallery/houses/7/plans?limit=2&cursor={cursor}");
        let page: Value = ann.get(&path).await.assert_status(200).json();
        let items = page["items"].as_array().unwrap();
        found.extend(
            items
                .iter()
                .map(|item| item["url"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, wanted);
    let path = "/gallery/houses/7/plans";
    ann.get(&format!("{path}?limit=0"))
        .await
        .assert_problem(400, "blobs.page_size_invalid");
    ann.get(&format!("{path}?cursor=!"))
        .await
        .assert_problem(400, "blobs.cursor_invalid");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_and_documents_know_the_routes_of_files() {
    let host = TestHost::start().await;
    let cors = "[cors]\norigins = [\"https://app.example.com\"]\n";
    host.deploy(
        &format!("{}{cors}{}", super::HEAD, super::FILES),
        gantry_harness::guests::guest("hello-v1"),
    )
    .await;
    let preflight = host
        .request(Method::OPTIONS, "/gallery/photos/x")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "PATCH")
        .header(
            "access-control-request-headers",
            "tus-resumable,upload-offset",
        );
    let answer = host.send(preflight).await.assert_status(204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert!(
        answer
            .header("access-control-allow-headers")
            .unwrap()
            .contains("upload-offset")
    );
    let document: Value = host
        .admin()
        .get("/api/openapi.json")
        .await
        .assert_status(200)
        .json();
    let paths = &document["paths"];
    let send = &paths["/gallery/photos"]["post"];
    assert_eq!(
        send["requestBody"]["content"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["application/octet-stream"]
    );
    assert!(
        send["responses"]["507"]["x-gantry-codes"]
            .as_array()
            .unwrap()
            .contains(&"blobs.full".into())
    );
    assert!(paths["/gallery/photos/{id}/renditions/{name}"]["get"].is_object());
    // Resumable uploads, too; strangers read of what they may do.
    assert!(paths["/gallery/photos"]["options"].is_object());
    assert!(paths["/gallery/photos/{id}"]["patch"].is_object());
    host.stop().await;
}
