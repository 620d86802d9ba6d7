//! What the routes of a plugin promise, as OpenAPI 3.1: operations with parameters, bodies, answers, errors and examples,
//! made of the manifest. Who may see which is decided by whoever asks; nothing here runs per request.

mod accounts;
mod answers;
mod examples;
mod operation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::auth::Principal;
use crate::ids::{Permission, PluginName, RoleName};
use crate::openapi::failures;
use crate::pattern;
use crate::plugins::access;
use crate::plugins::manifest::{Auth, Manifest, VersionBy};

pub use accounts::{ACCOUNTS, Accounts, without_accounts};
pub use examples::{Mock, mock_of, success};

/// The version of OpenAPI that documents are written in.
const OPENAPI: &str = "3.1.1";
/// How documents call access tokens.
pub const ACCESS_TOKEN: &str = "access_token";
/// How documents call API keys.
pub const API_KEY: &str = "api_key";

/// What one version of a plugin promises.
#[derive(Debug)]
pub struct Description {
    pub plugin: PluginName,
    pub title: String,
    /// Of the code.
    pub version: String,
    pub text: Option<String>,
    /// In the order of the manifest.
    pub operations: Vec<Described>,
    /// By tag.
    tags: BTreeMap<String, String>,
    /// Components of the document that operations refer to.
    schemas: Map<String, Value>,
}

/// One operation: a method on a path.
#[derive(Debug)]
pub struct Described {
    /// With the mount: `/shop/orders/{id}`.
    pub path: String,
    /// Small letters.
    pub method: String,
    pub auth: Auth,
    /// The caller needs all of them.
    pub permissions: Vec<Permission>,
    /// The caller needs one of them, if there are any.
    pub roles: Vec<RoleName>,
    /// The caller's credential needs all of them.
    pub scopes: Vec<String>,
    pub tag: String,
    /// The version of the API.
    pub version: Option<String>,
    /// From when on it is gone, in milliseconds since 1970.
    pub ends_ms: Option<i64>,
    /// Whether another version has it under the same path, and requests without a version get that one.
    is_covered: bool,
    /// Names of the schemas that it uses, directly or by others.
    schemas: BTreeSet<String>,
    body: Value,
}

/// Which operations of which plugins a document has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    pub plugin: Option<String>,
    /// A version of APIs.
    pub version: Option<String>,
    pub tag: Option<String>,
}

/// The head of a document.
#[derive(Debug, Clone)]
pub struct About {
    pub title: String,
    pub version: String,
    pub description: String,
}

impl Description {
    /// What a manifest promises to those who find the plugin at this mount.
    pub fn of(manifest: &Manifest, mount: &str) -> Self {
        let plugin = manifest.plugin.name.clone();
        let title = manifest.docs.title.clone();
        let description = manifest.docs.description.clone();
        let schemas = manifest.schemas.iter().map(|(name, schema)| {
            let name = component(&plugin, name);
            (name, operation::with_components(&plugin, schema))
        });
        Self {
            title: title.unwrap_or_else(|| plugin.to_string()),
            version: manifest.plugin.version.to_string(),
            text: description.or_else(|| manifest.plugin.description.clone()),
            operations: operation::all(manifest, mount),
            tags: manifest.docs.tags.clone(),
            schemas: schemas.collect(),
            plugin,
        }
    }
}

impl Described {
    /// Whether the gateway lets this caller use it. What it refuses for a condition, it refuses for the request.
    pub fn is_for(&self, plugin: &PluginName, caller: Option<&Principal>) -> bool {
        let caller = caller.filter(|_| self.auth != Auth::Public);
        access::rules_of_callers(self.auth, &self.permissions, &self.roles, &self.scopes)
            .all(|rule| rule.allows(plugin, caller))
    }
}

impl Selection {
    /// Whether it asks for the plugin of this name.
    pub fn has_plugin(&self, name: &PluginName) -> bool {
        self.plugin
            .as_ref()
            .is_none_or(|plugin| plugin == name.as_str())
    }

