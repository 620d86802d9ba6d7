//! Tokens for people without an account.

use gantry_harness::{TestHost, guests::guest};
use serde_json::Value;

use crate::manifests;

async fn ask(host: &TestHost, path: &str) -> Value {
    host.get(path).await.assert_status(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_its_plugin_and_purpose_until_it_ends_and_after_a_restart() {
    let host = TestHost::start().await;
    for name in ["ann", "bob"] {
        host.deploy(&manifests::open(name), guest("tokens")).await;
    }
    let token = ask(&host, "/ann/sign?purpose=manage&subject=reservation-7").await["ok"]
        .as_str()
        .unwrap()
        .to_owned();
    let verify = |plugin: &str, purpose: &str, token: &str| {
        format!("/{plugin}/verify?purpose={purpose}&token={token}")
    };
    assert_eq!(
        ask(&host, &verify("ann", "manage", &token)).await["ok"],
        "reservation-7"
    );
    let mut altered = token.clone().into_bytes();
    altered[12] = if altered[12] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    for (what, path) in [
        ("another plugin", verify("bob", "manage", &token)),
        ("another purpose", verify("ann", "cancel", &token)),
        ("altered", verify("ann", "manage", &altered)),
        (
            "cut off",
            verify("ann", "manage", &token[..token.len() - 1]),
        ),
        ("nothing", verify("ann", "manage", "")),
    ] {
        assert_eq!(ask(&host, &path).await["code"], "token.invalid", "{what}");
    }
    let short = ask(&host, "/ann/sign?purpose=manage&subject=x&ttl_ms=1").await["ok"]
        .as_str()
        .unwrap()
        .to_owned();
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    assert_eq!(
        ask(&host, &verify("ann", "manage", &short)).await["code"],
        "token.expired"
    );
    let host = host.restart().await;
    assert_eq!(
        ask(&host, &verify("ann", "manage", &token)).await["ok"],
        "reservation-7"
    );
}
