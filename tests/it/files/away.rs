//! Files whose bytes lie on a server (S3), over HTTP: what people are told while it is away, and that nothing has to be
//! restarted when it is back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use gantry_harness::{Answer, Client, S3Server, TestHost};
use http::Method;
use serde_json::{Value, json};

use super::{deploy, noise, png, send, sent, usage};

/// Three pieces of the store, and a bit.
const BYTES: usize = 200 << 10;

/// A gallery with its files on this server, and somebody who may send.
async fn gallery_on(server: &S3Server) -> (TestHost, Client) {
    let host = TestHost::build().with(|config| {
        config.blobs = server.config();
        config.blobs.part_bytes = 64 << 10;
        // All comes from one client here.
        config.gateway.flowing_bodies_per_client_max = 100;
    });
    let host = host.start().await;
    deploy(&host).await;
    let ann = host.user("ann@example.com", &[]).await;
    (host, ann)
}

async fn ask(client: &Client, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = client.request(method, path);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_bytes_are_refused_with_a_status_and_everything_else_goes_on() {
    let mut server = S3Server::start().await;
    let (host, ann) = gallery_on(&server).await;
    host.deploy_folder("plugins/images", "/images").await;
    let bytes = noise(BYTES);
    let octets = "application/octet-stream";
    let paper = sent(&ann, "/gallery/papers", octets, bytes.clone()).await;
    let photo = sent(&ann, "/gallery/photos", "image/png", png(640, 320)).await;
    let (thumb, square) = (
        format!("{photo}/renditions/thumb"),
        format!("{photo}/renditions/square"),
    );
    let kept = ann.get(&thumb).await.assert_status(200);
    let made = ann.post(&format!("{paper}/link"), &json!({})).await;
    let link: Value = made.assert_status(201).json();
    let link = link["url"].as_str().unwrap();
    let whole = ann.get(&paper).await.assert_status(200);
    assert!(whole.body == bytes);
    let tag = whole.header("etag").unwrap().to_owned();

    server.stop().await;
    for (path, range) in [
        (&*paper, None),
        (&*paper, Some("bytes=0-9")),
        (&*paper, Some("bytes=150000-")),
        (&*photo, None),
        // One that is kept, and one that would have to be made.
        (&*thumb, None),
        (&*square, None),
        (link, None),
        (link, Some("bytes=-5")),
    ] {
        let range: Vec<_> = range.iter().map(|range| ("range", *range)).collect();
        let refused = ask(&ann, Method::GET, path, &range).await;
        assert_eq!(refused.header("retry-after"), Some("1"), "{path}");
        for header in ["etag", "content-range", "content-disposition"] {
            assert_eq!(refused.header(header), None, "{path} {range:?}");
        }
        refused.assert_problem(503, "blobs.unavailable");
    }
    // The connection of a body that is refused is closed.
    let own = ann.on_a_connection_of_its_own();
    let refused = send(&own, "/gallery/papers", octets, bytes.clone()).await;
    refused.assert_problem(503, "blobs.unavailable");
    // What needs no bytes does not hear of it.
    let page: Value = ann.get("/gallery/papers").await.assert_status(200).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let head = ask(&ann, Method::HEAD, &paper, &[])
        .await
        .assert_status(200);
    assert_eq!(head.header("content-length"), Some(&*BYTES.to_string()));
    let known = ask(&ann, Method::GET, &paper, &[("if-none-match", &tag)]).await;
    known.assert_status(304);
    let beyond = ask(&ann, Method::GET, &paper, &[("range", "bytes=9999999-")]).await;
    beyond.assert_problem(416, "blobs.range_invalid");
    ann.post(&format!("{paper}/link"), &json!({}))
        .await
        .assert_status(201);
    host.get("/gallery/").await.assert_status(200);

    server.go_on().await;
    assert!(ann.get(&paper).await.assert_status(200).body == bytes);
    assert!(host.get(link).await.assert_status(200).body == bytes);
    let again = ann.get(&thumb).await.assert_status(200);
    assert_eq!(again.body, kept.body);
    ann.get(&square).await.assert_status(200);
    let more = sent(&ann, "/gallery/papers", octets, bytes.clone()).await;
    assert!(ann.get(&more).await.assert_status(200).body == bytes);
    for url in [&paper, &more] {
        ann.delete(url).await.assert_status(204);
    }
    let left = usage(&host, "papers").await;
    assert_eq!(
        (left.objects, left.reserved_bytes, left.uploads),
        (0, 0, 0),
        "{left:?}"
    );
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_the_middle_of_traffic_costs_what_is_under_way_and_no_more() {
    let mut server = S3Server::start().await;
    let (host, ann) = gallery_on(&server).await;
    let bytes = noise(BYTES);
    let octets = "application/octet-stream";
    let url = sent(&ann, "/gallery/papers", octets, bytes.clone()).await;
    let (is_over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let upload = async |client: Client| {
        let mut kept = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            // The connection of a body that is refused is closed.
            let client = client.on_a_connection_of_its_own();
            let answer = send(&client, "/gallery/papers", octets, bytes.clone()).await;
            match answer.status.as_u16() {
                201 => kept.push(answer.json::<Value>()["url"].as_str().unwrap().to_owned()),
                _ => drop(answer.assert_problem(503, "blobs.unavailable")),
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        kept
    };
    let download = async |client: Client| {
        while !is_over.load(Ordering::Relaxed) {
            // What has begun can break off: its status cannot be taken back.
            match client.try_send(client.request(Method::GET, &url)).await {
                Ok(answer) if answer.status == 200 => assert!(answer.body == bytes),
                Ok(answer) => drop(answer.assert_problem(503, "blobs.unavailable")),
                Err(error) => assert!(error.is_body() || error.is_decode(), "{error:?}"),
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let own = || ann.on_a_connection_of_its_own();
    let list = async {
        while !is_over.load(Ordering::Relaxed) {
            let page = ann.get("/gallery/papers?limit=5").await.assert_status(200);
            assert!(!page.json::<Value>()["items"].as_array().unwrap().is_empty());
        }
    };
    let outage = async {
        let more = async |count: usize| {
            let until = done.load(Ordering::Relaxed) + count;
            while done.load(Ordering::Relaxed) < until {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        for _ in 0..3 {
            more(20).await;
            server.stop().await;
            more(8).await;
            server.go_on().await;
        }
        more(20).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let (one, two, (), (), (), ()) = tokio::join!(
        upload(own()),
        upload(own()),
        download(own()),
        download(own()),
        list,
        outage
    );
    let kept: Vec<String> = one.into_iter().chain(two).collect();
    assert!(!kept.is_empty());
    for url in &kept {
        assert!(ann.get(url).await.assert_status(200).body == bytes, "{url}");
    }
    // What was refused is nowhere.
    let papers = usage(&host, "papers").await;
    assert_eq!(papers.objects, kept.len() as u64 + 1);
    assert_eq!((papers.reserved_bytes, papers.uploads), (0, 0));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumable_upload_waits_for_the_server_and_goes_on_where_it_stands() {
    let mut server = S3Server::start().await;
    let (host, ann) = gallery_on(&server).await;
    let bytes = noise(BYTES);
    let length = BYTES.to_string();
    let tus = ("tus-resumable", "1.0.0");
    let headers = [tus, ("upload-length", &*length)];
    let begun = ask(&ann, Method::POST, "/gallery/papers", &headers).await;
    let begun = begun.assert_status(201);
    let upload = begun.header("location").unwrap();
    let add = async |offset: &str, bytes: bytes::Bytes| {
        let client = ann.on_a_connection_of_its_own();
        let request = client.request(Method::PATCH, upload);
        let request = request.header(tus.0, tus.1).header("upload-offset", offset);
        let request = request.header("content-type", "application/offset+octet-stream");
        client.send(request.body(bytes)).await
    };
    add("0", bytes.slice(..100 << 10)).await.assert_status(204);
    server.stop().await;
    let refused = add("102400", bytes.slice(100 << 10..)).await;
    refused.assert_problem(503, "blobs.unavailable");
    // How far it came is known without the bytes.
    let stands = ask(&ann, Method::HEAD, upload, &[tus]).await;
    let stands = stands.assert_status(200);
    assert_eq!(stands.header("upload-offset"), Some("102400"));
    server.go_on().await;
    let last = add("102400", bytes.slice(100 << 10..)).await;
    let last = last.assert_status(204);
    let url = last.header("content-location").unwrap();
    assert!(ann.get(url).await.assert_status(200).body == bytes);
    host.stop().await;
}
