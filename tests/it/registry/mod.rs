//! Plugins in a registry: pushed and pulled by the command line, against a real registry and against one that cheats.

mod cheat;
mod login;

use std::{fs, path::Path, process::Output};

use bytes::Bytes;
use gantry::ids::Digest;
use gantry::plugins::trust::Policy;
use gantry_harness::{OciRegistry, TestHost, guests::guest, pack};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{gantry, run, succeeded, write_project};
use crate::manifests;

const API: &str = "/_gantry/api/v1";

fn failed(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with the bundle of `hello` 1.0.0 in it.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_bundle(dir.path(), "1.0.0", "hello_v1");
    dir
}

fn write_bundle(folder: &Path, version: &str, guest_name: &str) {
    let manifest = manifests::open("hello").replace("\"1.0.0\"", &format!("\"{version}\""));
    let bundle = pack(&manifest, &guest(guest_name), &[]);
    fs::write(folder.join("hello.gantry"), bundle).unwrap();
}

/// Where something is by its digest, as a command printed it.
fn printed(output: &Output) -> String {
    succeeded(output).trim().to_owned()
}

#[tokio::test]
async fn a_plugin_travels_through_a_registry_and_a_digest_means_the_same_for_ever() {
    let Some(registry) = OciRegistry::start().await else {
        return;
    };
    let host = TestHost::build()
        .with(|config| config.plugins.signatures = Policy::Required)
        .start()
        .await;
    let dir = folder();
    let typed = async |args: &[&str]| run(&host, dir.path(), args).await;
    succeeded(&typed(&["plugin", "keygen", "me.key"]).await);
    let add = [
        "trust",
        "add",
        "me.key.pub",
        "--owner",
        "Ann",
        "--plugin",
        "*",
    ];
    succeeded(&typed(&add).await);

    // A folder is built, signed and pushed in one go.
    let place = registry.place("team/hello:stable");
    write_project(dir.path(), "hello_v1");
    let push = ["plugin", "push", ".", &place, "--sign-key", "me.key"];
    let first = printed(&typed(&push).await);
    assert!(first.starts_with(&format!("{place}@sha256:")), "{first}");
    let deployed = typed(&["plugin", "deploy", &place, "--json"]).await;
    let deployed: Value = serde_json::from_str(&succeeded(&deployed)).unwrap();
    let deployment = &deployed["deployment"];
    assert_eq!(deployment["source"], first);
    assert!(deployment["signed_by"].is_string(), "{deployment}");
    // The server has computed itself what it got: it is the layer that the registry keeps.
    let layer = deployment["upload_digest"].as_str().unwrap();
    assert!(registry.blob_file(layer).is_file());
    let v1 = host.get("/hello/x").await.assert_status(200).text();

    // The tag moves on; the digest does not.
    let change = ["plugin", "push", ".", &place, "--sign-key", "me.key"];
    fs::write(dir.path().join("src/which"), "hello_v2").unwrap();
    let second = printed(&typed(&change).await);
    assert_ne!(first, second);
    succeeded(&typed(&["plugin", "deploy", &place]).await);
    assert_ne!(host.get("/hello/x").await.text(), v1);
    succeeded(&typed(&["plugin", "deploy", &first]).await);
    assert_eq!(host.get("/hello/x").await.text(), v1);
    let history: Value = host
        .admin()
        .get(&format!("{API}/plugins/hello/deployments"))
        .await
        .json();
    assert_eq!(history["items"][0]["source"], first);

    // What is not signed may lie in the registry; the host does not take it.
    write_bundle(dir.path(), "1.0.0", "hello_v2");
    let plain = registry.place("team/hello:plain");
    succeeded(&typed(&["plugin", "push", "hello.gantry", &plain]).await);
    let told = failed(&typed(&["plugin", "deploy", &plain]).await);
    assert!(told.contains("trust.unsigned"), "{told}");
    let verified = typed(&["plugin", "verify", &second]).await;
    succeeded(&verified);

    // And back into a file, under the name that it had.
    let pulled = typed(&["plugin", "pull", &first]).await;
    assert_eq!(printed(&pulled), first);
    let bytes = fs::read(dir.path().join("hello-1.0.0.gantry")).unwrap();
    assert_eq!(Digest::of(&bytes).to_string(), layer);
    host.stop().await;
}

#[tokio::test]
async fn a_component_alone_lies_there_as_other_tools_expect_it() {
    let Some(registry) = OciRegistry::start().await else {
        return;
    };
    let (host, dir) = (TestHost::start().await, folder());
    fs::write(dir.path().join("v1.wasm"), guest("hello_v1")).unwrap();
    let place = registry.place("hello:1");
    let push = ["plugin", "push", "v1.wasm", &place];
    let pinned = printed(&run(&host, dir.path(), &push).await);
    let hex = pinned.rsplit(':').next().unwrap();
    let read = |hex: &str| -> Value {
        serde_json::from_slice(&fs::read(registry.blob_file(hex)).unwrap()).unwrap()
    };
    let manifest = read(hex);
    let layer = Digest::of(&guest("hello_v1"));
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["digest"], format!("sha256:{layer}"));
    let config = manifest["config"]["digest"].as_str().unwrap();
    let config = read(config.strip_prefix("sha256:").unwrap());
    assert_eq!(config["architecture"], "wasm");
    assert_eq!(config["os"], "wasip2");
    assert_eq!(config["layerDigests"], json!([format!("sha256:{layer}")]));
    let exports = config["component"]["exports"].to_string();
    assert!(exports.contains("gantry:http/handler"), "{exports}");

    let deploy = ["plugin", "deploy", &pinned, "--name", "hello"];
    succeeded(&run(&host, dir.path(), &deploy).await);
    host.get("/hello/x").await.assert_status(200);
    let told = failed(&run(&host, dir.path(), &["plugin", "deploy", &pinned]).await);
    assert!(told.contains("--name"), "{told}");
    host.stop().await;
}

