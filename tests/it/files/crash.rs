//! The server is killed in the middle of what is sent to it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use gantry_harness::{Process, guests::guest, pack};
use http::Method;
use serde_json::Value;

use super::{FILES, HEAD, noise};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_cut_an_upload_goes_on_and_a_file_is_whole_or_not_there() {
    let server = Process::start("[blobs]\nlease_ms = 2000\n").await;
    let bundle = pack(&format!("{HEAD}{FILES}"), &guest("hello-v1"), &[]);
    server.upload("grant=all", bundle).await.assert_status(201);
    let bytes = noise(12 << 20);
    let length = bytes.len().to_string();
    let begin = server
        .request(Method::POST, "/gallery/papers")
        .header("tus-resumable", "1.0.0")
        .header("upload-length", &length);
    let begun = server.send(begin).await.assert_status(201);
    let url = begun.header("location").unwrap().to_owned();

    // Both send without an end: one that can be resumed, and one that cannot.
    let half = bytes.slice(..8 << 20);
    let without_end = |bytes: Bytes| {
        let pieces = bytes
            .chunks(256 << 10)
            .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
        let pieces: Vec<_> = pieces.collect();
        use futures_util::StreamExt as _;
        reqwest::Body::wrap_stream(stream::iter(pieces).chain(stream::pending()))
    };
    let resumable = server
        .request(Method::PATCH, &url)
        .header("tus-resumable", "1.0.0")
        .header("upload-offset", "0")
        .header("content-type", "application/offset+octet-stream")
        .body(without_end(half.clone()));
    let direct = server
        .request(Method::POST, "/gallery/papers")
        .header("content-type", "application/octet-stream")
        .body(without_end(half));
    let sending = [tokio::spawn(resumable.send()), tokio::spawn(direct.send())];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let server = server.kill_and_restart().await;
    for one in sending {
        one.abort();
    }

    let status = server
        .request(Method::HEAD, &url)
        .header("tus-resumable", "1.0.0");
    let status = server.send(status).await.assert_status(200);
    let offset: usize = status.header("upload-offset").unwrap().parse().unwrap();
    assert!(offset > 0 && offset <= 8 << 20, "{offset}");
    // The host that was killed holds the upload until its lease is over.
    for attempt in 0.. {
        assert!(attempt < 40, "the upload is held for ever");
        let rest = server
            .request(Method::PATCH, &url)
            .header("tus-resumable", "1.0.0")
            .header("upload-offset", offset.to_string())
            .header("content-type", "application/offset+octet-stream")
            .body(bytes.slice(offset..));
        // Who is refused early may find the connection closed while still sending.
        match server.try_send(rest).await {
            Ok(answer) if answer.status == 423 => drop(answer),
            Ok(answer) => {
                answer.assert_status(204);
                break;
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let got = server.get(&url).await.assert_status(200);
    assert!(got.body == bytes);
    let page: Value = server
        .get("/gallery/papers")
        .await
        .assert_status(200)
        .json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    let server = server.kill_and_restart().await;
    assert!(server.get(&url).await.assert_status(200).body == bytes);
}
