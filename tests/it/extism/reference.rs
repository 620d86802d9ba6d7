//! What Extism's own host does with a module, Gantry does. What it does is kept in `tests/extism-reference`, where
//! `cargo xtask extism-reference` asks it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gantry_harness::{TestHost, guests};
use http::Method;
use serde_json::Value;

use super::manifest;

/// Where Gantry differs on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[];

#[tokio::test(flavor = "multi_thread")]
async fn a_module_does_here_what_it_does_in_extism() {
    let Some(module) = guests::extism_probe() else {
        return;
    };
    let read = |file: &str| std::fs::read(guests::root().join("tests/extism-reference").join(file));
    let cases: Vec<Value> = serde_json::from_slice(&read("cases.json").unwrap()).unwrap();
    let expected: BTreeMap<String, Value> =
        serde_json::from_slice(&read("expected.json").unwrap()).unwrap();
    assert_eq!(
        cases.len(),
        expected.len(),
        "run `cargo xtask extism-reference`"
    );
    let mut exports: Vec<&str> = cases
        .iter()
        .map(|case| case["export"].as_str().unwrap())
        .collect();
    exports.sort_unstable();
    exports.dedup();
    let host = TestHost::start().await;
    let settings = "[limits]\ncpu = \"5s\"\n[config]\ntype = \"object\"\n\
                    properties.greeting = { type = \"string\", default = \"hi\" }\n\
                    properties.empty = { type = \"string\", default = \"\" }\n";
    host.deploy(&manifest("probe", &exports, settings), module)
        .await;
    let mut differences = Vec::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let path = format!("/probe/{}", case["export"].as_str().unwrap());
        let input = case["input"].as_str().unwrap_or_default().to_owned();
        let answer = host
            .send(host.request(Method::POST, &path).body(input))
            .await;
        host.app().logs.flush().await;
        let id = answer.header("x-request-id").unwrap();
        let log = format!("/_gantry/api/v1/plugins/probe/logs?request_id={id}");
        let log = host
            .admin()
            .get(&log)
            .await
            .assert_status(200)
            .json::<Value>();
        let is_same = match &expected[name] {
            Value::String(trap) => trap == "trap" && answer.text().contains("plugin.trapped"),
            Value::Object(outcome) if outcome.contains_key("output") => {
                answer.status == 200
                    && STANDARD.encode(&answer.body) == outcome["output"].as_str().unwrap()
            }
            Value::Object(outcome) => {
                let message = outcome["error"][1].as_str().unwrap();
                let codes = ["plugin.failed", "plugin.refused", "plugin.trapped"];
                let is_error = codes.iter().any(|code| answer.text().contains(code));
                is_error && (log.to_string().contains(message) || answer.text().contains(message))
            }
            _ => false,
        };
        let is_excused = DIFFERENT.iter().any(|(excused, _)| *excused == name);
        if is_same == is_excused {
            differences.push(format!(
                "{name}: expected {}, got {} {}, log {log}",
                expected[name],
                answer.status,
                answer.text()
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