/// Puts something into a registry as any tool would, with its own types.
async fn put(
    registry: &OciRegistry,
    name: &str,
    config_type: &str,
    layers: &[(&str, Bytes)],
) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://{}", registry.address);
    let describe = |media_type: &str, bytes: &[u8]| {
        let digest = format!("sha256:{}", Digest::of(bytes));
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let config = Bytes::from_static(b"{}");
    for blob in layers.iter().map(|(_, bytes)| bytes).chain([&config]) {
        let start = http.post(format!("{base}/v2/{name}/blobs/uploads/"));
        let started = start.send().await.unwrap();
        let location = started.headers()["location"].to_str().unwrap().to_owned();
        let digest = Digest::of(blob);
        let put = http.put(format!("{location}&digest=sha256:{digest}"));
        let done = put.body(blob.clone()).send().await.unwrap();
        assert_eq!(done.status().as_u16(), 201);
    }
    let layers: Vec<Value> = layers
        .iter()
        .map(|(kind, bytes)| describe(kind, bytes))
        .collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind, "config": describe(config_type, &config), "layers": layers,
    });
    let put = http
        .put(format!("{base}/v2/{name}/manifests/1"))
        .header("content-type", kind)
        .body(manifest.to_string());
    let done = put.send().await.unwrap();
    assert_eq!(
        done.status().as_u16(),
        201,
        "{}",
        done.text().await.unwrap()
    );
    registry.place(&format!("{name}:1"))
}

#[tokio::test]
async fn what_other_tools_pushed_is_found_and_what_is_no_plugin_is_refused() {
    let Some(registry) = OciRegistry::start().await else {
        return;
    };
    let (host, dir) = (TestHost::start().await, folder());
    let wasm = guest("hello_v1");
    let (of_wkg, of_oras) = (
        "application/vnd.wasm.config.v0+json",
        "application/vnd.oci.empty.v1+json",
    );
    let tar = (
        "application/vnd.oci.image.layer.v1.tar+gzip",
        Bytes::from_static(b"readme"),
    );
    for (name, config, layers) in [
        ("wkg", of_wkg, vec![("application/wasm", wasm.clone())]),
        (
            "oras",
            of_oras,
            vec![tar.clone(), ("application/wasm", wasm.clone())],
        ),
        (
            "old",
            "application/vnd.wasm.config.v1+json",
            vec![("application/vnd.wasm.content.layer.v1+wasm", wasm.clone())],
        ),
    ] {
        let place = put(&registry, name, config, &layers).await;
        let deploy = ["plugin", "deploy", &place, "--name", name];
        succeeded(&run(&host, dir.path(), &deploy).await);
        host.get(&format!("/{name}/")).await.assert_status(200);
    }
    let two = vec![
        ("application/wasm", wasm.clone()),
        ("application/wasm", guest("hello_v2")),
    ];
    let no_wasm = vec![("application/wasm", Bytes::from_static(b"#!/bin/sh"))];
    for (name, layers, word) in [
        ("image", vec![tar], "holds no plugin"),
        ("two", two, "holds several components"),
        ("script", no_wasm, "said to be WebAssembly and is not"),
    ] {
        let place = put(&registry, name, of_oras, &layers).await;
        let deploy = ["plugin", "deploy", &place, "--name", name];
        let told = failed(&run(&host, dir.path(), &deploy).await);
        assert!(told.contains(word), "{name}: {told}");
    }
    let nothing = registry.place("nobody/nothing:1");
    let told = failed(&run(&host, dir.path(), &["plugin", "deploy", &nothing]).await);
    assert!(told.contains("has no manifest nobody/nothing/1"), "{told}");
    host.stop().await;
}

#[tokio::test]
async fn what_was_changed_in_the_registry_is_noticed() {
    let Some(registry) = OciRegistry::start().await else {
        return;
    };
    let (host, dir) = (TestHost::start().await, folder());
    let place = registry.place("hello:1");
    let push = ["plugin", "push", "hello.gantry", &place];
    let pinned = printed(&run(&host, dir.path(), &push).await);
    let harm = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    let bundle = fs::read(dir.path().join("hello.gantry")).unwrap();
    let layer = registry.blob_file(&Digest::of(&bundle).to_string());
    harm(&layer);
    let told = failed(&run(&host, dir.path(), &["plugin", "deploy", &place]).await);
    assert!(told.contains("is not what its digest says"), "{told}");
    harm(&layer);
    succeeded(&run(&host, dir.path(), &["plugin", "deploy", &place]).await);
    // By its digest the manifest itself cannot be another one.
    harm(&registry.blob_file(pinned.rsplit(':').next().unwrap()));
    failed(&run(&host, dir.path(), &["plugin", "deploy", &pinned]).await);
    host.stop().await;
}
