//! A registry that sends more than it should, or something else, or nobody knows where.

use std::{net::SocketAddr, time::Duration};

use gantry::ids::Digest;
use gantry_harness::TestHost;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{failed, folder, gantry, run};

/// Sends the same thing for ever.
const ENDLESS: &str = "transfer-encoding: chunked";

async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// The repository says how to cheat.
async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let is_blob = path.contains("/blobs/");
    let kind = path.split('/').nth(2).unwrap_or_default();
    let whole = |head: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    };
    let manifest = |size: u64| {
        let digest = format!("sha256:{}", Digest::of(b"what was promised"));
        let layer = json!({ "mediaType": "application/vnd.gantry.bundle.v1+zip", "digest": digest, "size": size });
        let config = json!({ "mediaType": "x", "digest": digest, "size": 2 });
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        whole("200 OK", &manifest.to_string())
    };
    let endless = format!("HTTP/1.1 200 OK\r\n{ENDLESS}\r\n\r\n");
    let answer = match (kind, is_blob) {
        ("large", _) => "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_owned(),
        ("endless", _) | ("blob", true) => endless,
        ("blob" | "other", false) => manifest(17),
        ("other", true) => whole("200 OK", "something else!!!"),
        ("huge", false) => manifest(1 << 40),
        ("token", _) => {
            let host = head.to_lowercase();
            let host = host.split("host: ").nth(1).unwrap_or_default();
            let host = host.split("\r\n").next().unwrap_or_default();
            let challenge =
                format!("www-authenticate: Bearer realm=\"http://{host}/v2/endless/x\"");
            format!(
                "HTTP/1.1 401 No\r\n{challenge}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        }
        ("moved", _) if !head.contains("authorization: Basic ") => {
            whole("401 No\r\nwww-authenticate: Basic realm=\"x\"", "")
        }
        ("moved", false) => manifest(17),
        // The same server by another name is another server to whoever asks.
        ("moved", true) => {
            let port = stream.local_addr().unwrap().port();
            let there = format!("http://localhost:{port}/v2/storage/blobs/x");
            whole(&format!("307 There\r\nlocation: {there}"), "")
        }
        // And where it leads to asks who is there.
        ("lured", false) => manifest(17),
        ("lured", true) => {
            let port = stream.local_addr().unwrap().port();
            let there = format!("http://localhost:{port}/v2/asking/blobs/x");
            whole(&format!("307 There\r\nlocation: {there}"), "")
        }
        ("asking", _) => {
            let port = stream.local_addr().unwrap().port();
            let realm = format!("http://localhost:{port}/v2/thief/x");
            let head = format!("401 No\r\nwww-authenticate: Bearer realm=\"{realm}\"");
            whole(&head, "{\"errors\":[{\"code\":\"ASKED\"}]}")
        }
        ("thief", _) if head.contains("authorization: Basic ") => {
            whole("500 No", "{\"errors\":[{\"code\":\"STOLEN\"}]}")
        }
        ("storage", _) if head.contains("authorization") => whole("500 Stolen", ""),
        ("storage", _) => whole("200 OK", "what was promised"),
        ("terminal", _) => whole(
            "400 No",
            "{\"errors\":[{\"code\":\"X\",\"message\":\"\\u001b[2Jgone\"}]}",
        ),
        _ => whole("500 Oops", ""),
    };
    let is_endless = answer.contains(ENDLESS);
    let _ = stream.write_all(answer.as_bytes()).await;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    while is_endless && stream.write_all(chunk.as_bytes()).await.is_ok() {}
    if kind == "large" {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
}

#[tokio::test]
async fn nothing_is_read_past_its_bound_and_nothing_else_is_taken_for_what_was_asked() {
    let (host, dir, address) = (TestHost::start().await, folder(), start().await);
    for (repository, word) in [
        ("large", "more than 4194304 bytes"),
        ("endless", "more than 4194304 bytes"),
        ("blob", "more than 17 bytes"),
        ("huge", "more than 134217728 bytes"),
        ("other", "is not what its digest says"),
        ("token", "more than 262144 bytes"),
        ("terminal", "X: \u{fffd}[2Jgone"),
        ("nothing", "500"),
    ] {
        let place = format!("oci://{address}/{repository}:1");
        let args = ["plugin", "deploy", place.as_str()];
        let ran = tokio::time::timeout(Duration::from_secs(20), run(&host, dir.path(), &args));
        let told = failed(&ran.await.expect(repository));
        assert!(told.contains(word), "{repository}: {told}");
    }
    // Nobody is there, and it is not this machine: only an encrypted connection is tried.
    for (place, word) in [
        ("oci://127.0.0.1:1/hello:1", "cannot reach the registry"),
        (
            "oci://registry.invalid/hello:1",
            "cannot reach the registry",
        ),
        ("oci://127.0.0.1/Hello:1", "no place in a registry"),
        ("oci://127.0.0.1/hello", "neither a tag nor a digest"),
    ] {
        let told = failed(&run(&host, dir.path(), &["plugin", "deploy", place]).await);
        assert!(told.contains(word), "{place}: {told}");
    }
    host.stop().await;
}

/// What the command line says of a plugin in this repository, called with a name and a password.
async fn deployed(repository: &str) -> String {
    let (host, dir, address) = (TestHost::start().await, folder(), start().await);
    let place = format!("oci://{address}/{repository}:1");
    let mut deploy = gantry(&host, dir.path(), &["plugin", "deploy", &place]);
    deploy
        .env("GANTRY_REGISTRY_USERNAME", "ann")
        .env("GANTRY_REGISTRY_PASSWORD", "secret");
    let told = failed(&deploy.output().await.unwrap());
    host.stop().await;
    told
}

#[tokio::test]
async fn a_password_does_not_follow_where_a_registry_points() {
    // It got the bytes, without having shown the password there; they are just no plugin.
    let told = Box::pin(deployed("moved")).await;
    assert!(
        told.contains("Pulled") && told.contains("neither a bundle nor a component"),
        "{told}"
    );
    // Who is not the registry may ask, and is told nothing.
    let told = Box::pin(deployed("lured")).await;
    assert!(told.contains("ASKED") && !told.contains("STOLEN"), "{told}");
}
