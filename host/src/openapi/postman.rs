//! A collection for Postman (and Insomnia, Bruno, Hoppscotch, which read the same) out of an OpenAPI document: format 2.1,
//! with variables for the address and the token, folders by tag, and bodies that fit.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Operation, operations, resolve, sample::sample, text};

const SCHEMA: &str = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";
/// Operations without a tag.
const OTHERS: &str = "Other";

/// The collection. `base_url` is the value that its variable begins with.
pub fn collection(document: &Value, base_url: &str) -> Value {
    let mut folders: Vec<(String, Vec<Value>)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let descriptions: BTreeMap<&str, &str> = document
        .get("tags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|tag| {
            Some((
                tag.get("name")?.as_str()?,
                tag.get("description")?.as_str()?,
            ))
        })
        .collect();
    for operation in operations(document) {
        let tag = operation
            .body
            .get("tags")
            .and_then(|tags| tags.get(0)?.as_str());
        let tag = tag.unwrap_or(OTHERS);
        let place = *places.entry(tag.to_owned()).or_insert_with(|| {
            folders.push((tag.to_owned(), Vec::new()));
            folders.len() - 1
        });
        folders[place].1.push(item(document, &operation));
    }
    let folders: Vec<Value> = folders
        .into_iter()
        .map(|(name, items)| {
            let description = descriptions.get(name.as_str()).copied().unwrap_or_default();
            json!({ "name": name, "description": description, "item": items })
        })
        .collect();
    let about = |key: &str| {
        document
            .pointer(&format!("/info/{key}"))
            .cloned()
            .unwrap_or_default()
    };
    json!({
        "info": { "name": about("title"), "description": about("description"), "schema": SCHEMA },
        "variable": [
            { "key": "baseUrl", "value": base_url.trim_end_matches('/'), "type": "string" },
            { "key": "token", "value": "", "type": "string" },
        ],
        "auth": { "type": "bearer", "bearer": [{ "key": "token", "value": "{{token}}", "type": "string" }] },
        "item": folders,
    })
}

fn item(document: &Value, operation: &Operation<'_>) -> Value {
    let method = operation.method.to_ascii_uppercase();
    let summary = text(operation.body, "summary");
    let name = if summary.is_empty() {
        operation.name()
    } else {
        summary.to_owned()
    };
    let mut request = Map::new();
    request.insert("method".to_owned(), method.into());
    request.insert(
        "description".to_owned(),
        text(operation.body, "description").into(),
    );
    let parameters = operation.parameters(document);
    let mut headers = headers(document, &parameters);
    if let Some((media_type, body)) = body(document, operation) {
        headers.insert(0, json!({ "key": "Content-Type", "value": media_type }));
        request.insert("body".to_owned(), body);
    }
    request.insert("header".to_owned(), Value::Array(headers));
    request.insert("url".to_owned(), url(document, operation, &parameters));
    if is_open(document, operation) {
        request.insert("auth".to_owned(), json!({ "type": "noauth" }));
    }
    json!({ "name": name, "request": request, "response": answers(document, operation) })
}

fn url(document: &Value, operation: &Operation<'_>, parameters: &[&Map<String, Value>]) -> Value {
    let prefix = document
        .pointer("/servers/0/url")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // An absolute address is in the variable.
    let prefix = if prefix.contains("://") {
        ""
    } else {
        prefix.trim_end_matches('/')
    };
    let path = format!("{prefix}{}", operation.path);
    let segments: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|segment| {
            match segment
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'))
            {
                Some(name) => format!(":{name}"),
                None => segment.to_owned(),
            }
        })
        .collect();
    let of = |place: &'static str| {
        parameters
            .iter()
            .filter(move |parameter| text(parameter, "in") == place)
    };
    let variables: Vec<Value> = of("path")
        .filter(|parameter| segments.contains(&format!(":{}", text(parameter, "name"))))
        .map(|parameter| entry(document, parameter))
        .collect();
    let query: Vec<Value> = of("query")
        .map(|parameter| {
            let mut entry = entry(document, parameter);
            if parameter.get("required") != Some(&Value::Bool(true)) {
                entry["disabled"] = Value::Bool(true);
            }
            entry
        })
        .collect();
    json!({
        "raw": format!("{{{{baseUrl}}}}/{}", segments.join("/")),
        "host": ["{{baseUrl}}"],
        "path": segments,
        "query": query,
        "variable": variables,
    })
}

