//! Files on their way out: parts, conditions, and clients that take their time.

use std::time::Duration;

use gantry_harness::Answer;
use http::Method;

use super::{gallery, noise, sent, usage};

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_given_to_who_asks_for_one() {
    let (host, ann) = gallery().await;
    // Longer than a piece of the store.
    let bytes = noise(5 << 20);
    let url = sent(
        &ann,
        "/gallery/papers",
        "application/octet-stream",
        bytes.clone(),
    )
    .await;
    let ask = async |headers: &[(&str, &str)]| -> Answer {
        let request = ann.request(Method::GET, &url);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        ann.send(request).await
    };
    let size = bytes.len();
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=100-299", 100, 299),
        ("bytes=-1000", size - 1000, size - 1),
        ("bytes=4194300-4194310", 4_194_300, 4_194_310),
        ("bytes=5000000-", 5_000_000, size - 1),
        ("bytes=5242870-99999999", 5_242_870, size - 1),
    ] {
        let part = ask(&[("range", range)]).await.assert_status(206);
        assert_eq!(part.body, bytes[first..=last], "{range}");
        let wanted = format!("bytes {first}-{last}/{size}");
        assert_eq!(part.header("content-range"), Some(&*wanted));
        assert_eq!(
            part.header("content-length"),
            Some(&*(last - first + 1).to_string())
        );
    }
    let beyond = ask(&[("range", "bytes=5242880-")]).await;
    assert_eq!(beyond.header("content-range"), Some("bytes */5242880"));
    beyond.assert_problem(416, "blobs.range_invalid");
    let several = ask(&[("range", "bytes=0-1,5-6")]).await.assert_status(200);
    assert_eq!(several.body.len(), size);

    let tag = several.header("etag").unwrap().to_owned();
    let same = ask(&[("range", "bytes=0-9"), ("if-range", &tag)]).await;
    assert_eq!(same.assert_status(206).body, bytes[..10]);
    let other = ask(&[("range", "bytes=0-9"), ("if-range", "\"other\"")]).await;
    assert_eq!(other.assert_status(200).body.len(), size);

    let head = ann
        .send(ann.request(Method::HEAD, &url))
        .await
        .assert_status(200);
    assert_eq!(head.header("content-length"), Some("5242880"));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
    assert!(head.body.is_empty());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_it_is_not_given_it_again_and_nobody_deletes_another_version() {
    let (host, ann) = gallery().await;
    let url = sent(&ann, "/gallery/papers", "text/plain", "one").await;
    let first = ann.get(&url).await.assert_status(200);
    let (tag, time) = (
        first.header("etag").unwrap(),
        first.header("last-modified").unwrap(),
    );
    for (method, name, value, status) in [
        (Method::GET, "if-none-match", tag, 304),
        (Method::HEAD, "if-none-match", tag, 304),
        (Method::GET, "if-none-match", "\"other\"", 200),
        (Method::GET, "if-modified-since", time, 304),
        (Method::GET, "if-match", tag, 200),
        (Method::GET, "if-match", "\"other\"", 412),
        (Method::DELETE, "if-match", "\"other\"", 412),
        (
            Method::DELETE,
            "if-unmodified-since",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            412,
        ),
        (Method::DELETE, "if-unmodified-since", time, 204),
    ] {
        let request = ann.request(method.clone(), &url).header(name, value);
        let answer = ann.send(request).await.assert_status(status);
        if status == 304 {
            assert!(answer.body.is_empty());
            assert_eq!(answer.header("etag"), Some(tag));
            assert!(
                answer
                    .header("content-length")
                    .is_none_or(|length| length == "0")
            );
        }
    }
    let url = sent(&ann, "/gallery/papers", "text/plain", "two").await;
    let second = ann.get(&url).await;
    let tag = second.header("etag").unwrap();
    // On two lines it is one list.
    for (tags, status) in [(["\"a\"", "\"b\""], 412), (["\"a\"", tag], 204)] {
        let request = ann.request(Method::DELETE, &url);
        let request = tags
            .iter()
            .fold(request, |request, tag| request.header("if-match", *tag));
        ann.send(request).await.assert_status(status);
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_reads_to_the_end_though_the_file_is_deleted_meanwhile() {
    let (host, ann) = gallery().await;
    let bytes = noise(24 << 20);
    let url = sent(
        &ann,
        "/gallery/papers",
        "application/octet-stream",
        bytes.clone(),
    )
    .await;
    let mut response = ann.request(Method::GET, &url).send().await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    ann.delete(&url).await.assert_status(204);
    let mut read = first.to_vec();
    let mut pause = 3;
    while let Some(piece) = response.chunk().await.unwrap() {
        read.extend_from_slice(&piece);
        if pause > 0 {
            pause -= 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(read == bytes, "{} of {}", read.len(), bytes.len());
    ann.get(&url).await.assert_problem(404, "blobs.not_found");
    assert_eq!(usage(&host, "papers").await.objects, 0);
    host.stop().await;
}
