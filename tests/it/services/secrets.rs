//! Secrets: the host uses them for a plugin that never sees them, or shows them to one that said it must.

use gantry_harness::{Process, guests::guest, pack};
use serde_json::Value;

use super::remote::Remote;
use crate::manifests;

const STRIPE: &str = "sk-live-8d1f0c5e";
const PEPPER: &str = "pepper-27aa93be";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_sent_for_the_plugin_shown_only_if_declared_and_told_to_nobody_else() {
    let (remote, other) = (Remote::start().await, Remote::start().await);
    let (host, elsewhere) = (remote.address, other.address);
    let server = Process::start(&format!(
        "[services.outbound]\nallow_private = [\"{host}\", \"{elsewhere}\"]"
    ))
    .await;
    let manifest = manifests::with(
        "secrets",
        &format!(
            "[capabilities]\nhttp = [{{ host = \"{host}\" }}, {{ host = \"{elsewhere}\" }}]\n\
             [[capabilities.secrets]]\nlabel = \"stripe\"\nuse = \"inject\"\nhost = \"{host}\"\n\
             header = \"Authorization\"\nprefix = \"Bearer \"\n\
             [[capabilities.secrets]]\nlabel = \"pepper\"\nuse = \"reveal\"\n"
        ),
    );
    let bundle = pack(&manifest, &guest("secrets"), &[]);
    server
        .upload("grant=all", bundle.clone())
        .await
        .assert_status(201);
    let missing = server.get("/secrets/reveal?label=pepper").await;
    missing.assert_problem(404, "secrets.not_set");
    let without = server
        .get(&format!("/secrets/?url={}", remote.url("/pay")))
        .await;
    assert!(without.status.as_u16() >= 500, "{}", without.text());
    assert!(remote.heads().is_empty(), "not sent without its secret");
    server
        .get(&format!("/secrets/?url={}", other.url("/")))
        .await
        .assert_status(200);
    server.set_secret("secrets", "stripe", STRIPE).await;
    server.set_secret("secrets", "pepper", PEPPER).await;

    let answer = server
        .get(&format!("/secrets/?url={}", remote.url("/pay")))
        .await
        .assert_status(200);
    assert_eq!(answer.json::<Value>()["body"], "hello from afar");
    let head = remote.heads().pop().unwrap();
    assert!(
        head.contains(&format!("authorization: bearer {STRIPE}")),
        "{head}"
    );
    assert!(
        !head.contains("mine"),
        "what the plugin sets itself is replaced: {head}"
    );
    server
        .get(&format!("/secrets/?url={}", other.url("/")))
        .await
        .assert_status(200);
    // Sent on to another host, it does not go along.
    server
        .get(&format!(
            "/secrets/?url={}",
            remote.url(&format!("/go={}", other.url("/")))
        ))
        .await
        .assert_status(200);
    assert_eq!(other.heads().len(), 3);
    assert!(
        other.heads().iter().all(|head| !head.contains(STRIPE)),
        "only its own host gets it"
    );

    let revealed = server
        .get("/secrets/reveal?label=pepper")
        .await
        .assert_status(200);
    assert_eq!(revealed.json::<Value>()["value"], PEPPER);
    let first = server
        .get("/secrets/revision?label=stripe")
        .await
        .assert_status(200)
        .json::<Value>();
    let refused = server.get("/secrets/reveal?label=stripe").await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    let unknown = server.get("/secrets/reveal?label=other").await;
    assert_eq!(unknown.status, 502, "{}", unknown.text());

    server
        .set_secret("secrets", "stripe", &format!("{STRIPE}-second"))
        .await;
    let second = server
        .get("/secrets/revision?label=stripe")
        .await
        .assert_status(200)
        .json::<Value>();
    assert_ne!(first["revision"], second["revision"]);
    server
        .get(&format!("/secrets/?url={}", remote.url("/pay")))
        .await
        .assert_status(200);
    let head = remote.heads().pop().unwrap();
    assert!(
        head.contains(&format!("{STRIPE}-second")),
        "a new value counts at once: {head}"
    );

    let server = server.kill_and_restart().await;
    let revealed = server
        .get("/secrets/reveal?label=pepper")
        .await
        .assert_status(200);
    assert_eq!(revealed.json::<Value>()["value"], PEPPER);

    let listed = server
        .get("/_gantry/api/v1/plugins/secrets/secrets")
        .await
        .assert_status(200)
        .text();
    let logs = server
        .get("/_gantry/api/v1/plugins/secrets/logs")
        .await
        .assert_status(200)
        .text();
    let told = [
        refused.text(),
        listed,
        logs,
        server.log(),
        server.access_log().await,
    ];
    for (number, text) in told.iter().enumerate() {
        assert!(
            !text.contains(STRIPE) && !text.contains(PEPPER),
            "{number}: {text}"
        );
    }
    let needles = [STRIPE.as_bytes(), PEPPER.as_bytes()];
    for file in files_below(&server.data_dir()) {
        let bytes = std::fs::read(&file).unwrap();
        let holds = |needle: &&[u8]| bytes.windows(needle.len()).any(|window| window == *needle);
        assert!(
            !needles.iter().any(holds),
            "{} holds a secret as it is",
            file.display()
        );
    }
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}
