//! Uploads that go on where they broke off (tus 1.0.0), by hand and with the client that most people use.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gantry_harness::{Answer, Client, guests};
use http::Method;
use serde_json::Value;

use super::{gallery, noise, png, usage};

/// A request of tus with these headers.
async fn tus(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let request = client
        .request(method, path)
        .header("tus-resumable", "1.0.0");
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    client.send(request.body(body)).await
}

async fn begin(client: &Client, path: &str, length: usize, metadata: &str) -> String {
    let length = length.to_string();
    let headers = [("upload-length", &*length), ("upload-metadata", metadata)];
    let answer = tus(client, Method::POST, path, &headers, Bytes::new())
        .await
        .assert_status(201);
    assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
    assert!(answer.header("upload-expires").is_some());
    answer.header("location").unwrap().to_owned()
}

async fn add(client: &Client, url: &str, offset: usize, body: Bytes) -> Answer {
    let offset = offset.to_string();
    let headers = [
        ("upload-offset", &*offset),
        ("content-type", "application/offset+octet-stream"),
    ];
    tus(client, Method::PATCH, url, &headers, body).await
}

async fn offset(client: &Client, url: &str) -> usize {
    let answer = tus(client, Method::HEAD, url, &[], Bytes::new())
        .await
        .assert_status(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.header("upload-offset").unwrap().parse().unwrap()
}

/// The status of a question how far an upload is. Answers to `HEAD` have no body that could say more.
async fn asked(client: &Client, url: &str) -> u16 {
    let request = client.request(Method::HEAD, url);
    let answer = request.header("tus-resumable", "1.0.0").send().await;
    answer.unwrap().status().as_u16()
}

fn metadata(name: &str, kind: &str) -> String {
    format!(
        "filename {},filetype {}",
        STANDARD.encode(name),
        STANDARD.encode(kind)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_stands_and_becomes_a_file() {
    let (host, ann) = gallery().await;
    let discover = host
        .send(host.request(Method::OPTIONS, "/gallery/photos"))
        .await;
    let discover = discover.assert_status(204);
    assert_eq!(discover.header("tus-version"), Some("1.0.0"));
    assert_eq!(discover.header("tus-max-size"), Some("2097152"));
    assert!(
        discover
            .header("tus-extension")
            .unwrap()
            .contains("creation")
    );

    let bytes = png(400, 300);
    let url = begin(
        &ann,
        "/gallery/photos",
        bytes.len(),
        &metadata("a.png", "image/png"),
    )
    .await;
    assert_eq!(offset(&ann, &url).await, 0);
    let third = bytes.len() / 3;
    let added = add(&ann, &url, 0, bytes.slice(..third))
        .await
        .assert_status(204);
    assert_eq!(added.header("upload-offset"), Some(&*third.to_string()));
    assert_eq!(offset(&ann, &url).await, third);
    // Not there before it is whole.
    host.get(&url).await.assert_problem(404, "blobs.not_found");

    let wrong = add(&ann, &url, 0, bytes.slice(..10)).await;
    assert_eq!(wrong.header("upload-offset"), Some(&*third.to_string()));
    assert_eq!(wrong.header("tus-resumable"), Some("1.0.0"));
    wrong.assert_problem(409, "blobs.offset_mismatch");
    let done = add(&ann, &url, third, bytes.slice(third..))
        .await
        .assert_status(204);
    let file = done.header("content-location").unwrap();

    for path in [file, &url] {
        let got = host.get(path).await.assert_status(200);
        assert_eq!(got.body, bytes);
        assert_eq!(got.header("content-type"), Some("image/png"));
        assert!(got.header("content-disposition").unwrap().contains("a.png"));
    }
    assert_eq!(offset(&ann, &url).await, bytes.len());
    add(&ann, &url, bytes.len(), Bytes::new())
        .await
        .assert_problem(409, "blobs.upload_finished");
    ann.delete(&url).await.assert_status(204);
    host.get(file).await.assert_problem(404, "blobs.not_found");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tus_does_not_allow_is_refused_and_leaves_nothing() {
    let (host, ann) = gallery().await;
    let url = begin(&ann, "/gallery/photos", 100, "").await;
    let request = ann
        .request(Method::POST, "/gallery/photos")
        .header("tus-resumable", "0.2.2");
    let old = ann.send(request.header("upload-length", "5")).await;
    assert_eq!(old.header("tus-version"), Some("1.0.0"));
    old.assert_problem(412, "tus.version_unsupported");
    let none = ann
        .request(Method::PATCH, &url)
        .header("upload-offset", "0");
    let none = ann
        .send(
            none.header("content-type", "application/offset+octet-stream")
                .body("x"),
        )
        .await;
    none.assert_problem(412, "tus.version_unsupported");
    for (headers, status, code) in [
        (
            vec![("upload-offset", "0"), ("content-type", "image/png")],
            415,
            "request.unsupported_media_type",
        ),
        (
            vec![("content-type", "application/offset+octet-stream")],
            400,
            "tus.header_invalid",
        ),
        (
            vec![
                ("upload-offset", "-1"),
                ("content-type", "application/offset+octet-stream"),
            ],
            400,
            "tus.header_invalid",
        ),
        (
            vec![
                ("upload-offset", "0"),
                ("content-type", "application/offset+octet-stream"),
                ("upload-checksum", "sha1 AAAA"),
            ],
            460,
            "tus.checksum_mismatch",
        ),
    ] {
        let answer = tus(
            &ann,
            Method::PATCH,
            &url,
            &headers,
            Bytes::from_static(b"xyz"),
        )
        .await;
        answer.assert_problem(status, code);
    }
    assert_eq!(offset(&ann, &url).await, 0);
    let longer = add(&ann, &url, 0, noise(200)).await;
    assert!(longer.status.is_client_error(), "{longer:?}");
    for (length, status, code) in [
        ("3000000", 413, "blobs.too_large"),
        ("five", 400, "tus.header_invalid"),
        ("-1", 400, "tus.header_invalid"),
    ] {
        let headers = [("upload-length", length)];
        let answer = tus(
            &ann,
            Method::POST,
            "/gallery/photos",
            &headers,
            Bytes::new(),
        )
        .await;
        answer.assert_problem(status, code);
    }
    tus(&ann, Method::POST, "/gallery/photos", &[], Bytes::new())
        .await
        .assert_problem(400, "tus.header_invalid");

    tus(&ann, Method::DELETE, &url, &[], Bytes::new())
        .await
        .assert_status(204);
    assert_eq!(asked(&ann, &url).await, 404);
    add(&ann, &url, 0, noise(5))
        .await
        .assert_problem(404, "blobs.upload_not_found");

    // A page in the clothes of an image is found out when it is whole, and gone.
    let page = Bytes::from_static(b"<!doctype html><script>alert(1)</script>");
    let url = begin(
        &ann,
        "/gallery/photos",
        page.len(),
        &metadata("a.png", "image/png"),
    )
    .await;
    add(&ann, &url, 0, page)
        .await
        .assert_problem(415, "blobs.type_mismatch");
    host.get(&url).await.assert_problem(404, "blobs.not_found");
    let kept = usage(&host, "photos").await;
    assert_eq!((kept.objects, kept.uploads, kept.reserved_bytes), (0, 0, 0));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_on_with_what_somebody_else_began() {
    let (host, ann) = gallery().await;
    let bob = host.user("bob@example.com", &[]).await;
    for path in ["/gallery/photos", "/gallery/papers"] {
        let url = begin(&ann, path, 100, "").await;
        add(&bob, &url, 0, noise(10))
            .await
            .assert_problem(404, "blobs.upload_not_found");
        let gone = tus(&bob, Method::DELETE, &url, &[], Bytes::new()).await;
        gone.assert_problem(404, "blobs.upload_not_found");
        assert_eq!(asked(&host, &url).await, 401);
        assert_eq!(asked(&bob, &url).await, 404);
        assert_eq!(offset(&ann, &url).await, 0);
        // An upload is where it began and nowhere else.
        let elsewhere = url
            .replace("photos", "papers")
            .replace("/papers/", "/houses/7/plans/");
        add(&ann, &elsewhere, 0, noise(10))
            .await
            .assert_problem(404, "blobs.upload_not_found");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_may_begin_with_bytes_and_without_a_length() {
    let (host, ann) = gallery().await;
    let stream = ("content-type", "application/offset+octet-stream");
    let headers = [("upload-length", "5"), stream];
    let whole = tus(
        &ann,
        Method::POST,
        "/gallery/papers",
        &headers,
        Bytes::from_static(b"hello"),
    )
    .await;
    let whole = whole.assert_status(201);
    assert_eq!(whole.header("upload-offset"), Some("5"));
    let file = whole.header("content-location").unwrap();
    assert_eq!(ann.get(file).await.assert_status(200).text(), "hello");

    let headers = [("upload-defer-length", "1")];
    let begun = tus(
        &ann,
        Method::POST,
        "/gallery/papers",
        &headers,
        Bytes::new(),
    )
    .await;
    let url = begun
        .assert_status(201)
        .header("location")
        .unwrap()
        .to_owned();
    add(&ann, &url, 0, Bytes::from_static(b"hel"))
        .await
        .assert_status(204);
    let head = tus(&ann, Method::HEAD, &url, &[], Bytes::new())
        .await
        .assert_status(200);
    assert_eq!(head.header("upload-defer-length"), Some("1"));
    let sum = format!("sha1 {}", "qvTGHdzF6KLavt4PO0gs2a6pQ00=");
    let headers = [
        ("upload-offset", "0"),
        ("upload-length", "5"),
        ("upload-checksum", &*sum),
        stream,
    ];
    let wrong = tus(
        &ann,
        Method::PATCH,
        &url,
        &headers,
        Bytes::from_static(b"hello"),
    )
    .await;
    wrong.assert_problem(409, "blobs.offset_mismatch");
    let headers = [("upload-offset", "3"), ("upload-length", "5"), stream];
    let done = tus(
        &ann,
        Method::PATCH,
        &url,
        &headers,
        Bytes::from_static(b"lo"),
    )
    .await;
    let done = done.assert_status(204);
    assert_eq!(
        ann.get(done.header("content-location").unwrap())
            .await
            .text(),
        "hello"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_that_most_people_use_resumes_and_finishes() {
    let Some(tools) = guests::tus_client() else {
        return;
    };
    let (host, ann) = gallery().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("photo.png");
    let bytes = png(900, 700);
    std::fs::write(&file, &bytes).unwrap();
    let request = ann.request(Method::GET, "/").build().unwrap();
    let token = request.headers()["authorization"]
        .to_str()
        .unwrap()
        .to_owned();
    let token = token.trim_start_matches("Bearer ");
    let (chunk, stop) = (bytes.len() / 7, bytes.len() / 2);
    let output = tokio::process::Command::new("node")
        .arg(guests::root().join("tests/tus/upload.mjs"))
        .arg(tools)
        .arg(format!("http://{}/gallery/photos", host.app().address))
        .arg(token)
        .arg(&file)
        .arg(chunk.to_string())
        .arg(stop.to_string())
        .output()
        .await
        .expect("node is an executable");
    let text = String::from_utf8_lossy(&output.stdout);
    let told: Value =
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(output.status.success(), "{told}");
    assert_eq!(told["broke"], true, "{told}");
    assert_eq!(told["found"], 1, "{told}");
    let requests = told["requests"].as_array().unwrap();
    assert_eq!(
        requests.iter().filter(|method| *method == "POST").count(),
        1,
        "{told}"
    );
    assert!(requests.iter().any(|method| method == "HEAD"), "{told}");
    let url = told["url"].as_str().unwrap();
    let url = &url[url.find("/gallery").unwrap()..];
    for path in [url, told["file"].as_str().unwrap()] {
        let got = host.get(path).await.assert_status(200);
        assert_eq!(got.body, bytes);
        assert!(
            got.header("content-disposition")
                .unwrap()
                .contains("photo.png")
        );
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_last_request_did_not_end_is_whole_for_who_asks() {
    let (host, ann) = gallery().await;
    let bytes = png(40, 30);
    let url = begin(
        &ann,
        "/gallery/photos",
        bytes.len(),
        &metadata("a.png", "image/png"),
    )
    .await;
    // As a host leaves it that dies between the last byte and the file.
    let bucket = gantry::services::blobs::BucketId {
        plugin: "gallery".parse().unwrap(),
        label: "photos".parse().unwrap(),
    };
    let id = url.split_once('~').unwrap().1.parse().unwrap();
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes.clone())]);
    let appended = host.app().blobs.append(&bucket, id, 0, body);
    assert!(appended.await.unwrap().finished.is_none());
    host.get(&url).await.assert_problem(404, "blobs.not_found");
    assert_eq!(offset(&ann, &url).await, bytes.len());
    let got = host.get(&url).await.assert_status(200);
    assert_eq!(got.body, bytes);
    host.stop().await;
}
