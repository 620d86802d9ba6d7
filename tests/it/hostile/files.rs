//! Guests that ask for more files than they should be given.

use std::time::Duration;

use gantry_harness::{TestHost, guests::guest};
use serde_json::Value;

use super::neighbour_is_healthy;
use crate::manifests;

const MORE: &str = "[capabilities]\nblobs = [\"data\"]\n[limits]\nmemory = \"32MiB\"\ncpu = \"2s\"\nwall = \"10s\"";

#[tokio::test(flavor = "multi_thread")]
async fn files_are_no_more_than_their_limits_and_nothing_half_is_left() {
    let host = TestHost::build()
        .with(|config| {
            config.blobs.part_bytes = 64 << 10;
            config.blobs.buffers_bytes_max = 1 << 20;
            config.blobs.call_bytes_max = 1 << 20;
            config.blobs.object_bytes_max = 4 << 20;
            config.blobs.bytes_per_plugin_max = 6 << 20;
            config.blobs.objects_per_plugin_max = 50;
            config.blobs.uploads_per_plugin_max = 8;
        })
        .start()
        .await;
    host.deploy(&manifests::open("neighbour"), guest("hello-v1"))
        .await;
    for name in ["blobs-abuse", "kept"] {
        host.deploy(&manifests::with(name, MORE), guest("blobs-abuse"))
            .await;
    }
    let ask = async |plugin: &str, path: &str| -> Value {
        let answer = host.get(&format!("/{plugin}/{path}")).await;
        answer.assert_status(200).json()
    };
    let kept = ask("kept", "stream?name=x&count=10&bytes=100000").await;
    assert_eq!(kept["ok"]["size"], 1_000_000);
    for (path, code) in [
        ("put?name=%2Fx", "blobs.name_invalid"),
        (
            "put?name=a%2F..%2F..%2Fkept%2Fdata%2Fx",
            "blobs.name_invalid",
        ),
        ("put?name=a%5Cx", "blobs.name_invalid"),
        ("put?name=a%00x", "blobs.name_invalid"),
        ("put?kind=text%2Fplain%0D%0Ax%3A%20y", "blobs.type_invalid"),
        ("metadata?count=17&bytes=1", "blobs.metadata_invalid"),
        ("metadata?count=2&bytes=2000", "blobs.metadata_invalid"),
        ("read?bytes=1048577", "blobs.piece_too_large"),
        ("list?count=1001", "blobs.page_size_invalid"),
        ("cursor", "blobs.cursor_invalid"),
        ("long-link", "blobs.link_ttl_invalid"),
        ("stream?count=50&bytes=100000", "blobs.too_large"),
        ("lie?count=4194305&bytes=1", "blobs.too_large"),
        ("open-uploads?count=9", "blobs.too_many_uploads"),
        ("read?label=other", "capability.not_granted"),
    ] {
        assert_eq!(ask("blobs-abuse", path).await["code"], code, "{path}");
    }
    // It fills what it has, with bytes and with names, and takes nothing from others.
    assert_eq!(
        ask("blobs-abuse", "fill?name=many&count=51&bytes=1").await["code"],
        "blobs.too_many_objects"
    );
    let many = ask("blobs-abuse", "list?name=many&count=1000").await;
    assert_eq!(many["ok"]["names"].as_array().unwrap().len(), 50);
    for number in 0..50 {
        ask("blobs-abuse", &format!("delete?name=many/{number}")).await;
    }
    assert_eq!(
        ask("blobs-abuse", "stream?name=a&count=40&bytes=100000").await["ok"]["size"],
        4_000_000
    );
    assert_eq!(
        ask("blobs-abuse", "stream?name=b&count=40&bytes=100000").await["code"],
        "blobs.full"
    );
    // Again and again in the place of one that is there: what is replaced counts until it is gone.
    for _ in 0..5 {
        let again = ask("blobs-abuse", "stream?name=a&count=15&bytes=100000").await;
        assert!(
            again["ok"]["size"] == 1_500_000 || again["code"] == "blobs.full",
            "{again}"
        );
    }
    // Leaves uploads in the middle: dropped, trapped, stopped.
    assert_eq!(
        ask("blobs-abuse", "forget?name=half&bytes=300000").await["ok"],
        "dropped"
    );
    assert_eq!(
        host.get("/blobs-abuse/trap?name=half&bytes=300000")
            .await
            .status
            .as_u16(),
        502
    );
    assert_eq!(
        host.get("/blobs-abuse/spin?name=half&bytes=300000")
            .await
            .status
            .as_u16(),
        504
    );
    let handles = host.get("/blobs-abuse/open-uploads?count=1000000").await;
    assert!(handles.status.as_u16() >= 500 || handles.json::<Value>()["code"].is_string());
    assert_eq!(
        ask("blobs-abuse", "info?name=half").await["ok"],
        Value::Null
    );
    ask("blobs-abuse", "delete?name=a").await;
    let blobs = &host.app().blobs();
    let plugin = "blobs-abuse".parse().unwrap();
    let mut usage = blobs.usage_of(&plugin).await.unwrap();
    for _ in 0..200 {
        if usage == Default::default() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        usage = blobs.usage_of(&plugin).await.unwrap();
    }
    assert_eq!(usage, Default::default(), "nothing half is left");
    assert_eq!(
        ask("kept", "read?name=x&at=999999&bytes=10").await["ok"],
        1,
        "nobody else's"
    );
    neighbour_is_healthy(&host).await;
}
