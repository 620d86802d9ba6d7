//! One route and method as an operation of OpenAPI.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Map, Value, json};

use super::{ACCESS_TOKEN, API_KEY, Described, answers, component, examples};
use crate::ids::PluginName;
use crate::pattern;
use crate::plugins::manifest::{Auth, Idempotency, Manifest, Place, Route, VersionBy, Versioning};
use crate::plugins::schema::NAMED;

/// Deepest nesting of what is rewritten.
const DEPTH_MAX: usize = 64;

/// All operations of a manifest.
pub(super) fn all(manifest: &Manifest, mount: &str) -> Vec<Described> {
    let mut ids = BTreeSet::new();
    let mut operations = Vec::new();
    for (index, route) in manifest.routes.iter().enumerate() {
        if !route.docs.is_documented {
            continue;
        }
        for method in &route.methods {
            let mut id = id(&manifest.plugin.name, method, &route.path);
            if let Some(version) = route.version.as_ref().filter(|_| is_by_header(manifest)) {
                id = format!("{id}_{}", slug(version));
            }
            while !ids.insert(id.clone()) {
                id.push('_');
            }
            operations.push(one(manifest, mount, index, route, method, &id));
        }
    }
    operations
}

fn is_by_header(manifest: &Manifest) -> bool {
    let versioning = manifest.versioning.as_ref();
    versioning.is_some_and(|versioning| versioning.by != VersionBy::Path)
}

fn one(
    manifest: &Manifest,
    mount: &str,
    index: usize,
    route: &Route,
    method: &Method,
    id: &str,
) -> Described {
    let plugin = &manifest.plugin.name;
    let tag = route.tag.clone().or_else(|| manifest.docs.title.clone());
    let tag = tag.unwrap_or_else(|| plugin.to_string());
    let mut body = Map::new();
    body.insert("operationId".to_owned(), id.into());
    body.insert("tags".to_owned(), json!([tag]));
    if let Some(summary) = &route.summary {
        body.insert("summary".to_owned(), summary.as_str().into());
    }
    if let Some(text) = description(plugin, route) {
        body.insert("description".to_owned(), text.into());
    }
    if route.deprecation.is_some() {
        body.insert("deprecated".to_owned(), true.into());
    }
    let shown = examples::of_route(manifest, index, method);
    let parameters = parameters(manifest, route, &shown);
    if !parameters.is_empty() {
        body.insert("parameters".to_owned(), parameters.into());
    }
    if let Some(request) = request_body(plugin, route, method, &shown) {
        body.insert("requestBody".to_owned(), request);
    }
    let answers = answers::of_route(manifest, route, method, &shown);
    body.insert("responses".to_owned(), answers);
    body.insert("security".to_owned(), security(plugin, route));
    let body = Value::Object(body);
    let mut schemas = BTreeSet::new();
    used(manifest, &body, &mut schemas, 0);
    Described {
        path: format!("{mount}{}", template(&route.path, mount)),
        method: method.as_str().to_ascii_lowercase(),
        auth: route.auth,
        permissions: route.permissions.clone(),
        roles: route.policy.roles.clone(),
        scopes: route.policy.scopes.clone(),
        tag,
        version: route.version.clone(),
        ends_ms: route
            .deprecation
            .as_ref()
            .and_then(|notice| notice.sunset_ms),
        is_covered: is_covered(manifest, index, route, method),
        schemas,
        body,
    }
}

/// The pattern as OpenAPI writes it. That it may take several segments is told with the parameter.
fn template(pattern: &str, mount: &str) -> String {
    match pattern {
        "/" if !mount.is_empty() => String::new(),
        pattern => pattern.replace("{*", "{"),
    }
}

/// The operation with the names that its parameters have in another path of the same shape.
pub(super) fn renamed(body: &Value, own: &str, other: &str) -> Value {
    let mut body = body.clone();
    if own == other {
        return body;
    }
    let names = |path| pattern::parameters(path).map(|parameter| parameter.name);
    let renamed: Vec<(&str, &str)> = names(own).zip(names(other)).collect();
    let parameters = body.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if parameter["in"] != "path" {
            continue;
        }
        let name = renamed.iter().find(|(old, _)| parameter["name"] == *old);
        if let Some((_, new)) = name {
            parameter["name"] = (*new).into();
        }
    }
    body
}

