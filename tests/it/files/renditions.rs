//! Other sizes of images, by the plugin that we ship for it, in the sandbox.

use bytes::Bytes;
use gantry_harness::{Client, TestHost, guests::guest};
use http::Method;
use image::ImageFormat;
use serde_json::Value;

use super::{HEAD, encoded, gallery, noise, png, sent, usage};

async fn deploy_images(host: &TestHost) {
    host.deploy_folder("plugins/images", "/images").await;
}

async fn thumb(client: &Client, url: &str, accept: &str) -> gantry_harness::Answer {
    let request = client.request(Method::GET, &format!("{url}/renditions/thumb"));
    client.send(request.header("accept", accept)).await
}

/// Which invocations the plugin for images has had.
async fn invocations(host: &TestHost) -> f64 {
    let metrics = host.admin().get("/metrics").await.assert_status(200).text();
    let name = "gantry_invocation_cpu_seconds_total";
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains("renditions"));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_in_other_sizes_in_a_format_that_the_client_takes() {
    let (host, ann) = gallery().await;
    deploy_images(&host).await;
    for (format, media_type, other) in [
        (ImageFormat::Jpeg, "image/jpeg", "image/jpeg"),
        (ImageFormat::Png, "image/png", "image/png"),
    ] {
        let url = sent(
            &ann,
            "/gallery/photos",
            media_type,
            encoded(640, 320, format),
        )
        .await;
        let told: Value = host.get("/gallery/photos").await.json();
        let items = told["items"].as_array().unwrap();
        let own = items.iter().find(|item| item["url"] == url).unwrap();
        assert_eq!(
            own["renditions"]["thumb"],
            format!("{url}/renditions/thumb")
        );
        for (accept, wanted) in [
            ("image/avif,image/webp,*/*", "image/webp"),
            ("image/png,*/*;q=0.5", other),
        ] {
            let answer = thumb(&host, &url, accept).await.assert_status(200);
            assert_eq!(answer.header("content-type"), Some(wanted));
            assert_eq!(answer.header("vary"), Some("Accept"));
            assert!(
                answer
                    .header("content-disposition")
                    .unwrap()
                    .starts_with("inline")
            );
            let picture = image::load_from_memory(&answer.body).unwrap().to_rgb8();
            assert_eq!((picture.width(), picture.height()), (64, 32));
            let [red, _, blue] = picture.get_pixel(3, 3).0;
            assert!(red > 170 && blue < 80, "{red} {blue}");
            let tag = answer.header("etag").unwrap();
            let again = host
                .request(Method::GET, &format!("{url}/renditions/thumb"))
                .header("accept", accept)
                .header("if-none-match", tag);
            host.send(again).await.assert_status(304);
        }
        let square = host
            .get(&format!("{url}/renditions/square"))
            .await
            .assert_status(200);
        assert_eq!(square.header("content-type"), Some("image/jpeg"));
        let picture = image::load_from_memory(&square.body).unwrap();
        assert_eq!((picture.width(), picture.height()), (32, 32));
        host.get(&format!("{url}/renditions/huge"))
            .await
            .assert_problem(404, "rendition.not_found");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendition_is_made_once_and_goes_with_its_source() {
    let (host, ann) = gallery().await;
    deploy_images(&host).await;
    let url = sent(&ann, "/gallery/photos", "image/png", png(640, 320)).await;
    let before = usage(&host, "photos").await;
    let all = (0..12).map(|_| {
        let (client, url) = (host.on_a_connection_of_its_own(), url.clone());
        tokio::spawn(async move { thumb(&client, &url, "*/*").await })
    });
    let mut tags = Vec::new();
    for answer in futures_util::future::join_all(all).await {
        let answer = answer.unwrap().assert_status(200);
        tags.push(answer.header("etag").unwrap().to_owned());
    }
    tags.dedup();
    assert_eq!(tags.len(), 1, "made more than once");
    let used = invocations(&host).await;
    assert!(used > 0.0);
    let after = usage(&host, "photos").await;
    assert_eq!(after.objects, before.objects + 1);
    assert!(after.bytes > before.bytes, "renditions count");
    thumb(&host, &url, "*/*").await.assert_status(200);
    assert_eq!(invocations(&host).await, used);
    // It is no file of its own.
    let page: Value = host.get("/gallery/photos").await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);

    ann.delete(&url).await.assert_status(204);
    thumb(&host, &url, "*/*")
        .await
        .assert_problem(404, "blobs.not_found");
    assert_eq!(usage(&host, "photos").await.objects, 0);
    host.stop().await;
}

/// A PNG that says it has 60000 x 60000 pixels.
fn bomb() -> Bytes {
    let mut bomb = png(1, 1).to_vec();
    bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let crc = !bomb[12..29].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    bomb.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_means_harm_costs_its_own_request() {
    let (host, ann) = gallery().await;
    deploy_images(&host).await;
    let mut cut = png(300, 300).to_vec();
    cut.truncate(200);
    let mut garbled = encoded(300, 300, ImageFormat::Jpeg).to_vec();
    let noise = noise(garbled.len());
    garbled[700..].copy_from_slice(&noise[700..]);
    for (name, kind, bytes) in [
        ("a bomb", "image/png", bomb()),
        ("cut off", "image/png", cut.into()),
    ] {
        let url = sent(&ann, "/gallery/photos", kind, bytes).await;
        let began = std::time::Instant::now();
        let answer = thumb(&host, &url, "*/*").await;
        assert!(began.elapsed().as_secs() < 5, "{name}");
        answer.assert_problem(422, "rendition.failed");
        let used = invocations(&host).await;
        thumb(&host, &url, "*/*")
            .await
            .assert_problem(422, "rendition.failed");
        assert_eq!(invocations(&host).await, used, "{name} is tried again");
        // The file is what it is.
        host.get(&url).await.assert_status(200);
    }
    // Decoders make something of it, or say that they cannot; nothing else happens.
    let url = sent(&ann, "/gallery/photos", "image/jpeg", garbled).await;
    let answer = thumb(&host, &url, "*/*").await;
    assert!(matches!(answer.status.as_u16(), 200 | 422), "{answer:?}");
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";
    let answer = super::send(&ann, "/gallery/photos", "image/svg+xml", svg).await;
    if answer.status == 201 {
        let url = answer.json::<Value>()["url"].as_str().unwrap().to_owned();
        thumb(&host, &url, "*/*")
            .await
            .assert_problem(415, "rendition.no_image");
    }
    let url = sent(&ann, "/gallery/photos", "image/png", png(100, 100)).await;
    thumb(&host, &url, "*/*").await.assert_status(200);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_a_file_sees_no_rendition_of_it() {
    let host = TestHost::start().await;
    let files = "[capabilities]\nblobs = [\"own\"]\n[[files]]\npath = \"/own\"\nbucket = \"own\"\nowner_only = true\n\
                 [files.renditions]\nthumb = { width = 64 }\n";
    host.deploy(&format!("{HEAD}{files}"), guest("hello-v1"))
        .await;
    let ann = host.user("ann@example.com", &[]).await;
    let bob = host.user("bob@example.com", &[]).await;
    let url = sent(&ann, "/gallery/own", "image/png", png(200, 100)).await;

    let missing = thumb(&ann, &url, "*/*").await;
    assert!(
        missing
            .text()
            .contains("gantry plugin deploy plugins/images")
    );
    missing.assert_problem(501, "rendition.not_installed");
    thumb(&bob, &url, "*/*")
        .await
        .assert_problem(404, "blobs.not_found");

    deploy_images(&host).await;
    let answer = thumb(&ann, &url, "*/*").await.assert_status(200);
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    assert!(
        answer
            .header("content-disposition")
            .unwrap()
            .starts_with("attachment")
    );
    thumb(&bob, &url, "*/*")
        .await
        .assert_problem(404, "blobs.not_found");
    thumb(&host, &url, "*/*")
        .await
        .assert_problem(401, "auth.required");
    host.stop().await;
}
