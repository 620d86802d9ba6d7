//! Login and accounts in the document of an API: they are the host's, and front ends need them like any other route.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::plugins::describe::Selection;

/// The name of their group.
pub const ACCOUNTS: &str = "Accounts";

/// Paths and schemas of login and accounts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Accounts(Arc<Value>);

impl Accounts {
    /// Made of their own contract, whose paths begin at this mount.
    pub fn of(contract: &Value, mount: &str) -> Self {
        Self(Arc::new(part(contract, mount)))
    }

    /// Adds them to a document, if this part of it has them: not that of one plugin or one version.
    pub fn add_to(&self, document: &mut Value, selection: &Selection) {
        // Pages choose from these, whichever is chosen now.
        document["x-gantry-host-tags"] = json!([ACCOUNTS]);
        let is_chosen = selection.tag.as_ref().is_none_or(|tag| tag == ACCOUNTS);
        if selection.plugin.is_some() || selection.version.is_some() || !is_chosen {
            return;
        }
        for pointer in ["/paths", "/components/schemas"] {
            let more = self.0.pointer(pointer).and_then(Value::as_object);
            let all = document.pointer_mut(pointer).and_then(Value::as_object_mut);
            if let (Some(all), Some(more)) = (all, more) {
                all.extend(more.clone());
            }
        }
        if let Some(tags) = document.get_mut("tags").and_then(Value::as_array_mut) {
            tags.push(json!({ "name": ACCOUNTS, "description": "Log in, and look after one's own account." }));
        }
    }
}

/// Takes login and accounts out of a document, for whoever compares it with one that cannot have them.
pub fn without_accounts(document: &mut Value) {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let Some(paths) = paths else { return };
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        item.retain(|_, operation| operation["tags"] != json!([ACCOUNTS]));
    }
    paths.retain(|_, item| item.as_object().is_none_or(|item| !item.is_empty()));
}

/// The contract as a part of a larger document: paths from the root, schemas with a prefix, one tag.
fn part(contract: &Value, mount: &str) -> Value {
    let prefix = "#/components/schemas/";
    let text = contract
        .to_string()
        .replace(prefix, &format!("{prefix}accounts."));
    let contract: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut paths = Map::new();
    let own = contract.get("paths").and_then(Value::as_object);
    for (path, item) in own.into_iter().flatten() {
        let mut item = item.clone();
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if let Some(operation) = operation.as_object_mut() {
                operation.insert("tags".to_owned(), json!([ACCOUNTS]));
                if let Some(Value::String(id)) = operation.get_mut("operationId") {
                    *id = format!("accounts_{id}");
                }
                operation.entry("security").or_insert_with(|| json!([]));
                let answers = operation
                    .get_mut("responses")
                    .and_then(Value::as_object_mut);
                for answer in answers.into_iter().flat_map(Map::values_mut) {
                    if let Some(answer) = answer.as_object_mut() {
                        answer.entry("description").or_insert_with(|| "".into());
                    }
                }
                // Pages have cookies for this; a document that is tried out has tokens.
                let security = operation.get_mut("security").and_then(Value::as_array_mut);
                if let Some(security) = security {
                    security.retain(|one| one.get("cookie").is_none());
                }
            }
        }
        let path = if path == "/" {
            String::new()
        } else {
            path.clone()
        };
        paths.insert(format!("{mount}{path}"), item);
    }
    let schemas = contract
        .pointer("/components/schemas")
        .and_then(Value::as_object);
    let schemas: Map<String, Value> = schemas
        .into_iter()
        .flatten()
        .map(|(name, schema)| (format!("accounts.{name}"), schema.clone()))
        .collect();
    json!({ "paths": paths, "components": { "schemas": schemas } })
}