/// `shop_get_orders_by_id`: the same as long as method and path are.
fn id(plugin: &PluginName, method: &Method, path: &str) -> String {
    let mut id = format!(
        "{}_{}",
        slug(plugin.as_str()),
        method.as_str().to_ascii_lowercase()
    );
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        for (index, part) in segment.split(['{', '}']).enumerate() {
            let part = part.trim_start_matches('*');
            if part.is_empty() {
                continue;
            }
            id.push_str(if index % 2 == 1 { "_by_" } else { "_" });
            id.push_str(&slug(part));
        }
    }
    id
}

fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    text.chars().map(plain).collect()
}

fn description(plugin: &PluginName, route: &Route) -> Option<String> {
    let mut text = route.docs.description.clone().unwrap_or_default();
    if !route.permissions.is_empty() {
        let names: Vec<String> = route
            .permissions
            .iter()
            .map(|permission| format!("`{plugin}:{permission}`"))
            .collect();
        let needs = format!("Needs the permission {}.", names.join(" and "));
        text = if text.is_empty() {
            needs
        } else {
            format!("{text}\n\n{needs}")
        };
    }
    if !route.policy.roles.is_empty() {
        let names: Vec<String> = route
            .policy
            .roles
            .iter()
            .map(|role| format!("`{role}`"))
            .collect();
        let needs = format!("Needs the role {}.", names.join(" or "));
        text = if text.is_empty() {
            needs
        } else {
            format!("{text}\n\n{needs}")
        };
    }
    if let Some(notice) = &route.deprecation
        && let Some(at) = notice
            .sunset_ms
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
    {
        let ends = format!("Deprecated; gone from {at} on.");
        text = if text.is_empty() {
            ends
        } else {
            format!("{text}\n\n{ends}")
        };
    }
    Some(text).filter(|text| !text.is_empty())
}

fn security(plugin: &PluginName, route: &Route) -> Value {
    let permissions = route.permissions.iter();
    let names: Vec<String> = permissions
        .map(|permission| format!("{plugin}:{permission}"))
        .chain(route.policy.scopes.iter().cloned())
        .collect();
    match route.auth {
        Auth::Public => json!([]),
        Auth::Optional => json!([{}, { ACCESS_TOKEN: [] }, { API_KEY: [] }]),
        Auth::Required => json!([{ ACCESS_TOKEN: names }, { API_KEY: names }]),
    }
}

fn parameters(manifest: &Manifest, route: &Route, shown: &examples::Shown) -> Vec<Value> {
    let plugin = &manifest.plugin.name;
    let mut all = Vec::new();
    let declared = |name: &str| {
        let mut parameters = route.contract.parameters.iter();
        parameters.find(|parameter| parameter.place == Place::Path && parameter.name == name)
    };
    for pattern::Parameter { name, is_rest } in pattern::parameters(&route.path) {
        let mut parameter = Map::new();
        parameter.insert("name".to_owned(), name.into());
        parameter.insert("in".to_owned(), "path".into());
        parameter.insert("required".to_owned(), true.into());
        let declared = declared(name);
        let schema = declared.map(|declared| with_components(plugin, &declared.schema));
        parameter.insert(
            "schema".to_owned(),
            schema.unwrap_or_else(|| json!({ "type": "string" })),
        );
        let text = declared.and_then(|declared| declared.description.clone());
        let text = text.or_else(|| {
            is_rest.then(|| "The rest of the path; may have several segments.".to_owned())
        });
        if let Some(text) = text {
            parameter.insert("description".to_owned(), text.into());
        }
        let example = shown.params.iter().find(|(known, _)| known == name);
        if let (Some((_, value)), true) = (example, declared.is_none()) {
            parameter.insert("example".to_owned(), value.as_str().into());
        }
        all.push(Value::Object(parameter));
    }
    for parameter in &route.contract.parameters {
        if parameter.place == Place::Path {
            continue;
        }
        let mut map = Map::new();
        map.insert("name".to_owned(), parameter.name.as_str().into());
        map.insert("in".to_owned(), parameter.place.to_string().into());
        if parameter.is_required {
            map.insert("required".to_owned(), true.into());
        }
        map.insert(
            "schema".to_owned(),
            with_components(plugin, &parameter.schema),
        );
        if let Some(text) = &parameter.description {
            map.insert("description".to_owned(), text.as_str().into());
        }
        all.push(Value::Object(map));
    }
    if let Some(idempotency) = route.idempotency {
        all.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": idempotency == Idempotency::Required,
            "description": "With the same key, the same request is done once.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
        }));
    }
    if let (Some(versioning), Some(version)) = (&manifest.versioning, &route.version)
        && versioning.by == VersionBy::Header
    {
        all.push(version_header(versioning, version));
    }
    all
}

