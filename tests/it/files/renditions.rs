//! Other sizes of images, by the plugin that we ship for it, in the sandbox.

use bytes::Bytes;
use gantry::services::blobs::BucketId;
use gantry_harness::{Client, TestHost, guests::guest};
use http::Method;
use image::ImageFormat;
use serde_json::Value;

use crate::manifests;

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

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plugin_itself_replaces_or_deletes_takes_its_renditions_along() {
    let host = TestHost::start().await;
    deploy_images(&host).await;
    let more = "[capabilities]\nblobs = [\"data\"]\n[limits]\ncpu = \"5s\"\nwall = \"20s\"\n\
                [[files]]\npath = \"/photos\"\nbucket = \"data\"\nread = { auth = \"public\" }\n\
                [files.renditions]\nthumb = { width = 64 }\n";
    host.deploy(&manifests::with("ann", more), guest("blobs-abuse"))
        .await;
    let bucket = BucketId {
        plugin: "ann".parse().unwrap(),
        label: "data".parse().unwrap(),
    };
    let kept = async || {
        let usage = host.app().blobs.usage(&bucket).await.unwrap();
        (usage.objects, usage.bytes)
    };
    let ask = async |what: &str, name: &str, body: Bytes| -> Value {
        let path = format!("/ann/{what}?name={name}");
        let request = host.request(Method::POST, &path).body(body);
        host.send(request).await.assert_status(200).json()
    };
    let ann = host.user("ann@example.com", &[]).await;
    let url = sent(&ann, "/ann/photos", "image/png", png(640, 320)).await;
    let other = sent(&ann, "/ann/photos", "image/png", png(600, 300)).await;
    let id = url.rsplit('/').next().unwrap();
    let of_other = png(600, 300).len() as u64;
    for url in [&url, &other] {
        thumb(&host, url, "*/*").await.assert_status(200);
    }
    let (objects, with_both) = kept().await;
    assert_eq!(objects, 4);

    // Replaced: nobody can ask for what was made of the one before.
    let square = png(500, 500);
    ask("put", id, square.clone()).await;
    assert_eq!(kept().await.0, 3);
    let again = thumb(&host, &url, "*/*").await.assert_status(200);
    let picture = image::load_from_memory(&again.body).unwrap();
    assert_eq!((picture.width(), picture.height()), (64, 64));
    assert_eq!(kept().await.0, 4);

    // A plugin writes nothing there, and sees what is.
    let listed = ask("list", "~renditions/&count=10", Bytes::new()).await;
    assert_eq!(listed["ok"]["names"].as_array().unwrap().len(), 2);
    for what in ["put", "stream", "put-link"] {
        let refused = ask(what, "~renditions/mine", Bytes::new()).await;
        assert_eq!(refused["code"], "blobs.name_reserved", "{what}");
    }

    // Deleted: only what is of another one is left, also in the quota, once the bytes have gone.
    assert_eq!(ask("delete", id, Bytes::new()).await["ok"], true);
    assert_eq!(kept().await.0, 2);
    let first = png(640, 320).len() as u64;
    for _ in 0..200 {
        if kept().await.1 < with_both - first {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let (_, left) = kept().await;
    assert!(left > of_other && left < with_both - first, "{left}");
    thumb(&host, &other, "*/*").await.assert_status(200);
    assert_eq!(kept().await, (2, left));
    assert_eq!(
        ask("delete", other.rsplit('/').next().unwrap(), Bytes::new()).await["ok"],
        true
    );
    for _ in 0..200 {
        if kept().await == (0, 0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(kept().await, (0, 0));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_rendition_for_which_there_is_no_room_is_not_made_again_and_again() {
    let host = TestHost::build().with(|config| config.blobs.objects_per_plugin_max = 1);
    let host = host.start().await;
    super::deploy(&host).await;
    deploy_images(&host).await;
    let ann = host.user("ann@example.com", &[]).await;
    let url = sent(&ann, "/gallery/photos", "image/png", png(640, 320)).await;
    let full = thumb(&host, &url, "*/*").await;
    full.assert_problem(507, "blobs.too_many_objects");
    let used = invocations(&host).await;
    assert!(used > 0.0);
    let full = thumb(&host, &url, "*/*").await;
    full.assert_problem(507, "blobs.too_many_objects");
    assert_eq!(invocations(&host).await, used, "it is tried again");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_many_renditions_keeps_nobody_waiting_for_all_of_them() {
    let host = TestHost::build().with(|config| {
        config.gateway.trusted_proxies = serde_json::from_str("[\"127.0.0.1\"]").unwrap();
        config.gateway.files.renditions_at_once_max = 1;
        config.gateway.files.renditions_waiting_per_client_max = 8;
    });
    let host = host.start().await;
    super::deploy(&host).await;
    deploy_images(&host).await;
    let ann = host.user("ann@example.com", &[]).await;
    let mut urls = Vec::new();
    for side in 0..10 {
        let image = png(900 + side, 900);
        urls.push(sent(&ann, "/gallery/photos", "image/png", image).await);
    }
    let ask = |address: &'static str, url: &str| {
        let (client, url) = (host.on_a_connection_of_its_own(), url.to_owned());
        tokio::spawn(async move {
            let request = client.request(Method::GET, &format!("{url}/renditions/thumb"));
            let answer = client.send(request.header("x-forwarded-for", address));
            (answer.await.status.as_u16(), std::time::Instant::now())
        })
    };
    let many: Vec<_> = urls[..9].iter().map(|url| ask("192.0.2.1", url)).collect();
    // They wait by now.
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let (status, other_at) = ask("192.0.2.2", &urls[9]).await.unwrap();
    assert_eq!(status, 200);
    let (mut made, mut refused, mut later) = (0, 0, 0);
    for one in many {
        let (status, at) = one.await.unwrap();
        made += usize::from(status == 200);
        refused += usize::from(status == 503);
        later += usize::from(status == 200 && at > other_at);
    }
    assert_eq!((made, refused), (8, 1), "one client may wait for eight");
    assert!(later >= 4, "the other one has waited for all but {later}");
    host.stop().await;
}
