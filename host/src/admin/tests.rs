use axum::response::IntoResponse as _;
use http::StatusCode;
use serde_json::Value;

use super::*;
use crate::plugins::{DeployError, Location, Mistake};

fn document() -> Value {
    contract()
}

fn operations(document: &Value) -> Vec<(String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (format!("{method} {path}"), operation.clone()))
    });
    operations.collect()
}

#[test]
fn every_operation_says_what_it_does_and_what_it_answers() {
    let document = document();
    let operations = operations(&document);
    assert!(operations.len() > 25, "{} operations", operations.len());
    for (name, operation) in operations {
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(
            !summary.is_empty() && !summary.ends_with('.'),
            "{name}: `{summary}`"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{name}"
        );
        let parameters = operation["parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for part in name.split('/').filter_map(|part| part.strip_prefix('{')) {
            let part = part.trim_end_matches('}');
            assert!(
                parameters
                    .iter()
                    .any(|it| it["name"] == part && it["in"] == "path"),
                "{name}: {part}"
            );
        }
    }
}

#[test]
fn the_contract_refers_only_to_what_it_has() {
    let document = document();
    let text = document.to_string();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name}");
    }
    assert!(schemas.keys().any(|name| name == "DeployedBody"));
}

#[tokio::test]
async fn an_author_is_told_every_mistake_with_its_place_and_how_to_mend_it() {
    let mistakes = vec![
        Mistake::new("unknown key `pat`")
            .at(Some(Location {
                line: 12,
                column: 3,
            }))
            .with_help("did you mean `path`?"),
        Mistake::new("the component imports `wasi:sockets/tcp`"),
    ];
    let answer = ApiError::from(DeployError::Mistakes(mistakes)).into_response();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let body = axum::body::to_bytes(answer.into_body(), 10_000)
        .await
        .unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "deploy.invalid");
    let expected = serde_json::json!([
        { "at": "plugin.toml:12:3", "detail": "unknown key `pat`", "help": "did you mean `path`?" },
        { "detail": "the component imports `wasi:sockets/tcp`" },
    ]);
    assert_eq!(problem["errors"], expected);
}

#[tokio::test]
async fn a_failure_of_the_host_tells_nothing_of_its_cause() {
    let cause = anyhow::anyhow!("disk /dev/sda1 is full");
    let answer = ApiError::from(DeployError::Host(cause)).into_response();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = axum::body::to_bytes(answer.into_body(), 10_000)
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&body).contains("sda1"));
}