fn version_header(versioning: &Versioning, version: &str) -> Value {
    let is_default = versioning.default.as_deref() == Some(version);
    json!({
        "name": versioning.header.as_str(),
        "in": "header",
        "required": !is_default,
        "description": "The version of the API.",
        "schema": { "type": "string", "const": version },
    })
}

/// Whether a request without a version gets another route of the same path and method.
fn is_covered(manifest: &Manifest, index: usize, route: &Route, method: &Method) -> bool {
    let Some(versioning) = manifest
        .versioning
        .as_ref()
        .filter(|versioning| versioning.by != VersionBy::Path)
    else {
        return false;
    };
    let rank = |version: Option<&str>| {
        let is_default = version.is_some() && version == versioning.default.as_deref();
        let place = versioning
            .versions
            .iter()
            .position(|known| Some(known.name.as_str()) == version);
        (is_default, place)
    };
    let own = rank(route.version.as_deref());
    manifest.routes.iter().enumerate().any(|(other, found)| {
        other != index
            && pattern::shape(&found.path) == pattern::shape(&route.path)
            && found.methods.contains(method)
            && rank(found.version.as_deref()) > own
    })
}

fn request_body(
    plugin: &PluginName,
    route: &Route,
    method: &Method,
    shown: &examples::Shown,
) -> Option<Value> {
    let takes_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    let contract = &route.contract;
    if !takes_body && contract.request_schema.is_none() {
        return None;
    }
    let mut media_type = Map::new();
    if let Some(schema) = &contract.request_schema {
        media_type.insert("schema".to_owned(), with_components(plugin, schema));
    }
    if let Some(example) = &shown.request {
        media_type.insert("example".to_owned(), example.clone());
    }
    let mut types: Vec<String> = contract.consumes.clone();
    if types.is_empty() {
        let is_json = contract.request_schema.is_some() || shown.request.is_some();
        types.push(if is_json { "application/json" } else { "*/*" }.to_owned());
    }
    let content: Map<String, Value> = types
        .into_iter()
        .map(|name| (name, Value::Object(media_type.clone())))
        .collect();
    Some(json!({ "required": contract.request_schema.is_some(), "content": content }))
}

/// A schema of the manifest, whose references lead to the components of a document.
pub(super) fn with_components(plugin: &PluginName, schema: &Value) -> Value {
    let mut schema = schema.clone();
    rewrite(plugin, &mut schema, 0);
    schema
}

fn rewrite(plugin: &PluginName, value: &mut Value, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(NAMED)
            {
                *reference = format!("#/components/schemas/{}", component(plugin, name));
            }
            for value in map.values_mut() {
                rewrite(plugin, value, depth + 1);
            }
        }
        Value::Array(list) => {
            for value in list {
                rewrite(plugin, value, depth + 1);
            }
        }
        _ => {}
    }
}

/// The components that a value leads to, and those that they lead to.
fn used(manifest: &Manifest, value: &Value, names: &mut BTreeSet<String>, depth: usize) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            let reference = map.get("$ref").and_then(Value::as_str);
            let name =
                reference.and_then(|reference| reference.strip_prefix("#/components/schemas/"));
            if let Some(name) = name
                && names.insert(name.to_owned())
            {
                let plugin = &manifest.plugin.name;
                let own = name.strip_prefix(&format!("{plugin}."));
                if let Some(schema) = own.and_then(|own| manifest.schemas.get(own)) {
                    used(manifest, &with_components(plugin, schema), names, depth + 1);
                }
            }
            map.values()
                .for_each(|value| used(manifest, value, names, depth + 1));
        }
        Value::Array(list) => list
            .iter()
            .for_each(|value| used(manifest, value, names, depth + 1)),
        _ => {}
    }
}