    fn has(&self, operation: &Described) -> bool {
        let is_version = match (&self.version, &operation.version) {
            (None, _) => !operation.is_covered,
            (Some(wanted), Some(version)) => wanted == version,
            (Some(_), None) => true,
        };
        is_version && self.tag.as_ref().is_none_or(|tag| *tag == operation.tag)
    }
}

/// The document of what these plugins promise, as far as it is asked for and `is_shown`.
pub fn document<'a>(
    about: &About,
    plugins: impl IntoIterator<Item = &'a Description>,
    selection: &Selection,
    is_shown: impl Fn(&Description, &Described) -> bool,
) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let mut by_shape: BTreeMap<String, String> = BTreeMap::new();
    let mut schemas = Map::new();
    let mut tags: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for plugin in plugins
        .into_iter()
        .filter(|plugin| selection.has_plugin(&plugin.plugin))
    {
        for operation in &plugin.operations {
            if !selection.has(operation) || !is_shown(plugin, operation) {
                continue;
            }
            // Paths that differ in the names of parameters only are the same path.
            let shape = pattern::shape(&operation.path);
            let path = by_shape
                .entry(shape)
                .or_insert_with(|| operation.path.clone());
            let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
            let body = operation::renamed(&operation.body, &operation.path, path);
            if item.get(&operation.method).is_none() {
                item[&operation.method] = body;
            }
            let text = plugin.tags.get(&operation.tag).or(plugin.text.as_ref());
            let text = text.filter(|_| {
                plugin.tags.contains_key(&operation.tag) || operation.tag == plugin.title
            });
            let known = tags.entry(&operation.tag).or_default();
            *known = known.or(text.map(String::as_str));
            for name in &operation.schemas {
                if let Some(schema) = plugin.schemas.get(name) {
                    schemas.insert(name.clone(), schema.clone());
                }
            }
        }
    }
    schemas.insert("Problem".to_owned(), failures::problem_schema());
    let tags: Vec<Value> = tags
        .into_iter()
        .map(|(name, text)| match text {
            Some(text) => json!({ "name": name, "description": text }),
            None => json!({ "name": name }),
        })
        .collect();
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": about.title,
            "version": about.version,
            "description": about.description,
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": answers::headers(),
            "securitySchemes": {
                ACCESS_TOKEN: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An access token of the login, or an API key.",
                },
                API_KEY: { "type": "apiKey", "in": "header", "name": "X-API-Key" },
            },
        },
    })
}

/// What a manifest promises, without its mount and whatever nobody sees: for comparing versions of a plugin with one another.
/// What is gone by `now_ms` promises nothing.
pub fn promise(manifest: &Manifest, now_ms: i64) -> Value {
    let description = Description::of(manifest, "");
    let about = About {
        title: description.title.clone(),
        version: description.version.clone(),
        description: String::new(),
    };
    let is_left = |operation: &Described| operation.ends_ms.is_none_or(|ends_ms| ends_ms > now_ms);
    let by_header = manifest
        .versioning
        .as_ref()
        .filter(|versioning| versioning.by != VersionBy::Path);
    let Some(versioning) = by_header else {
        let all = Selection::default();
        return document(&about, [&description], &all, |_, operation| {
            is_left(operation)
        });
    };
    // One document cannot have two operations on the same path: each version gets a prefix that no path has.
    let mut whole = document(
        &about,
        [&description],
        &Selection::default(),
        |_, operation| operation.version.is_none() && is_left(operation),
    );
    for version in &versioning.versions {
        let selection = Selection {
            version: Some(version.name.clone()),
            ..Selection::default()
        };
        let part = document(&about, [&description], &selection, |_, operation| {
            operation.version.is_some() && is_left(operation)
        });
        let paths = part.get("paths").and_then(Value::as_object).cloned();
        for (path, item) in paths.unwrap_or_default() {
            whole["paths"][format!("/~{}{path}", version.name)] = item;
        }
        let schemas = part
            .pointer("/components/schemas")
            .and_then(Value::as_object)
            .cloned();
        for (name, schema) in schemas.unwrap_or_default() {
            whole["components"]["schemas"][name] = schema;
        }
    }
    whole
}

/// The name of a plugin's schema among those of all.
fn component(plugin: &PluginName, name: &str) -> String {
    format!("{plugin}.{name}")
}