fn headers(document: &Value, parameters: &[&Map<String, Value>]) -> Vec<Value> {
    let own = parameters
        .iter()
        .filter(|parameter| text(parameter, "in") == "header");
    let own = own.map(|parameter| {
        let mut entry = entry(document, parameter);
        if parameter.get("required") != Some(&Value::Bool(true)) {
            entry["disabled"] = Value::Bool(true);
        }
        entry
    });
    own.collect()
}

/// A parameter with a value that it could have.
fn entry(document: &Value, parameter: &Map<String, Value>) -> Value {
    let value = parameter.get("example").cloned().or_else(|| {
        let schema = parameter.get("schema")?;
        sample(schema, document)
    });
    let value = match value {
        Some(Value::String(text)) => text,
        Some(Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    };
    json!({ "key": text(parameter, "name"), "value": value, "description": text(parameter, "description") })
}

/// The first media type, JSON before others, with a body.
fn body(document: &Value, operation: &Operation<'_>) -> Option<(String, Value)> {
    let body = resolve(document, operation.body.get("requestBody")?);
    let content = body.get("content")?.as_object()?;
    let json = content
        .iter()
        .find(|(media_type, _)| media_type.contains("json"));
    let (media_type, shown) = json.or_else(|| content.iter().next())?;
    if media_type.contains('*') {
        return None;
    }
    let value = example(document, shown);
    let raw = match &value {
        Some(Value::String(text)) if !media_type.contains("json") => text.clone(),
        Some(value) => serde_json::to_string_pretty(value).unwrap_or_default(),
        None => String::new(),
    };
    let language = if media_type.contains("json") {
        "json"
    } else {
        "text"
    };
    let body = json!({ "mode": "raw", "raw": raw, "options": { "raw": { "language": language } } });
    Some((media_type.clone(), body))
}

/// The example that a media type gives, or one made of its schema.
fn example(document: &Value, media_type: &Value) -> Option<Value> {
    if let Some(value) = media_type.get("example") {
        return Some(value.clone());
    }
    let examples = media_type.get("examples").and_then(Value::as_object);
    let first = examples.and_then(|examples| examples.values().next());
    let first = first.and_then(|first| resolve(document, first).get("value"));
    first
        .cloned()
        .or_else(|| sample(media_type.get("schema")?, document))
}

/// Answers that are shown beside a request: those that have an example.
fn answers(document: &Value, operation: &Operation<'_>) -> Vec<Value> {
    let answers = operation.body.get("responses").and_then(Value::as_object);
    let shown = answers
        .into_iter()
        .flatten()
        .filter_map(|(status, answer)| {
            let code: u16 = status.parse().ok()?;
            let answer = resolve(document, answer);
            let content = answer.get("content")?.as_object()?;
            let (media_type, shown) = content.iter().next()?;
            if !media_type.contains("json") || code >= 400 {
                return None;
            }
            let body = serde_json::to_string_pretty(&example(document, shown)?).ok()?;
            Some(json!({
                "name": answer.get("description").cloned().unwrap_or_default(),
                "code": code,
                "header": [{ "key": "Content-Type", "value": media_type }],
                "body": body,
            }))
        });
    shown.collect()
}

fn is_open(document: &Value, operation: &Operation<'_>) -> bool {
    let security = operation
        .body
        .get("security")
        .or_else(|| document.get("security"));
    let Some(list) = security.and_then(Value::as_array) else {
        return true;
    };
    list.is_empty()
}
