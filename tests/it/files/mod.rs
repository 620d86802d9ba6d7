//! Files that a plugin takes and gives without a line of its code: what is sent is what comes back, to whom it is for, and
//! nothing else.

mod away;
mod crash;
mod direct;
mod filters;
mod links;
mod reading;
mod renditions;
mod resumable;

use bytes::Bytes;
use gantry::services::blobs::{BucketId, Usage};
use gantry_harness::{Answer, Client, TestHost, guests::guest};
use http::Method;
use serde_json::Value;

const HEAD: &str = r#"
schema = 1
[plugin]
name = "gallery"
version = "1.0.0"
[component]
path = "plugin.wasm"
[[route]]
method = "GET"
path = "/"
auth = "public"
"#;

const FILES: &str = r#"
[capabilities]
blobs = ["photos", "papers", "plans"]

[[files]]
path = "/photos"
bucket = "photos"
read = { auth = "public" }
bytes_max = "2MiB"
types = ["image/*"]
inline = ["image/*"]
link_ttl_max = "1h"
[files.renditions]
thumb = { width = 64, format = "webp" }
square = { width = 32, height = 32, fit = "cover", format = "jpeg", quality = 70 }

[[files]]
path = "/papers"
bucket = "papers"
owner_only = true
link_ttl_max = "1h"

[[files]]
path = "/houses/{house}/plans"
bucket = "plans"
"#;

/// A host with a gallery, and somebody who may send.
async fn gallery() -> (TestHost, Client) {
    let host = TestHost::start().await;
    deploy(&host).await;
    let ann = host.user("ann@example.com", &[]).await;
    (host, ann)
}

async fn deploy(host: &TestHost) {
    let manifest = format!("{HEAD}{FILES}");
    host.deploy(&manifest, guest("hello-v1")).await;
}

/// Sends a file.
async fn send(client: &Client, path: &str, kind: &str, bytes: impl Into<Bytes>) -> Answer {
    let request = client.request(Method::POST, path);
    let request = request.header("content-type", kind).body(bytes.into());
    client.send(request).await
}

/// Sends a file that is taken, and says where it is.
async fn sent(client: &Client, path: &str, kind: &str, bytes: impl Into<Bytes>) -> String {
    let answer = send(client, path, kind, bytes).await.assert_status(201);
    let told: Value = answer.json();
    assert_eq!(answer.header("location"), told["url"].as_str());
    told["url"].as_str().unwrap().to_owned()
}

/// A picture: red on the left, blue on the right.
fn picture(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        let shade = u8::try_from((x * 7 + y * 13) % 32).unwrap();
        match x < width / 2 {
            true => image::Rgb([220, shade, 20]),
            false => image::Rgb([20, shade, 220]),
        }
    })
}

fn encoded(width: u32, height: u32, format: image::ImageFormat) -> Bytes {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture(width, height).write_to(&mut bytes, format).unwrap();
    bytes.into_inner().into()
}

fn png(width: u32, height: u32) -> Bytes {
    encoded(width, height, image::ImageFormat::Png)
}

/// Bytes that are no known type.
fn noise(length: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    });
    bytes.take(length).collect()
}

/// What a bucket of the gallery keeps.
async fn usage(host: &TestHost, bucket: &str) -> Usage {
    let bucket = BucketId {
        plugin: "gallery".parse().unwrap(),
        label: bucket.parse().unwrap(),
    };
    host.app().blobs.usage(&bucket).await.unwrap()
}
